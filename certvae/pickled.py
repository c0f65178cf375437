"""Plain data out of a pickle: read, and never run.

CIFAR's Python archives are pickles, and a pickle is a program: unpickling one from a stranger runs what the stranger
wants. Here `pickletools` cuts the pickle into its opcodes, which executes nothing, and this reader rebuilds the values
on a stack of its own. It knows the three calls by which numpy writes an array of bytes; a pickle that names anything
else is refused before a byte of it matters.

Enough for protocols 2 to 4 with dicts, lists, tuples, texts, whole numbers and uint8 arrays.
"""

import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

_ARRAY = frozenset({"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"})
_NAMES = _ARRAY | {"numpy ndarray", "numpy dtype", "_codecs encode"}
_UINT8 = ("u1", "|u1")
_MARK = object()
_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES"}
    | {"BINBYTES", "BINBYTES8", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


class NotPlain(Exception):
    """A pickle that is broken, or holds more than plain data."""


@dataclass(frozen=True)
class _Name:
    text: str


class _Built:
    """A numpy object between the call that makes it and the state that fills it."""

    value: np.ndarray | None = None


def plain_dict(content: bytes) -> dict[str, Any]:
    """The dict that a pickle holds, with uint8 arrays as arrays.

    Raises:
        NotPlain: not a pickle of a dict, cut off, or one that asks for anything but numpy's array constructor.
    """
    reader = _Reader()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            reader.step(opcode.name, argument)
        (value,) = reader.stack
        return {_text(key): item.value if isinstance(item, _Built) else item for key, item in value.items()}
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as reason:
        raise NotPlain(f"not a pickle of plain data: {reason}") from reason


class _Reader:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self.stack.append(_CONSTANTS[name])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                self.stack.append(_EMPTY[name]())
            case "MARK":
                self.stack.append(_MARK)
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo[argument])
            case _:
                self.combine(name, argument)

    def combine(self, name: str, argument: Any) -> None:
        match name:
            case "APPEND" | "APPENDS":
                items = self.popped(1 if name == "APPEND" else None)
                self.stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = self.popped(2 if name == "SETITEM" else None)
                self.stack[-1].update(zip(items[::2], items[1::2], strict=True))
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = self.popped(None if name == "TUPLE" else int(name[-1]))
                self.stack.append(tuple(items))
            case "GLOBAL":
                self.stack.append(_allowed(argument))
            case "STACK_GLOBAL":
                self.stack.append(_allowed(" ".join(self.popped(2))))
            case "REDUCE":
                called, arguments = self.popped(2)
                self.stack.append(_called(called, arguments))
            case "BUILD":
                (state,) = self.popped(1)
                _fill(self.stack[-1], state)
            case _ if name in _LITERALS:
                self.stack.append(argument)
            case _:
                raise NotPlain(f"opcode {name} is not one of plain data")

    def popped(self, count: int | None) -> list[Any]:
        """The last `count` values, or those above the last mark."""
        if count is None:
            count = self.stack[::-1].index(_MARK)
            del self.stack[-count - 1]
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items


def _allowed(name: str) -> _Name:
    if name not in _NAMES:
        raise NotPlain(f"it asks to run {name.replace(' ', '.', 1)!r}")
    return _Name(name)


def _called(called: Any, arguments: tuple[Any, ...]) -> Any:
    if isinstance(called, _Name) and called.text in _ARRAY:
        return _Built()
    if called == _Name("numpy dtype"):
        if arguments[0] not in _UINT8:
            raise NotPlain(f"an array of {arguments[0]!r} instead of bytes")
        return _Built()
    if called == _Name("_codecs encode"):
        return arguments[0].encode("latin-1")
    raise NotPlain(f"it calls {called!r}")


def _fill(built: Any, state: tuple[Any, ...]) -> None:
    """The state of an array: (version, shape, dtype, is Fortran order, bytes); that of uint8 says nothing new."""
    if not isinstance(built, _Built):
        raise NotPlain(f"it sets the state of {built!r}")
    if len(state) == 5:
        _, shape, _, fortran, content = state
        raw = content.encode("latin-1") if isinstance(content, str) else content
        built.value = np.frombuffer(raw, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


def _text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else key
