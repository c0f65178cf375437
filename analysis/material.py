"""What a report is made of, and how a figure becomes a picture on its page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import inline, saved
from analysis.load import Pictures
from analysis.page import Plot
from analysis.parameters import labels
from analysis.views import Partition, View, everything

MOST_CONFIGS = 4  # configs that get pictures of their own


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """All that a report is made of.

    Args:
        parts: the rows that tables are about, of one split.
        tried: guard rows of all configs of a search, or None when there is one config.
        curves, candidates, pictures: what `parts` points at; see `analysis.load`.
        teachers: config -> teacher rows of one seed, where the witness is a simplex.
    """

    view: View
    parts: Partition
    tried: Partition | None
    curves: pd.DataFrame
    candidates: pd.DataFrame
    pictures: list[Pictures]
    teachers: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def rows(self) -> pd.DataFrame:
        """Strict and stress rows, one by one."""
        return everything(self.parts)


def plot(name: str, alt: str, figure: Figure, *, photo: bool = False, label: str = "") -> Plot:
    """A figure as a picture for the page, and as PNG and PDF; the label of its config joins the heading."""
    files = {"png": saved(figure, "png"), "pdf": saved(figure, "pdf")}
    title, caption = (" ".join(words.split()) for words in (figure.get_suptitle(), figure.get_supxlabel()))
    heading = f"{title} — {label}" if label else title
    return Plot(name, alt, heading, caption, inline(figure), files, photo)


def by_config(frame: pd.DataFrame, rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(suffix of names, label, lines) of the first configs; neither suffix nor label when there is one."""
    found = list(frame.groupby("config", sort=False))[:MOST_CONFIGS]
    names = labels(rows)
    for config, lines in found:
        yield ("", "", lines) if len(found) == 1 else (f"_{str(config)[:8]}", names[str(config)], lines)
