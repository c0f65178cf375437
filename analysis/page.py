"""The report as one HTML file, and tables as CSV, Markdown and LaTeX.

No script, nothing fetched, every word of a store escaped, pictures and downloads inside. The content policy allows the
one style sheet by its digest and pictures from the file itself, and nothing else, so the page works from a disk and
inside a tracker's frame, and a hostile name in a store stays text.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .table import Table, clean

HERE = Path(__file__).parent
MOST_BYTES = 300_000  # a larger table is not put into the page a second time for download
SCALE = 0.68  # CSS pixels per pixel of a picture: text in it comes out as large as that of tables
LONG = 48  # letters; a longer cell may break into lines
_KINDS = {"csv": ("CSV", "text/csv"), "md": ("Markdown", "text/markdown"), "tex": ("LaTeX", "application/x-tex")}
_SYMBOL = re.compile(r"\b([A-Z])_([A-Za-z0-9.]+)")
_ORIGIN = ("study", "config", "split")
_FORMULA = ("=", "+", "-", "@")
LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "−": "$-$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "·": r"$\cdot$",
    "–": "--",
}
_LATEX = str.maketrans(LATEX)
_MARKDOWN = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_{}[]<>#|!"})


@dataclass(frozen=True, eq=False)
class Plot:
    """A picture ready for the page and for files.

    Args:
        name: file name without ending.
        alt: what it shows, in words.
        title: the figure's own title.
        caption: split, n and tau, as in the files.
        inline: PNG on a transparent ground, without title and caption, which the page sets as text.
        files: {ending: bytes} that lie beside the page.
        photo: it shows photographs, whose colours must not be turned around in the dark.
    """

    name: str
    alt: str
    title: str
    caption: str
    inline: bytes
    files: Mapping[str, bytes]
    photo: bool = False

    @property
    def width(self) -> int:
        """CSS pixels."""
        return round(SCALE * int.from_bytes(self.inline[16:20], "big"))  # where a PNG says how wide it is

    @property
    def source(self) -> str:
        """The picture as an address."""
        return _data("image/png", self.inline)


@dataclass(frozen=True, eq=False)
class Section:
    """A heading, words, and tables and pictures in order."""

    name: str
    title: str
    words: tuple[str, ...]
    blocks: tuple[Table | Plot, ...]


@dataclass(frozen=True)
class Claim:
    """One large number at the top: what, how many, and the small print."""

    what: str
    value: str
    remark: str


class Download(NamedTuple):
    """A file beside the page; its text is an address in the page as well, unless it is too large."""

    name: str
    label: str
    href: str | None


def page(
    title: str,
    lead: Sequence[str],
    warnings: Sequence[str],
    claims: Sequence[Claim],
    sections: Sequence[Section],
    footer: Mapping[str, str],
) -> str:
    """The whole file."""
    style = (HERE / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    environment.globals.update(parts=parts, downloads=downloads, long=LONG)
    environment.tests["picture"] = lambda block: isinstance(block, Plot)
    return environment.get_template("report.html.j2").render(
        title=title,
        lead=lead,
        warnings=warnings,
        claims=claims,
        sections=sections,
        footer=footer,
        style=style,
        policy=policy,
    )


def parts(words: str) -> list[tuple[str, str, str]]:
    """Words cut at symbols: (words before it, its letter, its subscript); the last one has no symbol."""
    found = [*_SYMBOL.split(clean(words)), "", ""]
    return list(zip(found[0::3], found[1::3], found[2::3], strict=True))


def downloads(table: Table) -> list[Download]:
    """The files of a table, for the page."""
    files = ((*_KINDS[ending], f"{table.name}.{ending}", text.encode()) for ending, text in bundle(table).items())
    return [
        Download(name, label, _data(kind, data) if len(data) <= MOST_BYTES else None)
        for label, kind, name, data in files
    ]


def csv(table: Table) -> str:
    """All digits of the shown columns, and the notes in a last column, so that a line says where it comes from."""
    names = [name for name in _ORIGIN if name in table.frame] + [column.name for column in table.columns]
    frame = table.frame[list(dict.fromkeys(names))].assign(provenance="; ".join(table.notes[:1]))
    words = frame.select_dtypes(include=["object", "string"]).columns
    return frame.assign(**{name: frame[name].map(_harmless) for name in words}).to_csv(index=False, lineterminator="\n")


def markdown(table: Table) -> str:
    """A pipe table under its title, with the notes below."""
    lines = [
        [column.heading.translate(_MARKDOWN) for column in table.columns],
        [":--" if column.form == "text" else "--:" for column in table.columns],
        *([cell.translate(_MARKDOWN) for cell in line] for line in table.texts()),
    ]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n".join(f"- {note.translate(_MARKDOWN)}" for note in table.notes)
    return f"### {table.title.translate(_MARKDOWN)}\n\n{body}\n\n{notes}\n"


def latex(table: Table) -> str:
    """A booktabs table float."""
    cells = [[cell.translate(_LATEX) for cell in line] for line in table.texts()]
    headings = [_latex_heading(column.heading) for column in table.columns]
    notes = " ".join(f"{note[:1].upper()}{note[1:]}." for note in table.notes)
    return (
        pd.DataFrame(cells, columns=range(len(headings)))
        .style.hide(axis="index")
        .format_index(lambda number: headings[number], axis="columns")
        .to_latex(
            column_format="".join("l" if column.form == "text" else "r" for column in table.columns),
            caption=f"{table.title}. {notes}".translate(_LATEX),
            position_float="centering",
            hrules=True,
        )
    )


def bundle(table: Table) -> dict[str, str]:
    """{file ending: text} of the formats that are written beside the report."""
    return {"csv": csv(table), "md": markdown(table), "tex": latex(table)}


def _data(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _latex_heading(heading: str) -> str:
    return "".join(words.translate(_LATEX) + _latex_symbol(letter, tail) for words, letter, tail in parts(heading))


def _latex_symbol(letter: str, tail: str) -> str:
    return rf"${letter}_{{\mathrm{{{tail}}}}}$" if tail else ""


def _harmless(value: object) -> object:
    """A text that a spreadsheet would run as a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
