"""The reader of bundles: a claim computed again from pixels, with certificate, words and torch; no training."""

from certvae.verifier.bundle import Bundle, opened
from certvae.verifier.checks import Verified, verify

__all__ = ["Bundle", "Verified", "opened", "verify"]
