import math

import pandas as pd
import pytest

from analysis.load import load
from analysis.table import columns
from analysis.views import (
    Refused,
    Strict,
    View,
    claims,
    everything,
    failed,
    partition,
    strict_rows,
    tau_column,
    with_taus,
)
from certvae.errors import ConfigFault
from certvae.quality import Thresholds
from certvae.spec.goal import Goal
from tests.analysis_rows import MARGIN, STRESS, chains, filled, lost, row


@pytest.fixture
def frame(tmp_path) -> pd.DataFrame:
    """Seeds 0 and 1 strict-feasible, seed 2 a stress case by its min mass."""
    return load(filled(tmp_path, [*chains([0, 1]), *chains([2], **STRESS)]))


def test_every_row_is_on_one_side(frame):
    strict, stress = partition(frame)
    assert set(strict.rows["seed"]) == {0, 1}
    assert set(stress.listed["seed"]) == {2}
    assert stress.listed["teacher_verdict"].tolist() == ["stress-case: min mass 0.001 < 0.01"] * 3


def test_strict_cannot_be_built_from_rows_with_a_stress_case(frame):
    with pytest.raises(Refused, match=r"3 stress-case rows, such as seed 2, mode full.*never pooled"):
        Strict(frame)
    strict, stress = partition(frame)
    with pytest.raises(Refused, match="never pooled"):
        Strict(pd.concat([strict.rows, stress.listed]))


def test_only_strict_rows_may_be_averaged(frame):
    strict, stress = partition(frame)
    assert strict_rows(strict) is strict.rows
    with pytest.raises(Refused, match="wanted strict-feasible rows only, got stress-case rows"):
        strict_rows(stress)
    with pytest.raises(Refused, match="got a DataFrame, not yet partitioned"):
        strict_rows(frame)


def test_a_threshold_moves_seeds_and_trains_nothing(frame):
    assert len(partition(frame, Thresholds(min_mass_share=0.001)).stress.listed) == 0
    assert len(partition(frame, Thresholds(top1_margin=0.95)).strict.rows) == 0


def test_the_stored_verdict_is_not_believed(tmp_path):
    rows = chains([0], teacher_status="stress-case", teacher_verdict="stress-case: other thresholds")
    strict, _ = partition(load(filled(tmp_path, rows)))
    assert set(strict.rows["teacher_status"]) == {"strict-feasible"}


def test_a_failed_run_is_judged_by_the_rows_that_share_its_teacher(tmp_path):
    rows = [lost(0, "full"), row(0, "no_align"), lost(1, "full"), row(1, "no_align", **STRESS)]
    strict, stress = partition(load(filled(tmp_path, rows)))
    assert strict.rows["outcome"].tolist() == ["diverged", "ok"]
    assert stress.listed["outcome"].tolist() == ["diverged", "ok"]


def test_a_failed_run_of_which_no_row_knows_the_teacher_counts_against_the_mean(tmp_path):
    strict, stress = partition(load(filled(tmp_path, [lost(0, key_teacher=None), row(1)])))
    assert strict.rows["teacher_status"].tolist() == ["unknown", "strict-feasible"]
    assert stress.listed.empty


def test_a_search_without_a_teacher_is_a_stress_case(tmp_path):
    rows = [lost(0, mode, "infeasible_teacher", key_teacher=None) for mode in MARGIN]
    _, stress = partition(load(filled(tmp_path, rows)))
    assert stress.listed["teacher_verdict"].tolist() == ["stress-case: no teacher was found"] * 3


def test_the_energy_budget_of_a_data_teacher_is_kept(tmp_path):
    def witness(seed: int, energy: float) -> dict:
        found = row(seed, "rst", teacher_code_energy=energy)
        return {**found, "spec": {**found["spec"], "protocol": {"teacher": {"energy_budget": 1.0}}}}

    strict, stress = partition(load(filled(tmp_path, [witness(0, 0.9), witness(1, 1.2)])))
    assert strict.rows["seed"].tolist() == [0]
    assert stress.listed["teacher_verdict"].tolist() == ["stress-case: code energy 1.2 > 1"]


def test_a_seed_that_is_there_twice_is_refused_with_the_difference(tmp_path):
    frame = load(filled(tmp_path, [row(0), row(0, looks=2)]))
    with pytest.raises(Refused, match=r"found 2 for seed 0, mode full, split certify; they differ in .*paid"):
        partition(frame)


def test_everything_puts_both_sides_back_in_order(frame):
    parts = partition(frame)
    assert everything(parts)[["seed", "mode"]].equals(frame[["seed", "mode"]])


def test_tau_is_a_view(frame):
    shown = with_taus(frame, [0.0, 0.1])
    assert (shown["margin_tau_0.10"] - (frame["margin"] - 0.1)).abs().max() == 0
    assert "margin_tau_0.00" in shown
    with pytest.raises(ConfigFault, match="inside"):
        with_taus(frame, [math.log(10)])


def test_taus_that_need_more_digits_keep_them():
    assert [tau_column(tau) for tau in (0.1, 0.05, 0.125)] == ["margin_tau_0.10", "margin_tau_0.05", "margin_tau_0.125"]
    assert [one.heading for one in columns(tau_column(0.0), tau_column(0.1))] == ["G_0", "G_0.10"]


def test_claims_are_words_and_the_word_is_never_collapsed():
    margins = pd.Series([1.0, 0.1 + 1e-12, -2.0, float("nan")])
    assert claims(margins, 0.1).tolist() == ["certified", "not certified", "not certified", "no number"]


def test_a_row_without_a_finite_margin_has_failed(tmp_path):
    frame = load(filled(tmp_path, [row(0), row(1, margin=None), lost(2)]))
    assert failed(frame).tolist() == [False, True, True]


def test_a_view_says_its_constraint():
    assert View().constraint == "psnr_01 ≥ psnr_01 of the paired reference − 1.5 dB"
    assert View(goal=Goal(psnr_drop=None, psnr_floor=15)).constraint == "psnr_01 ≥ 15 dB"
    assert View(goal=Goal(psnr_drop=None, pareto=True)).constraint == "none"
    assert View(tau=0.15).columns == (0.0, 0.05, 0.10, 0.15, 0.20)
