import math

import numpy as np
import pandas as pd
import pytest

from analysis import printed
from analysis.load import load
from analysis.search import configs
from analysis.tables import beside, margins
from analysis.tables.search import config_table
from analysis.views import Partition, Refused, View, everything, partition
from certvae.spec.goal import Goal
from certvae.spec.modes import expected_sign, ordered
from tests.analysis_rows import MARGIN, STRESS, chains, filled, lost, row, search

ROUNDING = 1.5e-4  # four printed digits leave this for a difference of two of them


@pytest.fixture
def parts(tmp_path) -> Partition:
    """Seeds 0 to 2 strict-feasible, 3 and 4 stress cases, one run of seed 1 diverged, no teacher for seed 5."""
    whole = [one for one in chains(range(3)) if (one["seed"], one["mode"]) != (1, "rescue")]
    others = [lost(1, "rescue"), *chains([3, 4], **STRESS), *(lost(5, m, "infeasible_teacher") for m in MARGIN)]
    return partition(load(filled(tmp_path, [*whole, *others])))


def all_tables(parts: Partition) -> list:
    view = View()
    of_rows = (margins.claim_table, margins.tau_table)
    of_parts = (margins.reconstruction_table, margins.teacher_table, margins.count_table, margins.failure_table)
    return [
        margins.summary_table(parts.strict),
        margins.seed_table(parts.strict),
        margins.seed_table(parts.stress),
        margins.contrast_table(parts.strict),
        beside.sign_table(parts.strict),
        *(make(parts, view) for make in of_rows),
        *(make(parts) for make in of_parts),
    ]


def test_every_table_says_where_its_rows_come_from(parts):
    for table in all_tables(parts):
        origin = table.notes[0]
        assert all(word in origin for word in ("split certify", "seeds", "n_failed = ", "certvae 0.1.0, torch 2.10.0"))
        assert "digits, teacher warmup_gmm" in table.title


def test_a_substitute_is_part_of_every_title(tmp_path):
    parts = partition(load(filled(tmp_path, [*chains(substitute="first 100 images"), *chains([9], **STRESS)])))
    titles = [table.title for table in all_tables(parts)]
    assert sum("(first 100 images)" in title for title in titles) == len(titles) - 1  # stress rows have none


def test_a_summary_is_of_strict_seeds_and_says_how_many_failed(parts):
    frame = margins.summary_table(parts.strict).frame.set_index("mode")
    assert frame["n"].tolist() == [3, 3, 3]
    assert frame["n_failed"].tolist() == [0, 0, 1]
    assert frame.loc["full", "margin_tau_0.10_mean"] == pytest.approx(1.71)
    assert frame.loc["rescue", "margin_tau_0.10_min"] == pytest.approx(1.6)
    assert frame.index.tolist() == list(MARGIN)


def test_stress_cases_are_listed_one_by_one_with_their_reasons(parts):
    table = margins.seed_table(parts.stress)
    assert table.frame[["seed", "mode"]].value_counts().max() == 1
    assert len(table.frame) == 9
    assert set(table.frame["teacher_verdict"]) == {
        "stress-case: min mass 0.001 < 0.01",
        "stress-case: no teacher was found",
    }


def test_no_aggregate_moves_when_stress_rows_change(tmp_path):
    def summaries(name: str, margin: float) -> list[pd.DataFrame]:
        rows = [*chains(range(3)), *chains([7], margin=margin, psnr_01=margin, **STRESS)]
        strict = partition(load(filled(tmp_path / name, rows))).strict
        return [margins.summary_table(strict).frame, margins.contrast_table(strict).frame]

    for first, second in zip(summaries("a", -1e6), summaries("b", 1e6), strict=True):
        pd.testing.assert_frame_equal(first, second)


def test_tau_columns_are_the_margin_less_tau_everywhere(parts):
    shown = margins.tau_table(parts).frame
    for tau in (0.05, 0.10, 0.20):
        assert (shown["margin_tau_0.00"] - shown[f"margin_tau_{tau:.2f}"] - tau).abs().max() < 1e-12
    assert "G_0.15" in [column.heading for column in margins.tau_table(parts, View(tau=0.15)).columns]


def test_the_mean_of_bounds_is_not_shown(parts):
    shown = margins.tau_table(parts).frame
    assert shown.loc[shown["endpoint"].str.startswith("mean"), "population_bound"].isna().all()
    assert shown.loc[shown["endpoint"].str.startswith("min"), "population_bound"].notna().all()


def test_a_seed_without_a_bound_is_counted_beside_the_smallest_of_the_others(tmp_path):
    rows = [row(0, population_bound=0.2), row(1, population_bound=None), row(2, population_bound=0.1)]
    shown = margins.tau_table(partition(load(filled(tmp_path, rows)))).frame
    assert shown["population_bound"].iloc[0] == 0.1
    assert list(zip(shown["n"], shown["n_failed"], strict=True)) == [(3, 1), (3, 0)], "the mean of margins is of three"


def test_the_three_claims_are_words(tmp_path):
    rows = [row(0, margin=0.05, population_bound=0.01), row(1, margin=-1.0, population_bound=-2.0)]
    on_certify = margins.claim_table(partition(load(filled(tmp_path / "a", rows)))).frame
    assert on_certify["on_rows"].tolist() == ["certified", "not certified"]
    assert on_certify["at_tau"].tolist() == ["not certified", "not certified"]
    assert on_certify["in_population"].tolist() == ["certified", "not certified"]
    guard = [{**one, "split": "guard"} for one in rows]
    assert set(margins.claim_table(partition(load(filled(tmp_path / "b", guard)))).frame["in_population"]) == {
        "no claim"
    }


def test_no_table_says_collapsed(parts):
    for table in all_tables(parts):
        words = [table.title, *table.notes, *(cell for line in table.texts() for cell in line)]
        assert not any("collapse" in word for word in words)


def test_psnr_has_two_names(parts):
    headings = [column.heading for column in margins.reconstruction_table(parts).columns]
    assert headings[-3] == "PSNR, [0,1] pixels"
    assert headings[-1] == "PSNR, standardised pixels"


def test_the_smallest_possible_p_stands_beside_p(parts):
    shown = margins.contrast_table(parts.strict)
    assert "smallest p possible" in [column.heading for column in shown.columns]
    assert shown.frame["p_smallest"].tolist() == [0.25, 0.25, 0.5, 0.5]
    assert shown.frame["n_failed"].tolist() == [0, 0, 1, 1]


def test_failed_runs_are_listed_with_the_reason(parts):
    shown = margins.failure_table(parts).frame
    assert shown["reason"].tolist() == ["diverged at step 7"] + ["infeasible_teacher at step 7"] * 3


def test_tables_of_several_configs_name_them(tmp_path):
    rows = [r for weight in (8.0, 1.0) for r in chains(parameters={"objective.alpha_kl": weight})]
    parts = partition(load(filled(tmp_path, rows)))
    for table in (
        margins.summary_table(parts.strict),
        margins.seed_table(parts.strict),
        margins.contrast_table(parts.strict),
    ):
        assert table.frame["label"].unique().tolist() == ["alpha_kl 1", "alpha_kl 8"]


def test_a_table_of_configs_shows_scores_and_parameters(tmp_path):
    parts = partition(load(filled(tmp_path, search(30))))
    table = config_table(configs(parts, Goal()), everything(parts), View())
    headings = [column.heading for column in table.columns]
    assert {"lambda_ts", "learning_rate", "G_0 mean", "G_0 min", "meets the constraint", "on the front"} <= set(
        headings
    )
    assert len(table.texts(page=True)) == 20
    assert len(table.texts()) == 30


@pytest.mark.parametrize("table", [one for one in printed.TABLES if "info" in one.rows], ids=lambda one: one.name)
def test_printed_margins_are_information_less_loss_less_tau(table):
    expected = table.rows["info"] - table.rows["loss"] - table.tau
    assert (table.rows["margin_tau"] - expected).abs().max() < ROUNDING


@pytest.mark.parametrize("table", printed.TABLES, ids=lambda one: one.name)
def test_printed_signs_are_those_we_expect(table):
    signs = ["+" if margin > 0 else "-" for margin in table.rows["margin_tau"]]
    assert signs == [expected_sign(mode) for mode in table.rows["mode"]]
    assert ordered(table.rows["mode"]) == list(dict.fromkeys(table.rows["mode"]))


def test_the_printed_tau_table_is_the_printed_margins_moved():
    rows = printed.TEACHER_SEARCH.rows
    strict = rows[rows["teacher_status"] == "strict-feasible"].groupby("mode")["margin_tau"].min()
    stress = rows[rows["teacher_status"] == "stress-case"].set_index("mode")["margin_tau"]
    tiny = printed.TINY_FIXED_Q.rows.set_index("mode")["margin_tau"]
    shown = printed.TAU_SENSITIVITY
    known = [*strict[["full", "rescue"]], *stress[["full", "rescue"]], *tiny[["full", "no_align", "rescue"]]]
    assert shown["margin_tau_0.10"].tolist() == pytest.approx(known, abs=1e-9)
    assert (shown["margin_tau_0.05"] - shown["margin_tau_0.10"]).tolist() == pytest.approx([0.05] * 7)
    assert (shown["margin_tau_0.10"] - shown["margin_tau_0.20"]).tolist() == pytest.approx([0.10] * 7)


def test_printed_no_align_of_cifar_100_is_a_uniform_student():
    rows = printed.TEACHER_SEARCH.rows
    assert rows.loc[rows["mode"] == "no_align", "loss"].tolist() == pytest.approx([math.log(100)] * 3, abs=1e-4)


def test_printed_and_ours_stand_beside_each_other(tmp_path):
    same = {"data": "cifar100", "classes": 100, "teacher_info": 4.0, "teacher_min_mass": 0.005}
    strict, _ = partition(load(filled(tmp_path, [*chains(**same), *chains([9], **{**same, "teacher_min_mass": 1e-5})])))
    frame = beside.beside_table(strict, printed.TEACHER_SEARCH).frame.set_index("mode")
    assert frame.index.tolist() == list(MARGIN)
    assert frame.loc["full", "margin_tau_0.10_mean_printed"] == pytest.approx((0.5542 + 0.6112) / 2)
    assert frame.loc["full", "margin_tau_0.10_min_printed"] == 0.5542
    assert frame.loc["no_align", "sign_printed"] == "− −"
    assert frame.loc["no_align", "sign_ours"] == "− − −"
    assert frame.loc["full", "margin_tau_0.10_mean_ours"] == pytest.approx(1.71)
    assert frame["n_ours"].tolist() == [3, 3, 3]


def test_a_seed_beside_printed_ones_that_lacks_any_shown_number_has_failed(tmp_path):
    same = {"data": "cifar100", "classes": 100, "teacher_info": 4.0, "teacher_min_mass": 0.005}
    first, *others = chains(**same)
    strict, _ = partition(load(filled(tmp_path, [{**first, "loss": None}, *others])))
    frame = beside.beside_table(strict, printed.TEACHER_SEARCH).frame.set_index("mode")
    assert frame["n_failed_ours"].sum() == 1
    assert frame.loc[first["mode"], "n_failed_ours"] == 1


def test_a_printed_mean_over_seeds_has_no_minimum(tmp_path):
    same = {"data": "tiny-imagenet-200", "classes": 200, "teacher_info": 5.0, "teacher_min_mass": 0.004}
    strict, _ = partition(load(filled(tmp_path, chains(**same))))
    frame = beside.beside_table(strict, printed.TINY_FIXED_Q).frame.set_index("mode")
    assert np.isnan(frame.loc["full", "margin_tau_0.10_min_printed"])
    assert frame.loc["full", ["n_printed", "sign_printed"]].tolist() == [3, "+ (mean)"]
    tau = beside.tau_beside_table(strict).frame
    assert set(tau.loc[tau["whose"] == "arXiv 2605.05813", "data"]) == {"tiny-imagenet-200"}


@pytest.mark.parametrize(
    "changes", [{"data": "cifar10"}, {"data": "cifar100", "substitute": "smaller images"}], ids=["data", "substitute"]
)
def test_other_data_are_not_set_beside_printed_numbers(tmp_path, changes):
    strict, _ = partition(load(filled(tmp_path, chains(**changes))))
    with pytest.raises(Refused, match="compare the signs alone"):
        beside.beside_table(strict, printed.TEACHER_SEARCH)


def test_printed_tables_are_found_by_data_and_modes():
    assert [one.name for one in printed.printed_for("cifar100", {"full"})] == [
        "cifar100_teacher_search",
        "cifar100_fixed_teacher",
    ]
    assert [one.name for one in printed.printed_for("cifar100", {"vanilla"})] == ["cifar100_baselines"]
    assert printed.printed_for("digits", {"full"}) == []


@pytest.mark.parametrize("one", printed.TABLES, ids=lambda one: one.name)
def test_every_printed_table_is_shown_with_the_words_of_its_columns(one):
    shown = beside.printed_table(one)
    assert {column.name for column in shown.columns} <= set(shown.frame)
    assert all(column.heading for column in shown.columns)
