"""Baselines in tables: means over strict seeds, printed numbers on the printed data set only, words for a channel."""

import pytest

from analysis.load import load
from analysis.printed import BASELINES
from analysis.tables.baselines import baseline_table, verdict_table
from analysis.views import Refused, partition
from tests.analysis_rows import STRESS, filled, lost, row

MODES = list(BASELINES.rows["mode"])
HEADS = {
    "relabelled_margin": -1.0,
    "affine_margin": 1.5,
    "short_affine_margin": -0.7,
    "affine_population_bound": 0.8,
    "affine_student_info": 1.2,
    "short_affine_student_info": 0.1,
    "probe_accuracy": 0.3,
    "teacher_features": "frozen",
    "teacher_seed": None,
}


def rows(seeds=(0, 1, 2), **changes):
    return [row(seed, mode, **{"margin": -2.0 - 0.1 * seed, **HEADS, **changes}) for seed in seeds for mode in MODES]


def parts(tmp_path, given):
    return partition(load(filled(tmp_path / "store", given), split="certify"))


class TestBaselineTable:
    def test_is_in_the_papers_order_with_margins_at_tau(self, tmp_path):
        frame = baseline_table(parts(tmp_path, rows()).strict).frame
        assert list(frame["mode"]) == MODES
        assert frame["margin_tau_0.10"].tolist() == pytest.approx([-2.2] * 7)
        assert frame["affine_margin_tau_0.10"].tolist() == pytest.approx([1.4] * 7)
        assert set(frame["n"]) == {3}

    def test_shows_printed_signs_beside_a_stand_in_and_no_printed_number(self, tmp_path):
        table = baseline_table(parts(tmp_path, rows()).strict)
        assert set(table.frame["sign_printed"]) == {"− −"}
        assert not any(column.name == "margin_tau_0.10_printed" for column in table.columns)
        assert "digits" in table.title

    def test_shows_printed_numbers_on_the_printed_data_set(self, tmp_path):
        original = parts(tmp_path, rows(data="cifar100"))
        frame = baseline_table(original.strict).frame.set_index("mode")
        assert frame.loc["gmvae", "margin_tau_0.10_printed"] == -7.3780
        assert frame.loc["vq_vae", "psnr_01_printed"] == 14.72

    def test_no_printed_number_beside_a_part_of_the_printed_data_set(self, tmp_path):
        substitute = parts(tmp_path, rows(data="cifar100", substitute="1,117 of 50,000 images"))
        assert "margin_tau_0.10_printed" not in baseline_table(substitute.strict).frame

    def test_a_failed_seed_is_counted_and_not_averaged(self, tmp_path):
        given = [one for one in rows() if (one["seed"], one["mode"]) != (2, "vanilla")]
        frame = baseline_table(parts(tmp_path, [*given, lost(2, "vanilla")]).strict).frame.set_index("mode")
        assert frame.loc["vanilla", "n_failed"] == 1
        assert frame.loc["vanilla", "margin_tau_0.10"] == pytest.approx(-2.15)

    def test_a_head_that_one_seed_lacks_is_counted_and_one_that_all_lack_is_not(self, tmp_path):
        given = [one | {"short_affine_margin": None} for one in rows()]
        one = next(one for one in given if one["mode"] == "vanilla")
        one["affine_margin"] = None
        frame = baseline_table(parts(tmp_path, given).strict).frame.set_index("mode")
        assert frame.loc["vanilla", ["n", "n_failed"]].tolist() == [3, 1]
        other = next(one for one in given if (one["mode"], one["seed"]) == ("vanilla", 1))
        other["relabelled_margin"] = None
        frame = baseline_table(parts(tmp_path / "other", given).strict).frame.set_index("mode")
        assert frame.loc["vanilla", ["n", "n_failed"]].tolist() == [3, 2]

    def test_takes_neither_stress_cases_nor_rows_that_were_taught_differently(self, tmp_path):
        stressed = parts(tmp_path, [*rows((0, 1)), *rows((2,), **STRESS)])
        with pytest.raises((Refused, TypeError)):
            baseline_table(stressed.stress)  # pyright: ignore[reportArgumentType]
        assert set(baseline_table(stressed.strict).frame["n"]) == {2}
        mixed = parts(tmp_path / "mixed", [*rows((0,)), *rows((1,), teacher_seed=0)])
        with pytest.raises(Refused, match="teacher_seed 0"):
            baseline_table(mixed.strict)


class TestVerdicts:
    def test_every_row_gets_the_words_of_head_mean_and_channel(self, tmp_path):
        dead = row(0, "vanilla", margin=-1.0, kl_rate=0.01, affine_population_bound=-0.1)
        alive = row(0, "gmvae", margin=-1.0, sampled_affine_population_bound=0.3, affine_population_bound=0.2)
        shown = verdict_table(parts(tmp_path, [dead, alive, row(1, "full"), lost(1, "no_align")])).frame
        words = shown.set_index("mode")[["claim", "mean_word", "channel_word"]]
        assert words.loc["vanilla"].tolist() == ["not certified", "not shown", "dead"]
        assert words.loc["gmvae"].tolist() == ["not certified", "varies", "alive"]
        assert words.loc["full", "claim"] == "certified"
        assert words.loc["no_align", "claim"] == "no number"

    def test_a_code_without_active_units_is_not_alive_because_of_a_head_with_a_gain(self, tmp_path):
        """The old rule said so of a KL rate of 0.00004 nats."""
        given = {"margin": -1.0, "active_units": 0, "kl_rate": 0.00004, "affine_population_bound": 0.9}
        shown = verdict_table(parts(tmp_path, [row(0, "vanilla", **given)])).frame
        assert shown["channel_word"].tolist() == ["dead"]
