"""The MLflow view of a store: it may be deleted, and is made anew by one call."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certvae.tracking.ledger import Ledger, rebuild

__all__ = ["Ledger", "rebuild"]


def __getattr__(name: str) -> Any:
    """The door opens late: nobody who asks for something else in this room reads all of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from certvae.tracking import ledger  # noqa: PLC0415

    return getattr(ledger, name)
