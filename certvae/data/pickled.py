"""Reads a pickle as data: plain values and numpy's arrays, and nothing in it can run."""

import io
import pickle
import pickletools
from typing import Any

_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
_BROKEN = (
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    EOFError,
    ArithmeticError,
    MemoryError,
)


def plain_dict(content: bytes) -> dict[str, Any]:
    """The dict that a pickle holds, with byte strings as keys decoded; nothing in it can run.

    It is walked once before: a cut one, or one that asks for more memory than it has bytes, is not unpickled.

    Raises:
        ValueError: not a pickle of a dict, cut off, or one that asks for anything but numpy's arrays.
    """
    try:
        for code, number, _ in pickletools.genops(content):
            if code.name == "LONG_BINPUT" and isinstance(number, int) and number > len(content):
                raise ValueError("a memo larger than the file")
        value = _Plain(io.BytesIO(content), encoding="bytes").load()
        return {_text(key): item for key, item in value.items()}
    except _BROKEN as reason:
        raise ValueError(f"not a pickle of plain data: {reason}") from reason


class _Plain(pickle.Unpickler):
    """Builds plain data and numpy arrays, and calls nothing else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in _NAMES:
            raise ValueError(f"it asks to run '{module_name}.{global_name}'")
        return super().find_class(module_name, global_name)


def _text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else key
