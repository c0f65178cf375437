"""Watching a training loop of somebody else's: a monitor, what it finds, and callbacks of two libraries."""

from certvae.monitor.findings import Finding, Observation
from certvae.monitor.watching import Monitor

__all__ = ["Finding", "Monitor", "Observation"]
