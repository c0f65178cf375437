import csv
import io
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import page as render
from analysis.table import ABSENT, Column, Table, clean, columns, present, text
from tests.analysis_rows import HOSTILE

NASTY = (
    HOSTILE,
    "=1+1",
    "a|b\nc",
    "</td><img src=x onerror=alert(1)>",
    "\x1b]8;;http://x\x07",
    "\u202e evil",
    "x" * 10_000,
)


def table(words: str, **changes) -> Table:
    frame = pd.DataFrame({"name": [words, "plain"], "margin": [0.1 + 0.2, -1 / 3], "config": ["c" * 64] * 2})
    columns = (Column("name", "name", "text"), Column("margin", "G_0.10 mean", "signed"))
    given = {"name": "made_up", "title": clean(words), "frame": frame, "columns": columns, "notes": (clean(words),)}
    return Table(**{**given, **changes})


def html(table: Table) -> str:
    """A page with this table alone."""
    section = render.Section("s", "S", (), (table,))
    return render.page(render.Page(title="t", kicker="", opening=(), sections=[section], provenance={}))


class Tags(HTMLParser):
    """Collects tags and attributes, and the text between them."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data


@pytest.mark.parametrize("words", NASTY)
def test_words_of_a_store_stay_text_in_html(words):
    found = Tags(html(table(words)))
    allowed = {"h3", "div", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "sub", "p", "a", "article"}
    allowed |= {"html", "head", "meta", "title", "style", "body", "header", "h1", "dl", "nav", "main", "section", "h2"}
    allowed |= {"footer", "details", "summary", "dt", "dd"}
    assert {tag for tag, _ in found.tags} <= allowed
    assert {name for _, given in found.tags for name in given} <= {
        *("id", "class", "tabindex", "role", "aria-labelledby", "scope", "href", "download"),
        *("lang", "charset", "http-equiv", "content", "name", "aria-label"),
    }
    assert clean(words) in found.words


@pytest.mark.parametrize("words", NASTY)
def test_a_table_line_is_one_line_of_markdown_with_as_many_cells(words):
    lines = render.markdown(table(words)).splitlines()
    body = [line for line in lines if line.startswith("| ")]
    cells = [line.replace(r"\|", "").count("|") for line in body]
    assert cells == [3] * 4
    assert "<" not in "".join(lines).replace(r"\<", "")


@pytest.mark.parametrize("words", NASTY)
def test_latex_has_no_command_that_came_from_a_store(words):
    found = render.latex(table(words))
    body = found.split(r"\midrule")[1].split(r"\bottomrule")[0]
    bare = body.replace(r"\\", "")
    for harmless in render.LATEX.values():
        bare = bare.replace(harmless, "")
    assert not set(bare) & set("\\&%$#_{}~^") - {"&"}
    assert bare.count("&") == 2


@pytest.mark.parametrize("words", NASTY)
def test_csv_is_read_back_with_all_digits(words):
    given = table(words)
    found = pd.read_csv(io.StringIO(render.csv(given)), float_precision="round_trip")
    assert found["margin"].tolist() == given.frame["margin"].tolist()
    assert list(found) == ["config", "name", "margin", "provenance"]
    assert len(found) == 2


def test_a_spreadsheet_does_not_run_a_name():
    lines = list(csv.reader(io.StringIO(render.csv(table("=HYPERLINK(1)")))))
    assert lines[1][1] == "'=HYPERLINK(1)"


def test_equal_tables_are_equal_bytes():
    assert render.bundle(table("a")) == render.bundle(table("a"))


def test_symbols_are_set_as_subscripts():
    found = table("a")
    assert "G<sub>0.10</sub> mean" in html(found)
    assert r"$G_{\mathrm{0.10}}$ mean" in render.latex(found)


def test_a_page_shows_the_first_lines_and_says_how_many_there_are():
    frame = pd.DataFrame({"name": [f"line {k}" for k in range(9)], "margin": np.arange(9.0)})
    found = table("a", frame=frame, lines=4)
    page = html(found)
    assert "line 3" in page
    assert "line 4" not in page
    assert "the first 4 of 9 lines; all are in made_up.csv" in page
    assert "line 8" in render.markdown(found)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -float("inf"), pd.NA])
@pytest.mark.parametrize("style", ["signed", "plain", "coarse", "count", "share", "p", "short"])
def test_what_is_no_number_is_shown_as_a_dash(value, style):
    assert text(value, style) == ABSENT


@pytest.mark.parametrize(
    ("value", "style", "shown"),
    [
        (-0.05359, "signed", "−0.0536"),
        (1.5, "signed", "+1.5000"),
        (19.4567, "coarse", "19.46"),
        (0.92, "share", "92%"),
        (0.25, "p", "0.2500"),
        (3e-5, "p", "3.0e−05"),
        (16.0, "count", "16"),
        (15.5, "count", "15.50"),
    ],
)
def test_numbers_are_shown_in_their_style(value, style, shown):
    assert text(value, style) == shown


@given(st.text())
def test_clean_text_is_one_line_without_control_characters(words):
    found = clean(words)
    assert not any(letter in found for letter in "\n\r\t\x00\x1b\x85\u2028\u202e")


def test_columns_without_any_value_are_left_out():
    frame = pd.DataFrame({"a": [1.0, np.nan], "b": [np.nan, np.nan]})
    assert [column.name for column in present(frame, [Column("a", "a"), Column("b", "b"), Column("c", "c")])] == ["a"]


@pytest.mark.parametrize(
    ("name", "heading"),
    [
        ("kl_rate", "KL, nats"),
        ("margin_tau_0.10", "G_0.10"),
        ("margin_tau_0.10_min", "G_0.10 min"),
        ("margin_tau_0.10_mean_printed", "printed: G_0.10 mean"),
        ("affine_margin_tau_0.10", "best affine head, G_0.10"),
        ("margin_mean_se", "G_0 mean − standard error"),
        ("train_margin_ours", "ours: G_0 on train rows"),
        ("min_mass", "min mass"),
    ],
)
def test_a_column_is_called_after_the_quantity_that_it_is_made_of(name, heading):
    assert [column.heading for column in columns(name)] == [heading]


def test_a_column_that_no_quantity_has_is_an_error():
    with pytest.raises(KeyError, match="teacher_misspelt"):
        columns("misspelt")
