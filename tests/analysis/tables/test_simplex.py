"""The MNIST table: printed lines as printed, ours on the rows they belong to."""

import numpy as np
import pandas as pd
import pytest

from analysis.printed import MNIST
from analysis.tables.simplex import COMPARED, PRINTED, witness_table
from analysis.views import Strict
from tests.analysis.figures.test_simplex import rows


def measured() -> pd.DataFrame:
    frame = rows()
    train = {column: np.arange(len(frame), dtype=float) for column in COMPARED.values()}
    heads = dict.fromkeys(("population_bound", "rotation_margin", "affine_margin", "info"), 0.5)
    quality = {
        "classes": 4,
        "teacher_info": 1.2,
        "teacher_top1_margin": 0.9,
        "teacher_high_margin_share": 1.0,
        "teacher_hard_usage_kl": 0.0,
        "teacher_soft_usage_kl": 0.0,
        "teacher_min_mass": 0.25,
        "teacher_code_energy": 0.4469,
        "code_energy": 0.4469,
        "teacher_verdict": "strict-feasible",
        "reason": "",
        "key_teacher": "0" * 64,
        "spec": None,
    }
    return frame.assign(**train, **heads, **quality, data="mnist")


class TestMnistTable:
    def test_printed_lines_are_the_papers(self):
        table = witness_table(Strict(measured()))
        printed = table.frame[table.frame["source"] == PRINTED]
        assert printed["mode"].tolist() == MNIST.rows["mode"].tolist()
        assert printed["margin"].tolist() == MNIST.rows["margin_tau"].tolist()
        assert printed["certify_margin"].isna().all()

    def test_ours_are_means_over_seeds_with_counts_of_signs(self):
        frame = witness_table(Strict(measured())).frame
        vae = frame[(frame["source"] == "labels") & (frame["mode"] == "vae")].iloc[0]
        assert vae["loss"] == pytest.approx(np.mean([0, 3, 6]))
        assert vae["certify_margin"] == pytest.approx(-1.9)
        assert (vae["certified"], vae["agree"], vae["n"], vae["n_failed"]) == (0, 3, 3, 0)
        rst = frame[(frame["source"] == "labels") & (frame["mode"] == "rst")].iloc[0]
        assert (rst["certified"], rst["agree"]) == (3, 3)

    def test_a_margin_that_is_not_finite_has_no_sign(self):
        frame = measured()
        frame.loc[(frame["mode"] == "vae") & (frame["seed"] == 2), "margin"] = np.nan
        vae = witness_table(Strict(frame)).frame.query("source == 'labels' and mode == 'vae'").iloc[0]
        assert (vae["certified"], vae["agree"], vae["n"], vae["n_failed"]) == (0, 2, 3, 1)

    def test_a_failed_seed_is_counted_and_not_averaged(self):
        frame = measured()
        broken = (frame["mode"] == "rst") & (frame["seed"] == 2)
        numbers = [*COMPARED.values(), "margin", "info"]
        frame.loc[broken, numbers] = np.nan
        frame.loc[broken, "outcome"] = "diverged"
        frame["teacher_source"] = frame["teacher_source"].astype(object)
        frame.loc[broken, "teacher_source"] = None
        rst = witness_table(Strict(frame)).frame.query("source == 'labels' and mode == 'rst'").iloc[0]
        assert (rst["n"], rst["n_failed"], rst["certified"], rst["agree"]) == (3, 1, 2, 2)
        assert rst["certify_margin"] == pytest.approx(1.05)

    def test_a_number_that_a_finished_seed_lacks_counts_it_as_failed_and_bounds_are_not_averaged(self):
        frame = measured()
        rst = (frame["mode"] == "rst") & (frame["teacher_source"] == "labels")
        frame.loc[rst, "population_bound"] = [0.9, 0.3, 0.6]
        frame.loc[rst & (frame["seed"] == 1), "affine_margin"] = np.nan
        line = witness_table(Strict(frame)).frame.query("source == 'labels' and mode == 'rst'").iloc[0]
        assert (line["n"], line["n_failed"], line["certify_population_bound"]) == (3, 1, 0.3)

    def test_seeds_that_lack_different_numbers_are_as_many_as_they_are(self):
        frame = measured()
        rst = (frame["mode"] == "rst") & (frame["teacher_source"] == "labels")
        frame.loc[rst & (frame["seed"] == 0), "affine_margin"] = np.nan
        frame.loc[rst & (frame["seed"] == 1), "rotation_margin"] = np.nan
        line = witness_table(Strict(frame)).frame.query("source == 'labels' and mode == 'rst'").iloc[0]
        assert (line["n"], line["n_failed"]) == (3, 2)

    def test_every_reason_and_the_energy_are_said(self):
        notes = " ".join(witness_table(Strict(measured())).notes)
        assert "0.4469 (labels)" in notes
        for word in ("I_T", "L_TS of vae", "reconstruction", "fair heads"):
            assert word in notes

    @pytest.mark.parametrize("other", [{"data": "digits"}, {"substitute": "10,000 of 60,000 train images drawn"}])
    def test_rows_of_other_images_stand_alone(self, other):
        table = witness_table(Strict(measured().assign(**other)))
        assert PRINTED not in set(table.frame["source"])
        assert "L_TS of vae" not in " ".join(table.notes)
