"""One HTML file: no script, nothing fetched, every word of a store escaped, pictures and downloads inside.

The content policy allows the one style sheet by its digest and pictures from the file itself, and nothing else, so the
page works from a disk and inside a tracker's frame, and a hostile name in a store stays text.
"""

import base64
import hashlib
import html as markup
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from analysis.table import Column, Table, clean

STYLE_SHEET = Path(__file__).with_name("report.css")
MOST_BYTES = 300_000  # a larger table is not put into the page a second time for download
SCALE = 0.68  # CSS pixels per pixel of a picture: text in it comes out as large as that of tables
_KINDS = {"csv": ("CSV", "text/csv"), "md": ("Markdown", "text/markdown"), "tex": ("LaTeX", "application/x-tex")}


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


def page(
    title: str,
    lead: Sequence[str],
    warnings: Sequence[str],
    claims: Sequence[Claim],
    sections: Sequence[Section],
    footer: Mapping[str, str],
) -> str:
    """The whole file."""
    style = STYLE_SHEET.read_text(encoding="utf-8")
    links = "".join(f'<li><a href="#{section.name}">{_text(section.title)}</a></li>' for section in sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{_policy(style)}\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<header>\n<h1>{_text(title)}</h1>\n"
        + "".join(f"<p>{_text(words)}</p>\n" for words in lead)
        + "".join(f'<p class="warning">{_text(words)}</p>\n' for words in warnings)
        + f'<dl class="claims">{"".join(map(_claim, claims))}</dl>\n<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
        + "</header>\n<main>\n"
        + "".join(map(_section, sections))
        + f"</main>\n<footer><dl>{''.join(f'<dt>{_text(k)}</dt><dd>{_text(v)}</dd>' for k, v in footer.items())}</dl>"
        + "</footer>\n</body>\n</html>\n"
    )


def _policy(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    rules = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return f'<meta http-equiv="Content-Security-Policy" content="{rules}">'


def _claim(claim: Claim) -> str:
    what, value, remark = map(html_text, (claim.what, claim.value, claim.remark))
    return f"<div><dt>{what}</dt><dd>{value}<small>{remark}</small></dd></div>"


def _section(section: Section) -> str:
    words = "".join(f"<p>{html_text(one)}</p>\n" for one in section.words)
    blocks = "".join(_table(block) if isinstance(block, Table) else _plot(block) for block in section.blocks)
    return f'<section id="{section.name}">\n<h2>{_text(section.title)}</h2>\n{words}{blocks}</section>\n'


def _table(table: Table) -> str:
    files = {ending: text.encode() for ending, text in bundle(table).items()}
    links = "".join(_download(table.name, ending, data) for ending, data in files.items())
    return f'<article>{html(table)}\n<p class="files">{links}</p></article>\n'


def _download(name: str, ending: str, data: bytes) -> str:
    label, kind = _KINDS[ending]
    if len(data) > MOST_BYTES:
        return f"<span>{label}: tables/{name}.{ending}</span> "
    return f'<a download="{name}.{ending}" href="{_data(kind, data)}">{label}</a> '


def _plot(plot: Plot) -> str:
    photo = " photo" if plot.photo else ""
    names = ", ".join(f"figures/{plot.name}.{ending}" for ending in plot.files)
    width = round(SCALE * int.from_bytes(plot.inline[16:20], "big"))  # where a PNG says how wide it is
    image = f'<img alt="{_text(plot.alt)}" width="{width}" src="{_data("image/png", plot.inline)}">'
    return (
        f'<article>\n<h3 id="plot-{plot.name}">{html_text(plot.title)}</h3>\n<figure class="plot{photo}">'
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="plot-{plot.name}">{image}</div>\n'
        f'<figcaption>{html_text(plot.caption)}<span class="files">{names}</span></figcaption></figure>\n</article>\n'
    )


def _data(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _text(words: str) -> str:
    return escape(clean(words))


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
_SYMBOL = re.compile(r"\b([A-Z])_([A-Za-z0-9.]+)")
LONG = 48  # letters; a longer cell may break into lines
_ORIGIN = ("study", "config", "split")
_FORMULA = ("=", "+", "-", "@")


def csv(table: Table) -> str:
    """All digits of the shown columns, and the notes in a last column, so that a line says where it comes from."""
    names = [name for name in _ORIGIN if name in table.frame] + [column.name for column in table.columns]
    frame = table.frame[list(dict.fromkeys(names))].assign(provenance="; ".join(table.notes[:1]))
    words = frame.select_dtypes(include=["object", "string"]).columns
    return frame.assign(**{name: frame[name].map(_harmless) for name in words}).to_csv(index=False, lineterminator="\n")


def markdown(table: Table) -> str:
    """A pipe table under its title, with the notes below."""
    lines = [
        f"### {_markdown(table.title)}",
        "",
        _pipes([_markdown(column.heading) for column in table.columns]),
        _pipes([":--" if column.form == "text" else "--:" for column in table.columns]),
        *(_pipes([_markdown(cell) for cell in line]) for line in table.texts()),
        "",
        *(f"- {_markdown(note)}" for note in table.notes),
    ]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """A booktabs table float."""
    kinds = "".join("l" if column.form == "text" else "r" for column in table.columns)
    heading = " & ".join(_latex_heading(column) for column in table.columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.title)}. {_latex(' '.join(_sentence(note) for note in table.notes))}}}",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        rf"{heading} \\",
        r"\midrule",
        *(" & ".join(_latex(cell) for cell in line) + r" \\" for line in table.texts()),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def html(table: Table) -> str:
    """A title, and a `<table>` in a box of its own that scrolls; a note says when it holds more lines."""
    heading = "".join(f'<th scope="col"{_cell_class(c)}>{html_text(c.heading)}</th>' for c in table.columns)
    body = "".join(f"<tr>{_html_line(table.columns, line)}</tr>\n" for line in table.texts(page=True))
    left = len(table.frame) - table.lines
    more = [f"the first {table.lines} of {len(table.frame)} lines; all are in {table.name}.csv"] if left > 0 else []
    notes = "".join(f"<li>{html_text(note)}</li>" for note in (*more, *table.notes))
    return (
        f'<h3 id="table-{table.name}">{html_text(table.title)}</h3>\n'
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="table-{table.name}">'
        f'<table aria-labelledby="table-{table.name}">\n<thead><tr>{heading}</tr></thead>\n'
        f'<tbody>\n{body}</tbody></table></div>\n<ul class="notes">{notes}</ul>'
    )


def html_text(words: str) -> str:
    """Words of ours and of a store: cleaned, escaped, and symbols such as G_0 set with a subscript."""
    return _symbols(markup.escape(clean(words)))


def _html_line(columns: tuple[Column, ...], cells: list[str]) -> str:
    return "".join(
        f"<td{_cell_class(column, cell)}>{markup.escape(cell)}</td>"
        for column, cell in zip(columns, cells, strict=True)
    )


def _cell_class(column: Column, cell: str = "") -> str:
    if column.form != "text":
        return ' class="number"'
    return ' class="long"' if len(cell) > LONG else ""


def _symbols(escaped: str) -> str:
    return _SYMBOL.sub(r"\1<sub>\2</sub>", escaped)


def _latex_heading(column: Column) -> str:
    parts = _SYMBOL.split(column.heading)
    plain, symbols = parts[0::3], zip(parts[1::3], parts[2::3], strict=True)
    set_symbols = [rf"${letter}_{{\mathrm{{{tail}}}}}$" for letter, tail in symbols]
    return "".join(_latex(words) + symbol for words, symbol in zip(plain, [*set_symbols, ""], strict=True))


def _latex(words: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in words)


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}."


def _markdown(words: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", words)


def _pipes(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _harmless(value: object) -> object:
    """A text that a spreadsheet would run as a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def bundle(table: Table) -> dict[str, str]:
    """{file ending: text} of the formats that are written beside the report."""
    return {"csv": csv(table), "md": markdown(table), "tex": latex(table)}
