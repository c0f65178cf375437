"""A table as data: full-precision numbers in a frame, and how each column is to be shown.

Every format (CSV, Markdown, LaTeX, HTML) is made from the same `Table`; the CSV keeps all digits.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from certvae.spec.quantities import BY_NAME, Form, Quantity

ABSENT = "–"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True)
class Column:
    """A column of the frame: `heading` may hold a symbol such as `G_0.10`, whose tail is set as a subscript."""

    name: str
    heading: str
    form: Form = "plain"


def _made(form: Form, **headings: str) -> dict[str, Quantity]:
    return {name: Quantity(name, heading, form=form) for name, heading in headings.items()}


MADE = {
    **_made("text", label="config", short="config", contrast="difference", of="of", endpoint="endpoint"),
    **_made("text", claim="at tau", on_rows="on these rows", at_tau="at tau", in_population="in the population"),
    **_made("text", feasible="meets the constraint", front="on the front", parameter="parameter", whose="whose"),
    **_made("text", mark="", verdict="verdict", covariance="covariance", expected="printed sign", sign="signs"),
    **_made("text", source="teacher", part="part", found="found"),
    **_made("count", machine="machine"),
    **_made("text", named="config", head="head, at tau", population="in the population"),
    **_made("text", mean_answer="mean", channel_answer="channel"),
    **_made("count", n="seeds", n_failed="n_failed", n_stress="stress cases", configs="configs", cells="seeds run"),
    **_made("count", strict="strict-feasible", stress="stress cases", no_teacher="no teacher at all"),
    **_made("count", infeasible_searches="infeasible searches", diverged="diverged rows", unknown="teacher unknown"),
    **_made("count", place="rank"),
    **_made("count", certified="certified at tau", agree="seeds with the printed sign", averaged="seeds averaged"),
    **_made("count", whitening="whitened dimensions", initialisation="start"),
    **_made("short", alive_to="alive in every seed up to", lives_to="dead in no seed up to"),
    **_made("short", dead_from="dead in every seed from"),
    **_made("share", off="off by"),
    **_made("text", held="forecast", expected_channel="expected channel"),
    **_made("short", alpha_kl="alpha_kl", noise="noise, nats"),
    **_made("signed", drift="drift, nats", halfway="G_tau halfway"),
    **_made("plain", bound="bound", reached="seeds that reached 0"),
    **_made("short", regulariser="regulariser", temperature="temperature", clusters="exp I_T", share="best G_0 / I_T"),
    **_made("plain", score="score", importance="epsilon squared", probe="linear probe"),
    **_made("plain", posthoc_student_info="post-hoc I_S"),
    **_made("coarse", psnr_change="PSNR change", slack="slack", psnr_01_mean="PSNR, dB"),
    **_made("signed", mean="mean", low="95 % low", high="95 % high", direction="rank correlation"),
    **_made("signed", left="G_tau", left_mean="mean G_tau", left_min="min G_tau", bound_min="min bound"),
    **_made("signed", posthoc_margin="post-hoc head", **{"margin_tau_0.00": "G_0"}),
    **_made("share", kept="P(kept)"),
    **_made("p", p="sign-flip p", p_smallest="smallest p possible"),
}
"""What tables are made of besides the quantities of rows."""
_DERIVED = {
    r"(?P<of>.+)_(?P<what>printed|ours)": "{what}: {of}",
    r"(?P<of>.+)_mean_se": "{of} mean − standard error",
    r"(?P<of>.+)_(?P<what>mean|min|max|sd)": "{of} {what}",
    r"(?P<what>certify|train)_(?P<of>.+)": "{of} on {what} rows",
    r"(?P<of>margin)_tau_(?P<what>[\d.e-]+)": "G_{what}",
    r"(?P<of>.+)_tau_(?P<what>[\d.e-]+)": "{of}, G_{what}",
}
"""Names made of another one: `loss_printed`, `margin_tau_0.10_min`, `certify_margin`, `affine_margin_tau_0.10`."""


def columns(*names: str) -> tuple[Column, ...]:
    """Columns of a frame, called and shown as the quantities that they are made of; `teacher_` may be left away.

    Raises:
        KeyError: a name that no quantity has.
    """
    return tuple(map(_column, names))


def _column(name: str) -> Column:
    known = MADE.get(name) or BY_NAME.get(name)
    if known:
        return Column(name, known.heading, known.form)
    for pattern, words in _DERIVED.items():
        if found := re.fullmatch(pattern, name):
            of = _column(found["of"])
            form = "plain" if name.endswith("_sd") and of.form == "signed" else of.form  # a spread has no sign
            return Column(name, words.format(**{**found.groupdict(), "of": of.heading}), form)
    known = BY_NAME[f"teacher_{name}"]
    return Column(name, known.heading, known.form)


@dataclass(frozen=True, eq=False)
class Table:
    """A table with all it needs to be read on its own.

    Args:
        name: file name without ending.
        title: what it shows, of which data set and teacher.
        frame: the numbers.
        columns: the columns shown, in order.
        notes: split, seeds, n, n_failed, versions; then what a reader must know.
        lines: at most so many lines on a page; files hold all.
    """

    name: str
    title: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]
    notes: tuple[str, ...]
    lines: int = 60

    def texts(self, *, page: bool = False) -> list[list[str]]:
        """The cells of all lines as they are shown, or of those that fit on a page."""
        shown = self.frame.head(self.lines) if page else self.frame
        columns = [[text(value, column.form) for value in shown[column.name]] for column in self.columns]
        return [list(line) for line in zip(*columns, strict=True)]


def present(frame: pd.DataFrame, columns: Iterable[Column]) -> tuple[Column, ...]:
    """Those columns of which the frame knows at least one value."""
    return tuple(column for column in columns if column.name in frame and frame[column.name].notna().any())


SMALL = 1e-4
_FORMATS = {
    "signed": "{:+.4f}",
    "plain": "{:.4f}",
    "coarse": "{:.2f}",
    "short": "{:.3g}",
    "count": "{:.0f}",
    "share": "{:.0%}",
    "p": "{:.4f}",
    "tiny": "{:.1e}",
}


def text(value: Any, form: Form) -> str:
    """One cell; a value that is missing or not finite is a dash, never a number."""
    if form == "text":
        return ABSENT if _missing(value) else clean(str(value))
    if _missing(value) or not math.isfinite(value):
        return ABSENT
    if form == "count" and value != round(value):  # a mean of counts
        return _FORMATS["coarse"].format(value)
    return _FORMATS["tiny" if form == "p" and value < SMALL else form].format(value).replace("-", "−")


def minus(words: str) -> str:
    """Words whose negative numbers have a minus sign."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", words)


def clean(words: str) -> str:
    """Text from a store on one line, without control characters, terminal codes or marks that turn writing around."""
    return _CONTROL.sub("\ufffd", re.sub(r"[\t\n\r]+", " ", words))


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
