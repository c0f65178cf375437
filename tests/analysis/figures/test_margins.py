import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import figures, load, search, views
from analysis.figures.drawing import LOOKS, STYLE, look, saved
from analysis.figures.reconstructions import contact_sheet
from analysis.figures.search import search_caption
from analysis.figures.teachers import MOST_TEACHERS
from analysis.parameters import parameters
from certvae.spec.goal import Goal
from tests.analysis_rows import HOSTILE, MARGIN, STRESS, chains, filled, lost, row, whole_study
from tests.analysis_rows import search as search_rows

TAU = 0.1


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A whole study with a stress case and a failed run, and a search on guard."""
    path = whole_study(tmp_path_factory.mktemp("figures") / "store", range(3), channels=3)
    return filled(path, [*chains([3], **STRESS), lost(4), row(4, "no_align"), *search_rows(16)])


@pytest.fixture(scope="module")
def drawings(store) -> dict[str, Figure]:
    """Every picture of a report."""
    frame = load.load(store, split="certify")
    rows = views.everything(views.partition(frame))
    curves, tried = load.curves(store, frame), views.partition(load.load(store, split="guard"))
    scored, varied = search.configs(tried, Goal()), parameters(tried.strict.rows)
    origin = search_caption(tried.strict.rows, scored, TAU)
    of_seed_0 = [one for one in load.pictures(store, frame) if one.seed == 0]
    return {
        "margin_curves": figures.margin_curves(curves, TAU),
        "rescue_transitions": figures.rescue_transitions(curves, TAU),
        "margin_strips": figures.margin_strips(rows, TAU),
        "margin_against_tau": figures.margin_against_tau(rows, TAU),
        "margin_against_psnr": figures.margin_against_psnr(rows, views.DECLARED),
        "teacher_quality": figures.teacher_quality(load.candidates(store, frame), views.DECLARED.thresholds),
        "reconstruction_grid": figures.reconstruction_grid(of_seed_0, TAU),
        "config_tradeoff": figures.config_tradeoff(scored, views.DECLARED, origin),
        "parameter_importance": figures.parameter_importance(search.importance(scored, varied), origin),
        "slices": figures.slices(scored, varied, views.DECLARED, origin),
    }


NAMES = sorted(figures.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_says_split_n_and_tau(drawings, name):
    caption = drawings[name].get_supxlabel()
    assert "split " in caption
    assert "n = " in caption
    assert "tau" in caption
    assert drawings[name].get_suptitle()


@pytest.mark.parametrize("name", NAMES)
def test_no_word_is_cut_off_at_the_edge(drawings, name):
    figure = drawings[name]
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert min(box.x0, box.y0) >= -0.02
    assert max(box.x1 - width, box.y1 - height) <= 0.02


@pytest.mark.parametrize("name", NAMES)
def test_tick_labels_do_not_overlap(drawings, name):
    figure = drawings[name]
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [
            label.get_window_extent() for label in axes.get_xticklabels() if label.get_text() and axes.get_visible()
        ]
        for left, right in itertools.pairwise(boxes):
            assert left.x1 <= right.x0 + 1, (name, axes.get_xlabel())


@pytest.mark.parametrize("name", ["margin_curves", "margin_strips", "reconstruction_grid"])
def test_equal_pictures_are_equal_bytes_without_a_date(drawings, name):
    for kind in ("png", "pdf"):
        first = saved(drawings[name], kind)
        assert first == saved(drawings[name], kind)
        assert b"CreationDate" not in first


def test_drawing_changes_nothing_global(store):
    before = dict(mpl.rcParams)
    with mpl.rc_context({"lines.linewidth": 9.0, "axes.prop_cycle": mpl.cycler(color=["red"])}):
        frame = load.load(store, split="certify")
        figure = figures.margin_curves(load.curves(store, frame), TAU)
        assert mpl.rcParams["lines.linewidth"] == 9.0
    assert dict(mpl.rcParams) == before
    assert max(line.get_linewidth() for line in figure.axes[0].lines) < 2


def test_a_picture_is_a_function_of_its_frame(store):
    frame = load.load(store, split="certify")
    curves = load.curves(store, frame)
    before = curves.copy()
    pictures = [saved(figures.margin_curves(curves, TAU), "png") for _ in range(2)]
    assert pictures[0] == pictures[1]
    pd.testing.assert_frame_equal(curves, before)


def test_curves_cross_the_boundary_that_is_drawn(drawings):
    axes = drawings["margin_curves"].axes[0]
    flat = [line for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert [line.get_ydata()[0] for line in flat] == [TAU]


def test_rescue_starts_where_no_align_ended(drawings):
    lines = {line.get_marker(): np.asarray(line.get_xdata()) for line in drawings["margin_curves"].axes[0].lines}
    assert lines["^"].min() == lines["s"].max() + 1
    assert lines["o"].min() == 1


def test_a_mark_stands_for_one_network_and_none_for_a_mean(drawings):
    axes = drawings["margin_strips"].axes[0]
    marks = np.concatenate([marks.get_offsets() for marks in axes.collections])
    assert len(marks) == 13  # full of seed 4 diverged, and it has no rescue
    assert np.isclose(marks[:, 0], 1.83).any()  # the stress case of seed 3
    assert [label.get_text() for label in axes.get_yticklabels()] == list(MARGIN)
    assert len([line for line in axes.lines if len(set(line.get_ydata())) == 1]) == 13  # from the bound to the margin


def test_stress_cases_are_not_counted_among_certified_seeds(drawings):
    counts = drawings["margin_against_tau"].axes[1]
    assert counts.get_title(loc="left") == "of 4 strict-feasible seeds"
    assert max(max(line.get_ydata()) for line in counts.lines if len(line.get_ydata()) > 2) == 3


def test_the_front_is_drawn_through_the_configs_on_it(drawings, store):
    scored = search.configs(views.partition(load.load(store, split="guard")), Goal())
    line = next(line for line in drawings["config_tradeoff"].axes[0].lines if line.get_label() == "Pareto front")
    assert len(line.get_xdata()) == int(scored["front"].sum())


def brightness(colour: str) -> float:
    with mpl.style.context(STYLE, after_reset=True):
        red, green, blue = mpl.colors.to_rgb(colour)
    return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2


@pytest.mark.parametrize("modes", [("full", "no_align", "rescue"), ("vae", "rst", "rst_prefit", "rst_alpha_prefit")])
def test_modes_can_be_told_apart_in_grey(modes):
    shown = [look(mode, modes) for mode in modes]
    assert len({one.marker for one in shown}) == len(modes)
    assert len({str(one.line) for one in shown}) == len(modes)
    grey = sorted(brightness(one.colour) for one in shown[:3])
    assert min(np.diff(grey)) > 0.08


def test_modes_that_nobody_knows_get_a_look_of_their_own():
    modes = ["full", "mine", "yours", "theirs"]
    looks = [look(mode, modes) for mode in modes]
    assert len({(one.colour, one.marker) for one in looks}) == 4
    assert look("full", modes) == LOOKS[0]


def test_a_name_with_a_dollar_is_no_formula(tmp_path):
    rows = filled(tmp_path, [row(0, "no_align"), row(0, "x$\\frac{$", data=HOSTILE)])
    frame = views.everything(views.partition(load.load(rows)))
    assert saved(figures.margin_strips(frame, TAU), "png")
    assert saved(figures.margin_against_psnr(frame, views.DECLARED), "png")


@pytest.mark.parametrize("goal", [Goal(psnr_drop=None, psnr_floor=18.0), Goal(psnr_drop=None, pareto=True)])
def test_the_feasible_region_follows_the_constraint(store, goal):
    rows = views.everything(views.partition(load.load(store, split="certify")))
    figure = figures.margin_against_psnr(rows, views.View(goal=goal))
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert ("certified and\nPSNR constraint met" in labels) is (goal.psnr_floor is not None)


def test_many_seeds_are_cut_with_a_word(tmp_path):
    names = ("study", "config", "cell", "seed", "mode", "split", "epoch", "guard_margin")
    lines = [("s", "c" * 64, "c", seed, "full", "guard", epoch, 0.1) for seed in range(40) for epoch in (1, 2)]
    figure = figures.margin_curves(pd.DataFrame(lines, columns=list(names)), TAU)
    assert "first 16 of 40 seeds" in figure.get_suptitle()
    assert MOST_TEACHERS < 40


@pytest.mark.parametrize(("d", "lines", "side"), [(1, 1, 1), (50, 7, 8), (64, 8, 8), (65, 8, 9)])
def test_vectors_are_folded_until_they_can_be_seen(d, lines, side):
    """Genes were a line of one pixel in height, under names that lay over each other."""
    values = np.arange(3 * d, dtype=np.uint8).reshape(3, 1, 1, d)
    kept = [load.Pictures(0, mode, "certify", values, values[::-1]) for mode in ("full", "rescue")]
    figure = figures.reconstruction_grid(kept, TAU)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(above.y0 >= below.y1 - 1 for above, below in itertools.pairwise(boxes))
    assert f"vectors are folded into lines of {side}" in " ".join(figure.get_supxlabel().split()) or lines == 1
    shown = np.asarray(figure.axes[0].images[0].get_array())
    first = shown[:lines, :side, 0].reshape(-1)
    assert first[:d].tolist() == values[0].reshape(-1).tolist()
    assert (first[d:] == 255).all()


def test_a_contact_sheet_keeps_every_pixel():
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)
    sheet = contact_sheet([images, images])
    assert sheet.shape == (17, 17, 4)
    assert (sheet[:8, :8, 0] == images[0, 0]).all()
    assert (sheet[9:, 9:, 2] == images[1, 0]).all()
    assert sheet[8, :, 3].max() == 0


def test_modes_of_the_paper_come_first_in_a_legend(drawings):
    (legend,) = drawings["margin_curves"].legends
    assert [text.get_text() for text in legend.get_texts()][:3] == list(MARGIN)
