"""One cell from spec to rows: shared stages, failures that become rows, kills that cost nothing, and the digits run."""

import dataclasses
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from certvae import answers, quality
from certvae.data.dataset import Dataset, Split
from certvae.data.loading import load
from certvae.errors import NumberFault
from certvae.evaluation import diagnostics
from certvae.protocols import chain, judging
from certvae.protocols.chain import Chain, Failed, Row
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Data, Training
from certvae.spec.rescue import Objective, Rescue
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Store, Workbench, stage
from certvae.training import losses, objective
from certvae.training.objective import Terms
from sweeps.tiny_fixed_q import STUDY
from tests.laws import Cut
from tests.small_cells import OBJECTIVE, TEACHER, TRAINING, WARM_UP, small_cell

MODES = ("full", "no_align", "rescue")
STEPS = ("warm_up", "teacher", "no_align", "full", "rescue")
NAN = float("nan")
LENIENT = quality.Thresholds(info_share=0, top1_margin=0, high_margin_share=0, usage_share=1, min_mass_share=0)


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory) -> tuple[Chain, list[Row], Store]:
    """A cell that nobody disturbed."""
    store = Store(tmp_path_factory.mktemp("finished") / "store")
    trained = chain.train(small_cell(), digits, store)
    return trained, chain.judge(trained, digits, store, "certify"), store


@pytest.fixture(scope="module")
def undisturbed(digits, tmp_path_factory) -> tuple[dict[str, Row], list[str]]:
    """What the same cell says on guard rows, and the stages it took."""
    store = Store(tmp_path_factory.mktemp("undisturbed") / "store")
    rows = run(small_cell(), digits, store)
    return rows, sorted(executed(store))


def run(spec: CellSpec, dataset: Dataset, store: Store, split: Split = "guard", **judged: Any) -> dict[str, Row]:
    trained = chain.train(spec, dataset, store)
    return {row["mode"]: row for row in chain.judge(trained, dataset, store, split, **judged)}


def executed(store: Store) -> list[str]:
    return [event["stage"] for event in store.executions()]


class TestControls:
    def test_each_control_is_a_mode_with_rows_of_its_own(self, digits, store):
        spec = small_cell(controls=("head_only", "untrained", "full_long", "permuted"))
        rows = run(spec, digits, store)
        assert set(rows) == {*MODES, *spec.protocol.controls}
        assert all(row["outcome"] == "ok" for row in rows.values())
        assert rows["permuted"]["info"] == pytest.approx(rows["full"]["info"], abs=1e-9)
        assert chain.schedules(spec)["full_long"].epochs == 2 * spec.training.epochs

    def test_a_row_has_what_the_three_answers_rest_on(self, finished):
        _, rows, _ = finished
        for row in rows:
            assert {answers.head(row), answers.mean(row), answers.channel(row)}.isdisjoint({None})
            assert answers.spread_bound(row) is not None


class TestRows:
    def test_a_cell_is_one_row_per_mode(self, finished):
        trained, rows, store = finished
        assert tuple(row["mode"] for row in rows) == chain.modes(trained.spec) == MODES
        assert [row["outcome"] for row in rows] == ["ok"] * 3
        assert sorted(row["mode"] for row in store.rows("small")) == sorted(MODES)

    def test_a_row_is_plain_finite_json_with_all_that_names_it(self, finished):
        trained, rows, _ = finished
        for row in rows:
            assert json.loads(json.dumps(row, allow_nan=False)) == row
            assert (row["cell"], row["config"], row["seed"]) == (trained.spec.cell, trained.spec.config, 0)
            assert (row["alpha_kl"], row["lambda_ts"], row["lambda_bal"]) == (0.05, 5.0, 1.0)
            assert row["substitute"] == "240 of 1,437 train images drawn, 60 of 360 test images drawn"
            assert row["key_trained"] == getattr(trained.modes[row["mode"]], "key")  # noqa: B009 - not of a Failed
            assert row["stage_version_judge"] == judging.judge.version
            assert {f"version_{name}" for name in chain.VERSIONED} <= row.keys()

    def test_a_row_names_the_versions_of_the_stages_it_is_made_by_and_no_others(self, finished):
        trained, _, _ = finished
        shared = {"warm_up", "teacher", "no_align", "judge", "spectrum"}
        assert set(chain.versions(trained.spec, "no_align", "guard")) == shared
        assert set(chain.versions(trained.spec, "rescue", "certify")) == shared | {"aligned", "fitted_heads"}

    def test_a_head_that_cannot_be_fitted_takes_no_certificate_away(self, finished, digits, store, monkeypatch):
        trained, rows, _ = finished

        @stage(version=1)
        def fitted_heads(subject: Any, look: Any, reads: Any, *, bench: Workbench) -> Content:
            raise NumberFault("it diverged", "none", where="here", cause="a test")

        monkeypatch.setattr(judging, "fitted_heads", fitted_heads)
        found = chain.judge(chain.train(trained.spec, digits, store), digits, store, "certify")
        assert [row["outcome"] for row in found] == ["ok"] * 3
        assert [row["margin"] for row in found] == [row["margin"] for row in rows]
        assert all("it diverged" in row["posthoc_reason"] for row in found)

    def test_teacher_information_is_one_number_for_all_modes(self, finished):
        _, rows, _ = finished
        info = [row["info"] for row in rows]
        assert max(info) - min(info) <= 1e-12
        assert len({row["key_teacher"] for row in rows}) == 1

    def test_thresholds_are_a_view_on_a_row(self, finished):
        _, rows, _ = finished
        for row in rows:
            found = quality.from_row(row)
            assert quality.judge(found, TEACHER.thresholds).status == row["teacher_status"]
            assert quality.judge(found, LENIENT).status == "strict-feasible"

    def test_judging_again_changes_nothing(self, finished, digits):
        trained, rows, store = finished
        before = executed(store)
        assert chain.judge(trained, digits, store, "certify") == rows
        assert executed(store) == before
        assert len(store.rows("small")) == len(rows)

    def test_a_search_fits_no_head_on_the_rows_it_sees(self, digits, store):
        trained = chain.train(small_cell(), digits, store)
        guard = chain.judge(trained, digits, store, "guard")
        assert "fitted_heads" not in executed(store)
        assert all(row["split"] == "guard" and "probe_accuracy" not in row for row in guard)

    def test_looks_reach_every_bound(self, digits, store):
        once, often = (run(small_cell(), digits, store, "certify", looks=looks) for looks in (1, 10))
        for mode in MODES:
            assert often[mode]["looks"] == 10
            assert often[mode]["population_bound"] < once[mode]["population_bound"]
            assert often[mode]["margin"] == once[mode]["margin"]


class TestSharing:
    def test_a_cell_computes_each_stage_once(self, finished):
        _, _, store = finished
        assert executed(store)[:5] == ["warm_up", "teacher", "no_align", "aligned", "aligned"]
        assert len(store.executions()) == len({event["key"] for event in store.executions()})

    def test_an_edited_program_returns_its_old_numbers_until_it_is_asked_to_recompute(self, digits, store, monkeypatch):
        before = run(small_cell(), digits, Store(store.path, program="0" * 64))
        tripled = SimpleNamespace(**vars(objective))
        tripled.reconstruction = lambda *given: 3 * objective.reconstruction(*given)
        monkeypatch.setattr(losses, "objective", tripled)
        kept = run(small_cell(), digits, store)
        assert {mode: row["margin"] for mode, row in kept.items()} == {m: row["margin"] for m, row in before.items()}
        assert all(map(store.is_stale, store.rows()))
        again = run(small_cell(), digits, Store(store.path, recompute=True))
        assert again["full"]["margin"] != before["full"]["margin"]
        assert not any(map(store.is_stale, store.rows()))
        assert len(store.rows()) == len(before)  # each took the place of the old one
        assert store.verify().exit_code == 0
        executed_before = len(store.executions())
        run(small_cell(), digits, Store(store.path, recompute=True))
        assert len(store.executions()) == executed_before

    def test_rows_of_another_machine_are_not_replaced(self, digits, store):
        run(small_cell(), digits, store)
        elsewhere = {**store.rows()[0], "environment": "e" * 64, "program": "0" * 64}
        store.put_row(elsewhere)
        run(small_cell(), digits, Store(store.path, program="1" * 64, recompute=True))
        assert elsewhere in store.rows()

    def test_a_sweep_over_lambda_ts_trains_no_align_once(self, digits, store):
        trained = [
            chain.train(small_cell(objective=dataclasses.replace(OBJECTIVE, lambda_ts=weight)), digits, store)
            for weight in (0.5, 5.0, 10.0)
        ]
        assert [executed(store).count(name) for name in ("warm_up", "teacher", "no_align", "aligned")] == [1, 1, 1, 6]
        assert len({str(found.modes["no_align"]) for found in trained}) == 1
        assert len({str(found.modes["full"]) for found in trained}) == 3

    def test_training_longer_keeps_warm_up_and_teacher(self, digits, store):
        for epochs in (1, 2):
            chain.train(small_cell(training=Training(epochs=epochs, batch_size=64)), digits, store)
        assert [executed(store).count(name) for name in ("warm_up", "teacher", "no_align")] == [1, 1, 2]

    def test_one_teacher_for_three_seeds_gives_nine_equal_informations(self, digits, store):
        rows = [row for seed in (0, 1, 2) for row in run(small_cell(seed=seed, teacher_seed=0), digits, store).values()]
        info = [row["info"] for row in rows]
        assert len(info) == 9
        assert max(info) - min(info) <= 1e-12
        assert executed(store).count("teacher") == 1
        assert len({row["margin"] for row in rows}) == 9

    def test_shared_digests_are_equal_where_stages_are_shared(self):
        base = chain.shared(small_cell())
        stronger = chain.shared(small_cell(objective=Objective(alpha_kl=0.05, lambda_ts=9.0)))
        sharper = chain.shared(small_cell(teacher=dataclasses.replace(TEACHER, smoothing=0.05)))
        other_seed = chain.shared(small_cell(seed=1))
        assert base.keys() == set(STEPS)
        assert _differing(base, stronger) == {"full", "rescue"}
        assert _differing(base, sharper) == {"teacher", "no_align", "full", "rescue"}
        assert _differing(base, other_seed) == set(STEPS)

    def test_every_step_is_announced_in_its_order(self, digits, store):
        heard: list[str] = []
        chain.train(small_cell(), digits, store, heard.append)
        assert tuple(heard) == STEPS == chain.steps(small_cell())[:-1]

    @pytest.mark.parametrize(
        ("only", "left_out"),
        [(("full", "no_align"), {"rescue"}), (("full",), {"no_align", "rescue"}), (("rescue",), {"full"})],
    )
    def test_a_mode_that_nobody_wants_is_not_trained(self, digits, store, only, left_out):
        heard: list[str] = []
        trained = chain.train(small_cell(), digits, store, heard.append, only=only)
        assert set(STEPS) - set(heard) == left_out
        assert (*heard, "judge") == chain.steps(small_cell(), only)
        assert set(heard) == chain.shared(small_cell(), only).keys()
        rows = chain.judge(trained, digits, store, "guard")
        assert {row["mode"] for row in rows} == set(only) == set(chain.modes(small_cell(), only))

    def test_what_is_wanted_of_a_cell_changes_no_number(self, digits, store):
        lean = chain.judge(chain.train(small_cell(), digits, store, only=("full",)), digits, store, "guard")
        before = len(store.executions())
        whole = chain.judge(chain.train(small_cell(), digits, store), digits, store, "guard")
        assert lean == [row for row in whole if row["mode"] == "full"]
        assert len(store.executions()) - before == 4  # no_align, rescue, and a judge of each

    def test_schedules_name_every_step_that_trains(self):
        spec = small_cell(training=Training(epochs=7))
        assert chain.schedules(spec) == {"warm_up": WARM_UP.training} | dict.fromkeys(MODES, spec.training)


class TestFailures:
    @pytest.mark.parametrize(
        ("step", "lost"),
        [
            ("warm_up", {"full", "no_align", "rescue"}),
            ("no_align", {"no_align", "rescue"}),
            ("full", {"full"}),
            ("rescue", {"rescue"}),
        ],
    )
    def test_a_nan_becomes_rows_that_say_where_and_takes_only_what_follows(
        self, digits, store, undisturbed, monkeypatch, step, lost
    ):
        """At epoch 2, step 3 of one stage; whatever does not start from it has the bytes of an undisturbed run."""
        _break(monkeypatch, step, at=1 + 2 / 3)
        rows = run(small_cell(), digits, store)
        assert {mode for mode, row in rows.items() if row["outcome"] == "diverged"} == lost
        for mode, row in rows.items():
            if mode in lost:
                stage = "aligned" if step in ("full", "rescue") else step
                assert "E-NUM: loss became nan at epoch 2 step 3, last finite loss " in row["reason"]
                assert f"stage {stage}" in row["reason"]
                assert "margin" not in row
                assert "teacher_status" not in row
            else:
                assert row == undisturbed[0][mode]
        assert len(store.rows("small")) == 3

    def test_an_absurd_learning_rate_diverges_and_does_not_crash(self, digits, store):
        """One step an epoch: the weights overflow before any loss does."""
        absurd = Training(epochs=2, batch_size=1000, learning_rate=1e38)
        for spec in (small_cell(training=absurd), small_cell(warm_up=dataclasses.replace(WARM_UP, training=absurd))):
            rows = run(spec, digits, store)
            assert {row["outcome"] for row in rows.values()} == {"diverged"}

    def test_a_constant_teacher_becomes_rows_for_all_modes(self, digits, store):
        drowned = dataclasses.replace(TEACHER, temperature=(1e12,))
        rows = run(small_cell(teacher=drowned), digits, store)
        for mode in MODES:
            assert rows[mode]["outcome"] == "infeasible_teacher"
            assert "E-TEACH: the teacher carries no information (I_T = 0.0000 nats)" in rows[mode]["reason"]
        assert executed(store) == ["warm_up"]

    def test_a_collapsed_code_becomes_rows_for_all_modes(self, digits, store, monkeypatch):
        """Every image has the same features, so whitening has nothing to divide by."""

        def constant(*given: Any) -> np.ndarray:
            return np.full_like(read(*given), 0.25)

        read = diagnostics.features
        monkeypatch.setattr(diagnostics, "features", constant)
        spec = small_cell(teacher=dataclasses.replace(TEACHER, whitening=(0, 4)))
        assert {row["outcome"] for row in run(spec, digits, store).values()} == {"infeasible_teacher"}

    def test_more_components_than_rows_become_rows(self, digits, store):
        rows = run(small_cell(teacher=dataclasses.replace(TEACHER, classes=217)), digits, store)
        assert {row["outcome"] for row in rows.values()} == {"infeasible_teacher"}
        assert "217 components for 216 rows" in rows["full"]["reason"]

    def test_a_failure_takes_the_place_of_an_artifact(self, digits, store, monkeypatch):
        _break(monkeypatch, "no_align", at=0)
        trained = chain.train(small_cell(), digits, store)
        assert isinstance(trained.modes["full"], Artifact)
        assert trained.modes["rescue"] is trained.modes["no_align"]
        assert isinstance(trained.modes["rescue"], Failed)

    def test_other_errors_are_not_swallowed(self, digits, store, monkeypatch):
        _cut(monkeypatch, "no_align", at=0)
        with pytest.raises(Cut):
            chain.train(small_cell(), digits, store)


class TestResume:
    @pytest.mark.parametrize("step", ["warm_up", "no_align", "full", "rescue"])
    @pytest.mark.parametrize("epoch", range(TRAINING.epochs))
    def test_a_cell_cut_in_any_epoch_of_any_mode_ends_with_the_same_rows(
        self, digits, tmp_path, undisturbed, monkeypatch, step, epoch
    ):
        path = tmp_path / "store"
        with monkeypatch.context() as patched:
            _cut(patched, step, at=epoch + 1 / 3)
            with pytest.raises(Cut):
                run(small_cell(), digits, Store(path, checkpoint_seconds=0.0))
        again = Store(path, checkpoint_seconds=0.0)
        assert run(small_cell(), digits, again) == undisturbed[0]
        assert sorted(executed(again)) == undisturbed[1]
        assert again.verify().exit_code == 0
        assert not list((path / "ckpt").iterdir())


class TestDigits:
    """The 8 x 8 digits: full and rescue are certified on rows that nobody saw, no_align is not."""

    @pytest.fixture(scope="class")
    def all_digits(self, tmp_path_factory) -> Dataset:
        return load(Data(name="digits"), cache=tmp_path_factory.mktemp("all"), progress=False)

    def test_the_signs_appear_within_twenty_epochs(self, all_digits, tmp_path):
        short = Training(epochs=20, batch_size=128)
        spec, protocol = _digits_study()
        protocol = dataclasses.replace(protocol, warm_up=dataclasses.replace(protocol.warm_up, training=short))
        short_spec = dataclasses.replace(spec, training=short, protocol=protocol)
        _accept(run(short_spec, all_digits, Store(tmp_path / "store"), "certify"))

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_the_run_of_the_study_is_accepted_for_every_seed(self, all_digits, tmp_path, seed):
        spec = dataclasses.replace(_digits_study()[0], seed=seed)
        judged = run(spec, all_digits, Store(tmp_path / "store"), "certify")
        _accept(judged)
        rows = {mode: row for mode, row in judged.items() if mode != "untrained"}
        assert all(18 < row["psnr_01"] < 21 for row in rows.values())
        assert all(row["active_units"] >= 10 for row in rows.values())
        assert all(row["teacher_status"] == "strict-feasible" for row in rows.values())


def _digits_study() -> tuple[CellSpec, Rescue]:
    spec = STUDY.preset("digits")
    assert isinstance(spec.protocol, Rescue)
    return spec, spec.protocol


def _accept(rows: dict[str, Row]) -> None:
    """Signs +, -, +; a rescue as good as full; a student that knows nothing where nothing aligned it."""
    rows = {mode: rows[mode] for mode in MODES}
    practical = {mode: row["margin"] - 0.10 for mode, row in rows.items()}
    assert practical["full"] > 0 > practical["no_align"]
    assert practical["rescue"] > 0
    assert abs(practical["rescue"] - practical["full"]) < 0.15
    assert rows["no_align"]["student_info"] < 0.15
    info = [row["info"] for row in rows.values()]
    assert max(info) - min(info) <= 1e-12
    assert all(row["population_bound"] > 0 for mode, row in rows.items() if mode != "no_align")
    assert all(row["n"] == 360 for row in rows.values())


def _differing(first: dict[str, str], second: dict[str, str]) -> set[str]:
    return {step for step in first if first[step] != second[step]}


def _at_step(monkeypatch: pytest.MonkeyPatch, step: str, at: float, act: Callable[[Terms], Terms]) -> None:
    """Acts on the loss of one step of the chain, once so many epochs of it are done; losses are made in order."""
    made: list[str] = []
    make = losses.chain_loss

    def patched(*given: Any, **named: Any) -> Any:
        loss = make(*given, **named)
        made.append(("warm_up", "no_align", "full", "rescue")[len(made)])
        return acting(loss) if made[-1] == step else loss

    def acting(loss: Any) -> Any:
        def terms(vae: Any, batch: Any, noise: Any, epochs_done: float) -> Terms:
            found = loss(vae, batch, noise, epochs_done)
            return act(found) if epochs_done >= at - 1e-9 else found

        return terms

    monkeypatch.setattr(losses, "chain_loss", patched)


def _break(monkeypatch: pytest.MonkeyPatch, step: str, at: float) -> None:
    _at_step(monkeypatch, step, at, lambda terms: dataclasses.replace(terms, total=terms.total * NAN))


def _cut(monkeypatch: pytest.MonkeyPatch, step: str, at: float) -> None:
    def cut(terms: Terms) -> Terms:
        raise Cut(step)

    _at_step(monkeypatch, step, at, cut)
