"""Looks at certify rows: who opened them, and the bounds that hold together at the number of openings so far."""

from certvae.looks.register import Look, Register
from certvae.looks.view import sentence, together, warnings

__all__ = ["Look", "Register", "sentence", "together", "warnings"]
