"""The MLflow view of a store: it may be deleted, and is made anew by one call."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certvae.tracking.ledger import Ledger, rebuild

__all__ = ["Ledger", "rebuild"]


def __getattr__(name: str) -> Any:
    """The door opens late: nobody who asks for something else in this room reads all of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("certvae.tracking.ledger"), name)
