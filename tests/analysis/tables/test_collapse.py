"""What a study of KL weights says of its forecasts: planted words, and the section that shows them."""

import math
from typing import Any

import pandas as pd
import pytest

from analysis import load, views
from analysis.report import Request, gather
from analysis.sections import collapse
from analysis.tables.collapse import ABOVE, BELOW, INSIDE, drift_table, forecast_table, rescue_table
from tests.analysis_rows import STRESS, STUDY, filled, lost, row

WEIGHTS = (0.05, 0.5, 2.0, 8.0, 20.0)


def grid(mode: str, last_alive: float, crit: float | None, seeds: int = 2) -> list[dict[str, Any]]:
    """Rows of a mode whose channel is alive up to a weight, and dead above."""
    return [
        row(
            seed,
            mode,
            alpha_kl=weight,
            parameters={"objective.alpha_kl": weight},
            kl_rate=9.0 if weight <= last_alive else 1e-3,
            sampled_affine_population_bound=1.0 if weight <= last_alive else -0.1,
            sampled_population_bound=-1.0,
            **({} if crit is None else {"alpha_crit": crit, "forecast_units": int(weight < crit)}),
        )
        for weight in WEIGHTS
        for seed in range(seeds)
    ]


@pytest.fixture
def study(tmp_path):
    found = grid("no_align", 0.5, 1.4) + grid("full", 2.0, 5.8) + grid("guarded_full", 20.0, None)
    return filled(tmp_path / "store", found)


def lines(rows: list[dict[str, Any]], path) -> dict[str, dict[str, Any]]:
    frame = forecast_table(views.partition(load.load(filled(path, rows), STUDY))).frame
    return {str(line["mode"]): line for line in frame.to_dict("records")}


def test_a_forecast_inside_the_bracket_holds(study, tmp_path):
    found = forecast_table(views.partition(load.load(study, STUDY))).frame.set_index("mode")
    assert found.loc["no_align", ["alpha_crit", "alive_to", "dead_from"]].tolist() == [1.4, 0.5, 2.0]
    assert found["held"].tolist()[:2] == [INSIDE, INSIDE]
    assert found.loc["guarded_full", "alive_to"] == 20.0
    assert math.isnan(found.loc["guarded_full", "dead_from"])
    assert pd.isna(found.loc["guarded_full", "held"])


def test_a_fine_bracket_says_how_far_off_the_forecast_is(tmp_path):
    """Held against the weight at which the word is due, and not against that of the last unit."""
    rows = [one | {"alpha_dead": 1.25} for one in grid("no_align", 0.5, 1.4)]
    found = lines(rows, tmp_path)["no_align"]
    assert (found["lives_to"], found["dead_from"], found["held"]) == (0.5, 2.0, INSIDE)
    assert found["off"] == pytest.approx(0.6)


@pytest.mark.parametrize(("crit", "said"), [(0.1, BELOW), (0.6, INSIDE), (30.0, ABOVE)])
def test_one_that_does_not_is_said(crit, said, tmp_path):
    assert lines(grid("no_align", 0.5, crit), tmp_path)["no_align"]["held"] == said


def test_one_seed_that_differs_leaves_the_weight_open(tmp_path):
    rows = grid("no_align", 0.5, 1.4, 1) + [one | {"seed": 1} for one in grid("no_align", 2.0, 1.4, 1)]
    found = lines(rows, tmp_path)["no_align"]
    assert (found["alive_to"], found["dead_from"]) == (0.5, 8.0)


def test_stress_cases_enter_no_forecast_and_are_counted(tmp_path):
    """A stress case that outlives the others, under a forecast of its own, and a run of it that failed."""
    apart = [one | {"seed": 2, **STRESS} for one in grid("no_align", 20.0, 9.0, 1)]
    failed = lost(2, "no_align", alpha_kl=40.0, parameters={"objective.alpha_kl": 40.0}, key_teacher="t")
    shared = {"key_teacher": "t"}
    rows = [*grid("no_align", 0.5, 1.4), *(one | shared for one in apart), failed | {"alpha_kl": 40.0}]
    found = lines(rows, tmp_path)["no_align"]
    assert [found[name] for name in ("alpha_crit", "alive_to", "dead_from", "n", "n_failed", "n_stress")] == [
        *(1.4, 0.5, 2.0),
        *(2, 0, 1),
    ]


def test_a_failed_run_is_neither_alive_nor_dead_and_is_counted(tmp_path):
    rows = [one for one in grid("no_align", 0.5, 1.4) if (one["seed"], one["alpha_kl"]) != (1, 2.0)]
    failed = lost(1, "no_align", alpha_kl=2.0, parameters={"objective.alpha_kl": 2.0}) | {"alpha_kl": 2.0}
    found = lines([*rows, failed], tmp_path)["no_align"]
    assert (found["dead_from"], found["n"], found["n_failed"]) == (8.0, 2, 1)


def test_the_report_draws_the_lines_that_the_rows_hold(study):
    section = collapse(gather(Request(store=study, study=STUDY))[0])
    assert [block.name for block in section.blocks] == ["collapse_and_rescue", "forecast"]


def test_configs_that_differ_in_anything_else_are_no_such_study(tmp_path):
    rows = grid("no_align", 0.5, 1.4) + grid("full", 2.0, 5.8)
    other = [one | {"spec": one["spec"] | {"training": {"epochs": 3}}} for one in rows if one["alpha_kl"] > 2]
    store = filled(tmp_path, [one for one in rows if one["alpha_kl"] <= 2] + other)
    assert collapse(gather(Request(store=store, study=STUDY))[0]).blocks == ()


def test_what_was_known_before_a_rescue_stands_beside_what_it_did(tmp_path):
    known = {"response": 0.1, "critical_weight": 20.0}
    dead, alive = (
        {"kl_rate": 1e-3, "sampled_affine_population_bound": sign, "sampled_population_bound": -1.0}
        for sign in (-1.0, 1.0)
    )
    rows = [
        row(0, "rescue", alpha_kl=20.0, largest_weight=5.0, **known, **dead),
        row(0, "guarded_rescue", alpha_kl=20.0, largest_weight=500.0, **known, **alive),
        row(1, "guarded_rescue", alpha_kl=20.0, largest_weight=500.0, **known, **dead),
        row(0, "full", alpha_kl=20.0),
    ]
    shown = rescue_table(views.partition(load.load(filled(tmp_path, rows), STUDY)))
    assert shown.frame[["mode", "expected_channel", "channel_word"]].to_numpy().tolist() == [
        ["rescue", "dead", "dead"],
        ["guarded_rescue", "alive", "alive"],
        ["guarded_rescue", "alive", "dead"],
    ]
    assert "the channel ended as expected in 2 of 3 strict-feasible networks" in shown.notes
    apart = [one | STRESS if one["seed"] == 1 else one for one in rows]
    listed = rescue_table(views.partition(load.load(filled(tmp_path / "apart", apart), STUDY)))
    assert "the channel ended as expected in 2 of 2 strict-feasible networks" in listed.notes
    assert listed.frame["teacher_status"].tolist() == ["strict-feasible"] * 2 + ["stress-case"]


class TestDrift:
    def curves(self, path, runs: dict[int, list[float]]) -> tuple[pd.DataFrame, views.Partition]:
        """Curves of one mode by seed, beside rows that name them; seed 9 is a stress case."""
        rows = [row(seed, "full") | (STRESS if seed == 9 else {}) for seed in runs]
        frame = load.load(filled(path, rows), STUDY)
        points = [
            {"config": one["config"], "mode": "full", "seed": one["seed"], "epoch": epoch, "guard_margin": margin}
            for one in frame.to_dict("records")
            for epoch, margin in enumerate(runs[one["seed"]])
        ]
        return pd.DataFrame(points), views.partition(frame)

    def test_the_bound_of_the_first_half_stands_beside_what_the_second_did(self, tmp_path):
        calm = [0.5, 0.7, 0.8, 1.0, 1.1, 1.2, 1.3, 1.4]
        fallen = [0.5, 0.6, 0.55, 0.7, 0.65, 0.3, 0.05, 0.2]
        shown = drift_table(*self.curves(tmp_path, {0: calm, 1: fallen}), tau=0.1)
        (line,) = shown.frame.to_dict("records")
        assert (line["n"], line["reached"]) == (2, 0.5)
        bounds = [math.exp(-2 * m * G / s**2) for m, s, G in ((0.15, 0.0577350, 1.0), (0.0375, 0.1030776, 0.55))]
        assert line["bound"] == pytest.approx(sum(bounds) / 2, rel=1e-4)
        assert any("a local statement" in note for note in shown.notes)

    def test_a_stress_case_enters_no_mean(self, tmp_path):
        calm, fallen = [0.5, 0.7, 0.8, 1.0, 1.1, 1.2, 1.3, 1.4], [0.5, 0.6, 0.55, 0.7, 0.65, 0.3, 0.05, 0.2]
        (line,) = drift_table(*self.curves(tmp_path, {0: calm, 9: fallen}), tau=0.1).frame.to_dict("records")
        assert (line["n"], line["reached"]) == (1, 0.0)
        assert len(drift_table(*self.curves(tmp_path / "alone", {9: calm}), tau=0.1).frame) == 0

    def test_runs_that_are_at_0_halfway_or_too_short_say_nothing(self, tmp_path):
        curves = self.curves(tmp_path, {0: [0.5, 0.3, 0.2, 0.1, 0.05, 0.0, 0.0], 1: [0.5, 0.6]})
        assert len(drift_table(*curves, tau=0.1).frame) == 0
