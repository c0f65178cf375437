"""The CIFAR studies of arXiv 2605.05813: presets for every data set, shared teachers, stress cases from end to end."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis.load import candidates, load
from analysis.tables.teachers import candidate_table, one_teaching
from analysis.views import Refused, Strict, everything, partition
from certvae import answers
from certvae.certificate import PAPER_TAU
from certvae.data.loading import SOURCES
from certvae.engine.study import Study
from certvae.protocols import chain
from certvae.quality import Thresholds
from certvae.spec.baselines import Baselines
from certvae.spec.cell import CellSpec
from certvae.spec.rescue import Rescue, SafeMix, SharedAffine
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Store, Workbench, stage
from sweeps import cifar10_rescue, cifar100_baselines, cifar100_fixed_teacher, cifar100_teacher_search
from tests.small_cells import TEACHER, small_cell, small_digits

STUDIES = (cifar100_teacher_search, cifar100_fixed_teacher, cifar10_rescue, cifar100_baselines)
IDS = [module.STUDY.name for module in STUDIES]
ALL_DATA = tuple(SOURCES)

LIVE = ("live_full", "live_no_align", "live_rescue")
CONTROLS = ("head_only", "untrained")


def run(store: Store, cells: list[CellSpec]) -> list[dict]:
    dataset = small_digits(store.path.parent / "cache")
    return [row for cell in cells for row in chain.judge(chain.train(cell, dataset, store), dataset, store, "certify")]


class TestPresets:
    @pytest.mark.parametrize("data", ALL_DATA)
    @pytest.mark.parametrize("study", [module.STUDY for module in STUDIES], ids=IDS)
    def test_every_study_has_a_chain_for_every_data_set(self, study: Study, data: str):
        cell = study.preset(data)
        assert cell.data.name == data
        assert chain.steps(cell)[-1] == "judge"
        assert set(chain.modes(cell)) < set(chain.steps(cell))

    def test_the_search_trains_towards_the_frozen_and_the_live_teacher(self):
        modes = chain.modes(cifar100_teacher_search.preset("cifar100"))
        assert modes == ("full", "no_align", "rescue", *LIVE, *CONTROLS)

    def test_the_rescue_is_shown_with_and_without_protection(self):
        modes = chain.modes(cifar10_rescue.preset("cifar10"))
        assert modes == ("full", "no_align", "rescue", "protected_rescue", *CONTROLS)

    def test_baselines_have_the_epochs_of_a_chain_up_to_one_mode(self):
        chained, alone = (module.preset("cifar100") for module in (cifar100_teacher_search, cifar100_baselines))
        assert alone.training.epochs == chained.protocol.warm_up.training.epochs + chained.training.epochs  # pyright: ignore[reportAttributeAccessIssue]

    def test_vanilla_has_the_kl_weight_of_the_chain(self):
        for data in ALL_DATA:
            chained, alone = cifar100_teacher_search.preset(data).protocol, cifar100_baselines.preset(data).protocol
            assert isinstance(chained, Rescue)
            assert isinstance(alone, Baselines)
            weights = {baseline.name: baseline.alpha_kl for baseline in alone.baselines}
            assert weights["vanilla"] == chained.objective.alpha_kl
            assert weights["beta_vae_high"] == weights["kl_annealing"] == 4 * chained.objective.alpha_kl
            assert weights["vq_vae"] is None


class TestSharedTeachers:
    def test_baselines_find_the_teacher_of_the_search(self):
        search, baselines = (
            chain.shared(module.preset("cifar100")) for module in (cifar100_teacher_search, cifar100_baselines)
        )
        assert search["teacher"] == baselines["teacher"]

    def test_in_the_search_every_seed_has_its_own(self):
        base = cifar100_teacher_search.preset("digits")
        keys = [chain.shared(dataclasses.replace(base, seed=seed))["teacher"] for seed in (0, 1)]
        assert keys[0] != keys[1]

    def test_in_the_control_all_seeds_have_one_and_their_own_students(self):
        base = cifar100_fixed_teacher.preset("digits")
        found = [chain.shared(dataclasses.replace(base, seed=seed)) for seed in (0, 1, 2)]
        assert len({keys["teacher"] for keys in found}) == 1
        for step in ("warm_up", "no_align", "full", "rescue"):
            assert len({keys[step] for keys in found}) == 3

    def test_the_control_trains_nine_networks_against_one_information(self, tmp_path):
        store = Store(tmp_path / "store")
        rows = run(store, [small_cell(seed=seed, teacher_seed=5) for seed in (0, 1, 2)])
        infos = [row["info"] for row in rows]
        assert len(rows) == 9
        assert max(infos) - min(infos) <= 1e-12
        assert len({row["margin"] for row in rows}) == 9
        assert {row["teacher_seed"] for row in rows} == {5}
        assert len(store.executions("teacher")) == 1
        assert len(store.executions("warm_up")) == 4

    def test_seeds_of_the_control_and_of_the_search_are_not_pooled(self, tmp_path):
        store = Store(tmp_path / "store")
        run(store, [small_cell(), dataclasses.replace(small_cell(teacher_seed=5), study="control")])
        frame = load(store.path, split="certify")
        with pytest.raises(Refused, match="own"):
            one_teaching(frame)
        assert len(one_teaching(frame.query("study == 'control'"))) == 3


class TestStressCase:
    """Seed 2 of the paper: a teacher that misses the filter for min mass is flagged, run, and listed apart."""

    def cells(self) -> list[CellSpec]:
        lenient = Thresholds(info_share=0, top1_margin=0, high_margin_share=0, usage_share=1, min_mass_share=0)
        strict = dataclasses.replace(TEACHER, thresholds=lenient)
        thin = dataclasses.replace(TEACHER, thresholds=dataclasses.replace(lenient, min_mass_share=0.999))
        return [small_cell(seed=seed, teacher=thin if seed == 2 else strict) for seed in (0, 1, 2)]

    def test_runs_and_says_why(self, tmp_path):
        rows = run(Store(tmp_path / "store"), self.cells())
        stress = [row for row in rows if row["seed"] == 2]
        assert [row["outcome"] for row in rows] == ["ok"] * 9
        assert {row["teacher_status"] for row in stress} == {"stress-case"}
        assert all(row["teacher_verdict"].startswith("stress-case: min mass") for row in stress)
        assert {row["teacher_status"] for row in rows if row["seed"] < 2} == {"strict-feasible"}

    def test_has_the_verdict_of_its_search_on_every_split(self, tmp_path):
        """Certify rows have other frequencies; a teacher that failed its search must not pass on them."""
        store, dataset = Store(tmp_path / "store"), small_digits(tmp_path / "cache")
        trained = chain.train(self.cells()[2], dataset, store)
        rows = [row for split in ("guard", "certify") for row in chain.judge(trained, dataset, store, split)]
        assert isinstance(trained.teacher, Artifact)
        searched = trained.teacher.facts["quality"]
        assert {row["teacher_min_mass"] for row in rows} == {searched["min_mass"]}
        assert len({row["teacher_verdict"] for row in rows}) == 1
        assert len({row["info"] for row in rows}) == 2

    def test_never_enters_a_mean(self, tmp_path):
        store = Store(tmp_path / "store")
        run(store, [self.cells()[2]])
        frame = load(store.path, "small", "certify")
        parts = partition(frame, self.cells()[2].protocol.teacher.thresholds)
        assert len(parts.strict.rows) == 0
        assert len(everything(parts)) == 3
        with pytest.raises(Refused, match="stress"):
            Strict(frame, self.cells()[2].protocol.teacher.thresholds)

    def test_every_candidate_is_kept_with_its_verdict(self, tmp_path):
        store, taught = Store(tmp_path / "store"), self.cells()[2].protocol.teacher
        many = small_cell(teacher=dataclasses.replace(taught, temperature=(1.0, 2.0, 4.0)))
        run(store, [many])
        frame = load(store.path, "small", "certify")
        found = candidates(store.path, frame)
        shown = candidate_table(found, frame, many.protocol.teacher.thresholds).frame
        assert len(shown) == 3
        assert list(shown["mark"]) == ["chosen", "", ""]
        assert all(verdict.startswith("stress-case: ") for verdict in shown["verdict"])


class TestProtectedRescue:
    @pytest.mark.parametrize("protection", [SharedAffine(), SafeMix()])
    def test_its_certificate_is_that_of_the_raw_head(self, tmp_path, protection):
        """The row of the protected mode equals the row that the plain judge gives the same network."""
        store, dataset = Store(tmp_path / "store"), small_digits(tmp_path / "cache")
        trained = chain.train(small_cell(protection=protection), dataset, store)
        rows = {row["mode"]: row for row in chain.judge(trained, dataset, store, "certify")}
        swapped = dataclasses.replace(trained, modes={"rescue": trained.modes["protected_rescue"]})
        plain = chain.judge(swapped, dataset, store, "certify")[0]
        for name in ("info", "loss", "margin", "population_bound", "student_info"):
            assert rows["protected_rescue"][name] == plain[name]
        assert rows["protected_rescue"]["used_loss"] <= rows["protected_rescue"]["loss"] + 0.05
        assert "used_loss" not in rows["rescue"]

    def test_trains_another_network_than_the_plain_rescue(self, tmp_path):
        store, dataset = Store(tmp_path / "store"), small_digits(tmp_path / "cache")
        modes = chain.train(small_cell(protection=SharedAffine()), dataset, store).modes
        assert modes["protected_rescue"] != modes["rescue"]
        start = [store.executions(stage) for stage in ("protected", "aligned", "no_align")]
        assert [len(found) for found in start] == [1, 2, 1]


@stage(version=1)
def silenced(trained: Artifact, layers: str, *, bench: Workbench) -> Content:
    """A network whose layers of this name give zero for every image."""
    zeroed = {name: np.zeros_like(array) if layers in name else array for name, array in trained.arrays.items()}
    return Content(zeroed, trained.facts)


class TestConstantCode:
    """Collapse is said of a channel, and not of a head: the paper's rescue starts from a constant head."""

    def row(self, tmp_path, layers: tuple[str, ...]) -> pd.DataFrame:
        store, dataset = Store(tmp_path / "store"), small_digits(tmp_path / "cache")
        trained = chain.train(small_cell(), dataset, store)
        network = trained.modes["full"]
        for name in layers:
            network = store.call(silenced, network, name)
        found = chain.judge(dataclasses.replace(trained, modes={"no_align": network}), dataset, store, "certify")
        return pd.DataFrame(found)

    def test_a_silent_encoder_is_a_dead_channel(self, tmp_path):
        row = self.row(tmp_path, ("encoder.mu", "encoder.logvar"))
        assert answers.channel(row.iloc[0]) == "dead"
        assert row["margin"].iloc[0] <= 1e-9

    def test_a_silent_head_on_a_live_code_is_not(self, tmp_path):
        row = self.row(tmp_path, ("head.",))
        assert answers.channel(row.iloc[0]) != "dead"
        assert row["margin"].iloc[0] == pytest.approx(-row["imbalance"].iloc[0], abs=1e-12)
        assert row["affine_margin"].iloc[0] > 0


@pytest.mark.slow
class TestSigns:
    """Digits, the stand-in that needs no download: full +, no_align -, rescue + in every seed; all raw baselines -."""

    def test_of_the_search_and_of_the_protected_rescue(self, tmp_path):
        store, dataset = Store(tmp_path / "store"), small_digits(tmp_path / "cache", limit=1437)
        for seed in (0, 1, 2):
            cell = dataclasses.replace(cifar10_rescue.preset("digits"), seed=seed)
            rows = {
                row["mode"]: row for row in chain.judge(chain.train(cell, dataset, store), dataset, store, "certify")
            }
            signs = {mode: np.sign(row["margin"] - PAPER_TAU) for mode, row in rows.items()}
            printed = {"full": 1, "no_align": -1, "rescue": 1, "protected_rescue": 1}
            assert signs == {**printed, "head_only": 1, "untrained": -1}

    def test_of_the_baselines(self, tmp_path):
        """At the paper's buffer: a random head is not constant, so its bare margin may be positive by a hundredth."""
        store, dataset = Store(tmp_path / "store"), small_digits(tmp_path / "cache", limit=1437)
        cell = cifar100_baselines.preset("digits")
        rows = chain.judge(chain.train(cell, dataset, store), dataset, store, "certify")
        assert {row["mode"]: row["margin"] for row in rows if row["margin"] >= PAPER_TAU} == {}
        assert {row["mode"]: row["affine_margin"] for row in rows if row["affine_margin"] < 0.5} == {}
        assert next(row["used_codes"] for row in rows if row["mode"] == "vq_vae") > 10
