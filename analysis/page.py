"""Writes the report as one HTML file, and its tables as CSV, Markdown and LaTeX.

Nothing is fetched, every word of a store is escaped, pictures and downloads are inside. The content policy allows one
style sheet and one script by their digests, and nothing else, so the page works from a disk and inside a tracker's
frame, and a hostile name in a store stays text. Without its script the page shows the view that it was asked for.
"""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .figures.panels import Entry, Panel
from .live import shown
from .opening import QUESTION, Opening
from .table import Table, clean
from .views import View

HERE = Path(__file__).parent
MOST_BYTES = 60_000  # a larger table is not put into the page a second time for download
LONG = 48  # letters; a longer cell may break into lines
LIVE = ("answers", "apart")
"""Tables that follow the thresholds."""
ORDER = "ranking"
"""One that does so where the script can judge the configs of a search."""
OPEN = (*LIVE, ORDER, "paired_differences", "beside_studies", "differences_of_studies")
"""Tables that a reader sees without asking; all others are folded."""
LEAST_HEIGHT, LINE_HEIGHT = 190, 26  # pixels of a panel, and of a line of one that lists things
_KINDS = {"csv": ("CSV", "text/csv"), "md": ("Markdown", "text/markdown"), "tex": ("LaTeX", "application/x-tex")}
_SYMBOL = re.compile(r"\b([A-Z])_([A-Za-z0-9.]+)")
_ORIGIN = ("study", "config", "split")
THRESHOLDS = {
    "info_share": "least I_T / log K",
    "top1_margin": "least top-1 margin",
    "high_margin_share": "least share of sharp rows",
    "usage_share": "most usage KL / log K",
    "min_mass_share": "least min mass × K",
}
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
        files: {ending: bytes} that lie beside the page.
        panels, key: what the page draws.
        photos: (label, PNG) of rows of photographs, in place of panels.
    """

    name: str
    alt: str
    title: str
    caption: str
    files: Mapping[str, bytes]
    panels: tuple[Panel, ...] = ()
    key: tuple[Entry, ...] = ()
    photos: tuple[tuple[str, bytes], ...] = ()

    @property
    def sources(self) -> list[tuple[str, str]]:
        """The photographs as addresses."""
        return [(label, _data("image/png", data)) for label, data in self.photos]


@dataclass(frozen=True, eq=False)
class Section:
    """A heading, words, and tables and pictures in order."""

    name: str
    title: str
    words: tuple[str, ...]
    blocks: tuple[Table | Plot, ...]


class Download(NamedTuple):
    """A file beside the page; its text is an address in the page as well, unless it is too large."""

    name: str
    label: str
    href: str | None


class Slider(NamedTuple):
    """A threshold of the page: its name, its words, its range and where it stands; None is no bound."""

    name: str
    label: str
    low: float
    high: float
    step: float
    value: float | None
    optional: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Page:
    """All that a page shows.

    Args:
        title: of the window.
        kicker: which study, data and rows: one line above the question.
        opening: the answers of each study.
        warnings: what must be known before any number.
        sections: the rest.
        provenance: name -> words, at the end.
        sliders: the thresholds that may be moved; none without rows.
        rows: what the script judges; see `live.payload`.
        origins: captions that say nothing new at a table or a picture, since the page says them once.
        versions: of packages; left out of captions for the same reason.
        subject: data and teacher as titles name them; left out of these where the kicker says it.
    """

    title: str
    kicker: str
    opening: tuple[tuple[str, Opening], ...]
    sections: Sequence[Section]
    provenance: Mapping[str, str]
    warnings: Sequence[str] = ()
    sliders: Sequence[Slider] = ()
    rows: Mapping[str, Any] | None = None
    origins: Sequence[str] = ()
    versions: str = ""
    subject: str = ""

    @property
    def live(self) -> tuple[str, ...]:
        """The tables that follow its thresholds."""
        return () if not self.rows else (*LIVE, ORDER) if self.rows["tried"] else LIVE

    def headed(self, title: str) -> str:
        """The title of a table or a picture without what the page is about as a whole."""
        return title.removesuffix(f" — {self.subject}") if self.subject else title

    def notes(self, notes: Sequence[str]) -> list[str]:
        """What a table or a picture says of itself that the page has not said."""
        told = (without(note, self.versions) for note in notes)
        return [note for note in told if note and note not in self.origins]


def without(caption: str, versions: str) -> str:
    """A caption without the versions of packages, which a page says once."""
    return " · ".join(part for part in caption.split(" · ") if part != versions)


def page(given: Page) -> str:
    """The HTML file of a page."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("report.css", "live.js"))
    source = f"script-src '{_digest(script)}'; " if given.rows else ""
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; {source}base-uri 'none'; form-action 'none'"
    )
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    environment.globals.update(parts=parts, downloads=downloads, long=LONG, open=OPEN, height=height)
    environment.tests["picture"] = lambda block: isinstance(block, Plot)
    template = environment.get_template("report.html.j2")
    return template.render(
        page=given, style=style, script=script, policy=policy, rows=_embedded(given.rows), question=QUESTION
    )


def sliders(view: View, rows: pd.DataFrame, tried: pd.DataFrame | None) -> list[Slider]:
    """Thresholds of a page, with ranges that hold its rows and the view that it was asked for.

    Args:
        rows: what the page is about.
        tried: guard rows of a search, whose configs bounds on PSNR rank; None where there is one config.
    """
    stands = shown(view)
    psnr = (rows if tried is None else tried)["psnr_01"].dropna()
    low, high = (np.floor(psnr.min()) - 1, np.ceil(psnr.max()) + 1) if len(psnr) else (0.0, 30.0)
    top = round(float(max(rows["margin"].max(skipna=True), view.tau, 0.5)) + 0.05, 2) if len(rows) else 1.0
    most = min(top, float(np.log(rows["classes"].min())) - 0.01)
    bounds = [
        Slider("psnr_floor", "PSNR floor, dB", float(low), float(high), 0.1, stands["psnr_floor"], optional=True),
        Slider("psnr_drop", "PSNR drop, dB", -0.1, 10.0, 0.1, stands["psnr_drop"], optional=True),
    ]
    found = [Slider("tau", "tau, nats", 0.0, most, 0.01, view.tau), *([] if tried is None else bounds)]
    return found + [Slider(name, label, 0.0, 1.0, 0.01, stands[name]) for name, label in THRESHOLDS.items()]


def height(panel: Panel) -> int:
    """The height of a panel on the page, pixels."""
    return max(LEAST_HEIGHT, LINE_HEIGHT * len(panel.y_ticks))


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
    """The table in Markdown: a pipe table under its title, with the notes below."""
    lines = [
        [column.heading.translate(_MARKDOWN) for column in table.columns],
        [":--" if column.form == "text" else "--:" for column in table.columns],
        *([cell.translate(_MARKDOWN) for cell in line] for line in table.texts()),
    ]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n".join(f"- {note.translate(_MARKDOWN)}" for note in table.notes)
    return f"### {table.title.translate(_MARKDOWN)}\n\n{body}\n\n{notes}\n"


def latex(table: Table) -> str:
    """The table in LaTeX: a booktabs float."""
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


@functools.lru_cache(maxsize=64)
def bundle(table: Table) -> Mapping[str, str]:
    """{file ending: text} of the formats that are written beside the report; the page offers the same for download."""
    return {"csv": csv(table), "md": markdown(table), "tex": latex(table)}


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _embedded(rows: Mapping[str, Any] | None) -> str:
    """Rows as JSON inside a script element: no sign in them can end it."""
    text = json.dumps(rows, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _latex_heading(heading: str) -> str:
    return "".join(words.translate(_LATEX) + _latex_symbol(letter, tail) for words, letter, tail in parts(heading))


def _latex_symbol(letter: str, tail: str) -> str:
    return rf"${letter}_{{\mathrm{{{tail}}}}}$" if tail else ""


def _harmless(value: object) -> object:
    """A text that a spreadsheet would run as a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
