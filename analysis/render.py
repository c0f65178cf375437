"""A `Table` as CSV, Markdown, LaTeX or HTML. Everything that comes from a store is escaped in each of them."""

import html as markup
import re

from analysis.layout import Column, Table, clean

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
        _pipes([":--" if column.style == "text" else "--:" for column in table.columns]),
        *(_pipes([_markdown(cell) for cell in line]) for line in table.texts()),
        "",
        *(f"- {_markdown(note)}" for note in table.notes),
    ]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """A booktabs table float."""
    kinds = "".join("l" if column.style == "text" else "r" for column in table.columns)
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
    if column.style != "text":
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
