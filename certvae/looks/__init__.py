"""Looks at certify rows: who opened them, and the bounds that hold together at the number of openings so far."""

from certvae.looks.register import Look, Register
from certvae.looks.view import alone, claims_of, sentence, together

__all__ = ["Look", "Register", "alone", "claims_of", "sentence", "together"]
