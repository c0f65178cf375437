"""What `--help` says of the fields of a spec: the text below each in the source, in lines as wide as the terminal.

tyro finds these texts too, but breaks them where the source does, since it joins lines that are still indented.
"""

import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any


def tell(spec: Any) -> None:
    """Gives the fields of a spec, and of the specs in it, their texts, where tyro looks first: as metadata `help`."""
    known = dict(_written(type(spec)))
    for field in dataclasses.fields(spec):
        if field.name in known:
            field.metadata = MappingProxyType({**field.metadata, "help": known[field.name]})
        if dataclasses.is_dataclass(value := getattr(spec, field.name)):
            tell(value)


def _written(kind: type) -> Iterator[tuple[str, str]]:
    """(name, text) of the fields of a class that have one; none where its source is not at hand."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):  # it is in no file, or in none that has a text: a frozen program
        return
    lines = ast.parse(textwrap.dedent(source)).body[0]
    for field, below in itertools.pairwise(getattr(lines, "body", [])):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())
