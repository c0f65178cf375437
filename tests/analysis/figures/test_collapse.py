"""The picture of collapse and rescue: what is shaded, what is drawn, and that a dead code has a place on a log axis."""

import pandas as pd
import pytest

from analysis.figures import collapse
from analysis.figures.drawing import saved
from tests.analysis_rows import row

WEIGHTS = (0.05, 2.0, 20.0)


@pytest.fixture
def rows() -> pd.DataFrame:
    """no_align dies from 2 on in every seed, at 0.05 in none; guarded_full never does."""
    found = []
    for weight in WEIGHTS:
        for seed in (0, 1):
            plain = {
                "teacher_features": "frozen",
                "teacher_seed": None,
                "alpha_kl": weight,
                "kl_rate": 8.0 if weight < 1 else 0.0,
                "active_units": 16 * (weight < 1),
            }
            found.append(row(seed, "no_align", **plain))
            found.append(row(seed, "guarded_full", **{**plain, "kl_rate": 3.0, "active_units": 16}))
            found.append(row(seed, "head_only", **plain))
    return pd.DataFrame(found)


def test_the_dead_region_begins_where_every_plain_code_is_dead(rows):
    assert collapse._dead_from(rows) == 2.0
    alive = rows.assign(kl_rate=rows["kl_rate"].where(rows["seed"] == 0, 1.0))
    assert collapse._dead_from(alive) is None

    stressed = alive.assign(teacher_status=alive["teacher_status"].where(alive["seed"] == 0, "stress-case"))
    assert collapse._dead_from(stressed) == 2.0, "as the table beside it says"


def test_a_failed_seed_is_not_dead_and_a_weight_between_living_ones_begins_no_region(rows):
    missing = rows.assign(kl_rate=rows["kl_rate"].where((rows["seed"] == 0) | (rows["alpha_kl"] != 2.0)))
    assert collapse._dead_from(missing) == 20.0
    revived = rows.assign(kl_rate=rows["kl_rate"].where(rows["alpha_kl"] != 20.0, 1.0))
    assert collapse._dead_from(revived) is None


def test_lines_join_strict_feasible_seeds_and_break_where_one_is_missing(rows):
    """One seed is a stress case: its points stay, and the line is that of the other, with a gap where it failed."""
    apart = rows.assign(teacher_status=rows["teacher_status"].where(rows["seed"] == 0, "stress-case"))
    apart = apart.assign(margin=apart["margin"].where((apart["seed"] == 1) | (apart["alpha_kl"] != 2.0)))
    margins = collapse.collapse_and_rescue(apart, tau=0.1).axes[0]
    own = float(rows.loc[(rows["mode"] == "no_align") & (rows["seed"] == 0), "margin"].iloc[0])
    heights = [list(line.get_ydata()) for line in margins.lines]
    assert any(h[0] == h[-1] == own and h[1] != h[1] for h in heights if len(h) == 3)
    assert sum(len(one.get_offsets()) for one in margins.collections if len(one.get_offsets()) == 6) == 12


def test_three_panels_with_the_forecast_and_a_floor_for_dead_codes(rows):
    figure = collapse.collapse_and_rescue(rows, tau=0.1, forecast={"no_align": 1.4})
    assert [axes.get_ylabel() for axes in figure.axes] == [label for _, label in collapse.PANELS]
    lines = [line for line in figure.axes[1].lines if line.get_label().startswith("_")]
    assert min(float(min(line.get_ydata())) for line in lines if len(line.get_ydata()) == 3) == collapse.SMALLEST
    assert any(list(line.get_xdata()) == [1.4, 1.4] for line in figure.axes[0].lines)
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "dead below a KL rate\nof 0.05 nats" in words
    assert "margin above tau = 0.10" in words
    assert saved(figure, "png").startswith(b"\x89PNG")


def test_controls_are_left_to_the_tables(rows):
    figure = collapse.collapse_and_rescue(rows, tau=0.1)
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "head_only" not in words
    assert {"no_align", "guarded_full"} <= set(words)
