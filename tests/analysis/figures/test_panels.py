"""A page draws what the files show: the same points, at the same places, under the same labels."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.figures.drawing import canvas, legend
from analysis.figures.panels import key, panels


@pytest.fixture
def figure() -> Figure:
    made = canvas(6, 3)
    left, right = made.subplots(1, 2)
    left.plot([1, 10, 100], [0.0, 0.5, 1.0], color="#0072B2", linestyle="--", marker="s", markevery=2, label="a")
    left.set(xscale="log", xlim=(1, 100), ylim=(0, 2), xlabel="x", title="one")
    left.set_ylabel("$G_{TS}$, nats", parse_math=True)
    right.scatter([0.0, 1.0, np.nan, 9.0], [0.0, 1.0, 1.0, 9.0], color="#E69F00", facecolors="none", s=9)
    right.set(xlim=(0, 2), ylim=(0, 4))
    right.axhspan(0, 1, color="0.5", alpha=0.25)
    right.step([0, 1, 2], [3, 2, 1], where="post", color="#009E73")
    right.text(1, 2, "word", ha="center")
    legend(made, left.lines)
    return made


def test_places_are_shares_of_the_axes_on_any_scale(figure):
    line, *_ = panels(figure)[0].strokes
    assert line.points == "0.00,100.00 50.00,75.00 100.00,50.00"
    assert (line.colour, line.dashes, line.filled) == ("c0", "6 3", False)
    assert [(dot.x, dot.y) for dot in panels(figure)[0].dots] == [(0.0, 100.0), (100.0, 50.0)]


def test_points_outside_or_without_a_number_are_not_drawn(figure):
    assert [(dot.x, dot.y, dot.filled) for dot in panels(figure)[1].dots] == [(0.0, 100.0, False), (50.0, 75.0, False)]


def test_a_line_is_broken_where_a_point_is_missing():
    made = canvas(3, 3)
    axes = made.subplots()
    axes.plot([0, 1, 2, 3, 4], [1.0, 1.0, np.nan, 0.0, 0.0])
    axes.set(xlim=(0, 4), ylim=(0, 1))
    assert [one.points for one in panels(made)[0].strokes] == ["0.00,0.00 25.00,0.00", "75.00,100.00 100.00,100.00"]


def test_steps_have_corners_and_areas_their_opacity(figure):
    strokes = panels(figure)[1].strokes
    (area,) = [stroke for stroke in strokes if stroke.filled]
    (step,) = [stroke for stroke in strokes if not stroke.filled]
    assert area.opacity == 0.25
    assert step.points == "0.00,25.00 50.00,25.00 50.00,50.00 100.00,50.00 100.00,75.00"


def test_labels_are_words_with_symbols(figure):
    first, second = panels(figure)
    assert (first.title, first.x_label, first.y_label) == ("one", "x", "G_TS, nats")
    assert [word.text for word in second.words] == ["word"]
    assert [tick.text for tick in second.x_ticks][:2] == ["0.00", "0.25"] or second.x_ticks[0].x == 0.0
    assert all(0 <= tick.y <= 100 for tick in first.y_ticks)


def test_a_legend_is_kept(figure):
    (entry,) = key(figure)
    assert (entry.words, entry.colour, entry.dashes) == ("a", "c0", "6 3")
    assert entry.path


def test_nothing_of_the_figure_is_changed(figure):
    before = figure.axes[0].get_xlim(), figure.get_suptitle(), len(figure.axes[0].lines)
    assert panels(figure) == panels(figure)
    assert (figure.axes[0].get_xlim(), figure.get_suptitle(), len(figure.axes[0].lines)) == before
