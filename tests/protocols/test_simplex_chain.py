"""A whole cell of the simplex witness: what its modes share, what sweeps share, and what rows say."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from certvae.canonical import canonical_json
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Data, Gaussian, Mlp, Model, SimplexHead, Training
from certvae.spec.simplex import ESCAPES, FOUR, Escape, Prefit, Witness
from certvae.spec.teachers import Labels, PcaGmm
from certvae.store.artifact import Artifact
from certvae.store.store import Store
from tests.small_cells import small_digits

K = 10
SMALL = PcaGmm(
    whitening=(8,), covariance=("diag",), regulariser=(1e-2,), temperature=(1.0,), initialisations=1, energy_budget=0.6
)


def cell(seed: int = 0, beta: float = 5.0, epochs: int = 2, **protocol: Any) -> CellSpec:
    head = SimplexHead(beta=beta)
    encoder = Mlp(hidden=(32,), latent=12)
    given = {
        "teacher": Labels(),
        "alpha_kl": 0.05,
        "modes": FOUR,
        "prefit": Prefit(epochs=2),
        "escape": Escape(points=3),
    }
    return CellSpec(
        study="small-witness",
        seed=seed,
        data=Data(name="digits"),
        model=Model(encoder=encoder, head=head, likelihood=Gaussian(variance=0.5), decoder_sees_teacher=False),
        protocol=Witness(**{**given, **protocol}),
        training=Training(epochs=epochs, batch_size=64),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def ended(dataset, store) -> chain.Chain:
    """A cell with all seven modes under a PCA-GMM teacher."""
    return chain.train(cell(teacher=SMALL, modes=(*FOUR, *ESCAPES)), dataset, store)


@pytest.fixture(scope="module")
def rows(ended, dataset, store) -> list[dict[str, Any]]:
    """Its guard and certify rows."""
    return [row for split in ("guard", "certify") for row in chain.judge(ended, dataset, store, split)]


class TestRows:
    def test_one_per_mode_and_split_in_the_order_of_the_spec(self, rows):
        modes = (*FOUR, *ESCAPES)
        assert [(row["split"], row["mode"]) for row in rows] == [(s, m) for s in ("guard", "certify") for m in modes]
        assert {row["outcome"] for row in rows} == {"ok"}

    def test_they_are_flat_plain_and_name_the_source_of_the_teacher(self, rows):
        for row in rows:
            canonical_json(row)
            nested = [name for name, value in row.items() if isinstance(value, dict | list) and name != "spec"]
            assert not nested
            assert row["teacher_source"] == "pca_gmm"

    def test_all_modes_of_a_split_are_held_against_the_same_teacher_rows(self, rows):
        for split in ("guard", "certify"):
            assert len({row["info"] for row in rows if row["split"] == split}) == 1

    def test_weights_are_columns_and_absent_ones_are_none(self, rows):
        by_mode = {row["mode"]: row for row in rows if row["split"] == "guard"}
        assert {mode: row["prefit_scale"] for mode, row in by_mode.items()} == {
            "vae": None,
            "rst": None,
            "rst_prefit": 1.0,
            "rst_alpha_prefit": 0.3,
            "escape_collapsed": None,
            "escape_vae": None,
            "escape_prefit": 0.02,
        }
        assert by_mode["vae"]["lambda_ts"] == 0 < by_mode["rst"]["lambda_ts"]
        assert {row["beta"] for row in rows} == {5.0}

    def test_shares_add_up_and_margins_keep_their_promises(self, rows):
        for row in rows:
            assert row["kl_rate_witness"] + row["kl_rate_rest"] == pytest.approx(row["kl_rate"], rel=1e-9)
            squares = row["mean_square_mu_witness"] + row["mean_square_mu_rest"]
            assert squares == pytest.approx(row["mean_square_mu"], rel=1e-6)
            assert row["variance_mu_witness"] >= row["spread_lower_bound"] - 1e-9
            assert row["sampled_within_rate"] == (row["sampled_margin"] <= row["kl_rate"] + 1e-9)
            if row["split"] == "guard":  # where a teacher is judged; beta is 5 here
                assert row["code_energy"] == pytest.approx(row["teacher_code_energy"], rel=1e-9)

    def test_fair_heads_and_train_columns_stand_on_certify_rows_alone(self, rows):
        for row in rows:
            fair = {"rotation_margin", "affine_margin", "sampled_affine_margin", "train_margin"} & row.keys()
            assert len(fair) == (4 if row["split"] == "certify" else 0)

    def test_a_budget_makes_a_stress_case_of_the_same_numbers(self, rows, dataset, store):
        tight = cell(teacher=dataclasses.replace(SMALL, energy_budget=0.01), modes=("vae",))
        judged = chain.judge(chain.train(tight, dataset, store), dataset, store, "guard")[0]
        same = next(row for row in rows if row["mode"] == "vae" and row["split"] == "guard")
        assert judged["margin"] == same["margin"]
        assert judged["teacher_status"] == "stress-case"
        assert "code energy" in judged["teacher_verdict"]
        assert "code energy" not in same["teacher_verdict"]


class TestSharing:
    def test_a_plain_vae_serves_every_teacher_gain_and_alignment_weight(self, dataset, tmp_path):
        store = Store(tmp_path)
        specs = [
            cell(modes=("vae",)),
            cell(modes=("vae",), lambda_ts=9.0),
            cell(modes=("vae",), beta=3.0),
            cell(modes=("vae",), teacher=SMALL),
        ]
        found = [chain.train(spec, dataset, store).modes["vae"] for spec in specs]
        assert len({ended.key for ended in found if isinstance(ended, Artifact)}) == 1
        assert len(store.executions("vae")) == 1
        assert len({chain.shared(spec)["vae"] for spec in specs}) == 1

    def test_no_start_of_an_aligned_mode_depends_on_the_weights(self):
        first, second = (chain.shared(cell(alpha_kl=a, lambda_ts=b)) for a, b in ((0.05, 1.0), (0.4, 7.0)))
        starts = {"teacher", "initial", "prefit", "alpha_prefit"}
        assert {step for step in first if first[step] == second[step]} == starts

    def test_a_label_teacher_is_one_for_all_seeds_and_a_mixture_is_not(self):
        one, two = (chain.shared(cell(seed=seed))["teacher"] for seed in (0, 1))
        three, four = (chain.shared(cell(seed=seed, teacher=SMALL))["teacher"] for seed in (0, 1))
        assert one == two
        assert three != four

    def test_steps_are_begun_in_the_order_they_are_announced(self, dataset, store):
        spec, begun = cell(modes=(*FOUR, *ESCAPES)), []
        chain.train(spec, dataset, store, begun.append)
        assert (*begun, "judge") == chain.steps(spec)
        assert chain.shared(spec).keys() == set(begun)
        assert set(chain.schedules(spec)) < set(begun)


class TestCurves:
    def test_aligned_modes_and_escapes_show_what_happens_inside_and_outside_the_subspace(self, ended):
        numbers = ("margin", "force_norm", "variance_mu_witness", "variance_mu_rest", "kl_rate_witness", "kl_rate_rest")
        for mode, trained in ended.modes.items():
            curve = trained.facts["curve"]
            assert ({f"guard_{name}" for name in numbers} <= curve[-1].keys()) == (mode != "vae")
            assert ("guard_gradient_norm" in curve[0]) == (mode in ESCAPES)


class TestFailures:
    def test_a_teacher_that_cannot_be_fitted_is_an_outcome_of_every_mode(self, dataset, store):
        """More components than rows to fit them on."""
        few = dataclasses.replace(SMALL, fit_rows=5)
        ended = chain.train(cell(teacher=few), dataset, store)
        judged = chain.judge(ended, dataset, store, "guard")
        assert {row["outcome"] for row in judged} == {"infeasible_teacher"}
        assert all("10 components for 5 rows" in row["reason"] for row in judged)

    def test_a_network_that_diverges_takes_no_other_with_it(self, dataset, store):
        wild = cell(seed=3, lambda_ts=1e39, modes=("vae", "rst"))
        judged = chain.judge(chain.train(wild, dataset, store), dataset, store, "guard")
        outcomes = {row["mode"]: row["outcome"] for row in judged}
        assert outcomes == {"vae": "ok", "rst": "diverged"}


class TestSigns:
    """The sign pattern of the paper on rows that training never saw, after seconds of training."""

    def test_vae_is_not_certified_aligned_modes_are_and_a_fair_head_certifies_all(self, tmp_path_factory, store):
        dataset = small_digits(tmp_path_factory.mktemp("larger"), limit=1200)
        ended = chain.train(cell(epochs=8, alpha_kl=0.05), dataset, store)
        judged = {row["mode"]: row for row in chain.judge(ended, dataset, store, "certify")}
        assert judged["vae"]["margin"] < 0
        for mode in ("rst", "rst_prefit", "rst_alpha_prefit"):
            assert judged[mode]["margin"] > 0.5
        assert all(row["affine_margin"] > 0.5 for row in judged.values())
        assert judged["rst"]["info"] <= math.log(K)
        assert np.isfinite([row["reconstruction"] for row in judged.values()]).all()
