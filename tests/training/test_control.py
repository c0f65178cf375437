"""Control of training: laws of every controller, the toy whose critical weight is known, and what is refused."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from certvae.data.dataset import Dataset
from certvae.errors import ConfigFault, NumberFault
from certvae.models.nets import Vae, build, weights
from certvae.spec.control import Alternate, Barrier, Control, Fixed, Guard, Rollback, Staged, StudentFirst
from certvae.spec.parts import Training
from certvae.spec.rescue import Objective, Rescue
from certvae.store.checkpoints import Checkpoints
from certvae.store.store import Store, Workbench
from certvae.training import loop
from certvae.training.batches import Batches
from certvae.training.control import (
    Force,
    Memory,
    Reading,
    Slopes,
    barrier,
    cbf_weight,
    decide,
    state_of,
)
from certvae.training.losses import chain_loss
from certvae.training.steering import Controller, controlled_loss
from tests.small_cells import CLASSES, MODEL, OBJECTIVE

ALL: tuple[Control, ...] = (Fixed(), Guard(), StudentFirst(), Rollback(), Barrier(), Alternate(), Staged())
every_control = pytest.mark.parametrize("control", ALL, ids=lambda one: type(one).__name__)
FLAT = Slopes(alignment=1.0, base=1.0, product=0.0, metric_alignment=1.0, metric_product=0.0)
LAMBDA = 5.0


def walk(control: Control, margins: list[float], slopes: Slopes = FLAT) -> list[Memory]:
    """The decisions on these margins, one an epoch after the start; an epoch is one unit of flow time."""
    memory, made = Memory(Force(LAMBDA), LAMBDA), []
    for epoch, margin in enumerate(margins):
        memory = decide(control, LAMBDA, 1.0, memory, Reading(margin, slopes if epoch else None, float(epoch)))
        made.append(memory)
    return made


class Toy:
    """G = .3 - (1 - th)^2 / 2 under a base loss 5 th^2: g_a = -(1 - th), g_b = 10 th."""

    @staticmethod
    def margin(th: float) -> float:
        return 0.3 - (1 - th) ** 2 / 2

    @staticmethod
    def slopes(th: float) -> Slopes:
        a, b = -(1 - th), 10 * th
        return Slopes(alignment=a * a, base=b * b, product=a * b, metric_alignment=a * a, metric_product=a * b)

    def flow(self, th: float, weight: Callable[[float], float], step: float = 1e-3, steps: int = 20_000) -> list[float]:
        path = [th]
        for _ in range(steps):
            path.append(path[-1] - step * (10 * path[-1] - weight(path[-1]) * (1 - path[-1])))
        return path


class TestToy:
    """The guarded dynamics of arXiv 2605.05813 where everything is known."""

    toy = Toy()

    def test_the_critical_weight_at_the_boundary(self):
        th = 1 - math.sqrt(0.6)
        assert th == pytest.approx(0.2254033, abs=1e-7)
        assert self.toy.margin(th) == pytest.approx(0, abs=1e-12)
        assert self.toy.slopes(th).critical == pytest.approx(2.9099445, abs=1e-7)

    @pytest.mark.parametrize(("weight", "th", "margin"), [(3.2, 0.2424242, 0.0130395), (2.8, 0.21875, -0.0051758)])
    def test_a_fixed_weight_keeps_the_margin_when_it_exceeds_the_critical_one(self, weight, th, margin):
        path = self.toy.flow(0.4, lambda _: weight)
        assert path[-1] == pytest.approx(th, abs=1e-7)
        assert self.toy.margin(path[-1]) == pytest.approx(margin, abs=1e-7)
        assert (min(map(self.toy.margin, path)) >= 0) == (weight > 2.9099445)

    @given(start=st.floats(0.226, 0.9), kappa=st.floats(0.01, 5.0))
    def test_the_weight_of_the_barrier_keeps_the_safe_set_invariant(self, start, kappa):
        def weight(th: float) -> float:
            slopes = self.toy.slopes(th)
            bounds = {"least": 0.5, "most": 100.0}
            return cbf_weight(self.toy.margin(th), slopes.product, slopes.alignment, kappa=kappa, **bounds)[0]

        path = self.toy.flow(start, weight, steps=2000)
        assert min(map(self.toy.margin, path)) >= -1e-9

    def test_the_weight_of_the_barrier(self):
        bounds = {"least": 0.5, "most": 10.0}
        assert cbf_weight(0.05, -2.0, 1.0, kappa=0.1, **bounds) == (pytest.approx(1.995), False)
        slopes = self.toy.slopes(0.25)
        assert self.toy.margin(0.25) == pytest.approx(0.01875)
        found, _ = cbf_weight(0.01875, slopes.product, slopes.alignment, kappa=0.1, **bounds)
        assert found == pytest.approx(3.33)
        assert cbf_weight(1.0, 5.0, 1.0, kappa=0.1, **bounds) == (0.5, False)
        assert cbf_weight(0.0, -50.0, 1.0, kappa=0.1, **bounds) == (10.0, False)
        assert cbf_weight(0.0, -2.0, 0.0, kappa=0.1, **bounds) == (10.0, True)


class TestStates:
    def test_borders_belong_to_the_worse_state(self):
        found = [state_of(margin, 0.1) for margin in (0.2, math.nextafter(0.1, 1), 0.1, 1e-300, 0.0, -1.0, -math.inf)]
        assert [state.name for state in found] == ["SAFE", "SAFE", "WARN", "WARN", "BREACH", "BREACH", "BREACH"]

    def test_a_breach_of_the_guard_lasts_until_the_strip_is_left(self):
        made = walk(Guard(gamma=0.1), [0.5, 0.05, 0.0, 0.05, 0.1, 0.11, 0.05])
        assert [memory.state.name for memory in made] == ["SAFE", "WARN", "BREACH", "BREACH", "BREACH", "SAFE", "WARN"]
        assert [memory.force.vae for memory in made] == [1, 1, 0.1, 0.1, 0.1, 1, 1]

    def test_the_floor_rises_whenever_safe_is_left_and_not_for_the_start(self):
        made = walk(Guard(growth=2.0), [-1.0, -1.0, 0.5, -0.1, -0.2, 0.5, 0.05, -0.1, 0.5])
        assert [memory.floor for memory in made] == [5, 5, 5, 10, 10, 10, 20, 20, 20]
        assert [memory.force.lambda_ts for memory in made] == [500, 500, 5, 500, 500, 10, 20, 500, 20]
        assert [memory.breaches for memory in made] == [1, 1, 1, 2, 2, 2, 2, 3, 3]

    def test_the_floor_rises_when_the_margin_lingers_in_the_strip(self):
        made = walk(Guard(growth=2.0, patience=2), [0.5, *[0.05] * 6])
        assert [memory.floor for memory in made] == [5, 10, 10, 20, 20, 40, 40]

    def test_in_the_strip_it_weighs_what_the_barrier_asks(self):
        falling = dataclasses.replace(FLAT, product=-30.0, metric_product=-30.0)
        assert walk(Guard(kappa=0.1), [0.5, 0.05], falling)[-1].force.lambda_ts == pytest.approx(30 - 0.1 * 0.05)

    def test_an_alignment_that_pulls_at_nothing_is_said(self):
        still = dataclasses.replace(FLAT, alignment=0.0, metric_alignment=0.0)
        last = walk(Guard(), [0.5, 0.05], still)[-1]
        assert last.is_still
        assert last.force.lambda_ts == 500.0
        assert still.critical is None

    def test_the_student_goes_first_while_the_margin_is_negative(self):
        made = walk(StudentFirst(lambda_max=50.0, base=0.2), [-0.1, 0.0, 0.3, -0.1])
        assert [memory.force for memory in made] == [
            Force(50.0, 0.2, 0.2),
            Force(LAMBDA),
            Force(LAMBDA),
            Force(50.0, 0.2, 0.2),
        ]

    def test_the_barrier_weighs_more_the_nearer_it_is_and_is_infinite_outside(self):
        assert [memory.force.lambda_ts for memory in walk(Barrier(rho=1.0), [1.0, 0.1, 0.01, 0.0001])] == [
            pytest.approx(weight) for weight in (6, 15, 105, 500)
        ]
        assert [barrier(margin, 2.0) for margin in (1.0, 0.0, -1.0)] == [0.0, math.inf, math.inf]
        slope = (barrier(0.3 + 1e-6, 1.0) - barrier(0.3 - 1e-6, 1.0)) / 2e-6
        assert -slope == pytest.approx(1 / 0.3)

    def test_tracks_alternate_by_epochs_and_stages_come_once(self):
        turns = walk(Alternate(student_epochs=2, vae_epochs=1), [0.0] * 6)
        assert [memory.force.vae for memory in turns] == [0, 0, 1, 0, 0, 1]
        assert [memory.force.lambda_ts > 0 for memory in turns] == [True, True, False, True, True, False]
        assert [memory.force.vae for memory in walk(Staged(student_epochs=2), [0.0] * 5)] == [0, 0, 1, 1, 1]

    def test_a_stretch_is_undone_when_it_costs_more_than_xi_and_ends_below_gamma(self):
        made = walk(Rollback(xi=0.05, gamma=0.1), [0.5, 0.2, 0.09, 0.18, 0.16, 0.09, 0.09])
        assert [memory.rollbacks for memory in made] == [0, 0, 1, 1, 1, 2, 3]
        assert [memory.rate for memory in made] == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.125]

    def test_rollbacks_are_capped(self):
        made = walk(Rollback(most=2), [0.5, 0.0, 0.0, 0.0, 0.0])
        assert [memory.rollbacks for memory in made] == [0, 1, 2, 2, 2]


class TestLaws:
    """What holds for every controller."""

    margins = st.lists(st.floats(-3, 3), min_size=1, max_size=30)

    @every_control
    @given(margins=margins, product=st.floats(-100, 100), alignment=st.floats(0, 10))
    def test_same_data_same_decisions_within_bounds(self, control, margins, product, alignment):
        slopes = Slopes(alignment, 1.0, product, alignment, product)
        made = walk(control, margins, slopes)
        assert made == walk(control, margins, slopes)
        most = getattr(control, "lambda_max", LAMBDA)
        for memory in made:
            assert 0 <= memory.force.lambda_ts <= most
            assert 0 <= memory.force.vae <= 1
            assert LAMBDA <= memory.floor <= most
            assert math.isfinite(memory.force.lambda_ts)

    @every_control
    @given(margins=margins)
    def test_what_is_carried_over_survives_json(self, control, margins):
        for memory in walk(control, margins):
            assert Memory.of(dataclasses.asdict(memory)) == memory

    @given(margins=st.lists(st.floats(0.1, 3, exclude_min=True), min_size=2, max_size=10))
    def test_who_is_safe_trains_as_without_a_controller(self, margins):
        for control in (Fixed(), Guard(), StudentFirst(), Rollback()):
            assert {memory.force for memory in walk(control, margins)} == {Force(LAMBDA)}


class TestRefusals:
    def test_a_largest_weight_below_the_one_of_the_objective(self):
        for control in (Guard(lambda_max=4.0), StudentFirst(lambda_max=4.0), Barrier(lambda_max=4.0)):
            with pytest.raises(ConfigFault, match=r"lambda_max must be >= lambda_ts = 5, got 4.0 .* give 5 or more"):
                Rescue(objective=Objective(lambda_ts=5.0), controller=control)
            fixed = dataclasses.replace(control, lambda_max=5.0)
            assert Rescue(objective=Objective(lambda_ts=5.0), controller=fixed).controller == fixed

    def test_a_rollback_with_nothing_to_go_back_to(self):
        with pytest.raises(ConfigFault, match=r"ring must be >= 1, got 0 .* keep at least one state"):
            Rollback(ring=0)
        assert Rollback(ring=1).ring == 1


SCHEDULE = Training(epochs=4, batch_size=50)


def teacher(dataset: Dataset, split: Any) -> np.ndarray:
    rows = np.full((len(dataset.rows(split)), CLASSES), 0.02 / CLASSES, np.float32)
    rows[np.arange(len(rows)), dataset.labels[dataset.rows(split)] % CLASSES] += 0.98
    return rows


def controller(
    dataset: Dataset, control: Control, lambda_ts: float = LAMBDA, vae: Vae | None = None, info: float = 1.2
) -> Controller:
    batches = Batches(dataset, "train", teacher(dataset, "train"), SCHEDULE.batch_size, "cpu")
    guard = Batches(dataset, "guard", teacher(dataset, "guard"), 512, "cpu")
    return Controller(
        control, lambda_ts, SCHEDULE, vae or build(MODEL, dataset.shape, CLASSES, seed=7), batches, guard, info
    )


def trained(dataset: Dataset, store: Store, control: Control | None) -> tuple[dict[str, np.ndarray], list[Any]]:
    """Weights and curve of four epochs."""
    vae = build(MODEL, dataset.shape, CLASSES, seed=7)
    batches = Batches(dataset, "train", teacher(dataset, "train"), SCHEDULE.batch_size, "cpu")
    bench = Workbench("cpu", [].append, Checkpoints(store.disk, "0" * 64), 1e9)
    if control is None:
        loss, steering = chain_loss(MODEL, OBJECTIVE.unaligned(), LAMBDA), None
    else:
        steering = controller(dataset, control, vae=vae)
        loss = controlled_loss(MODEL, OBJECTIVE.unaligned(), steering)
    given = {"stage": "guarded", "seed": 0, "bench": bench, "evaluate": lambda _: {}, "steering": steering}
    curve = loop.fit(vae, loss, batches, SCHEDULE, **given)
    return weights(vae), curve


class TestController:
    def test_fixed_is_training_as_it_was(self, digits, tmp_path):
        plain, watched = (trained(digits, Store(tmp_path / str(one)), one)[0] for one in (None, Fixed(every=1)))
        for name, array in plain.items():
            np.testing.assert_allclose(watched[name], array, rtol=0, atol=1e-4)

    @every_control
    def test_every_decision_is_in_the_curve_with_numbers_alone(self, digits, tmp_path, control):
        if isinstance(control, Barrier):
            pytest.skip("its start has no margin")
        _, curve = trained(digits, Store(tmp_path), control)
        for point in curve:
            told = {name: value for name, value in point.items() if name.startswith("control_")}
            assert {"control_state", "control_lambda_ts", "control_margin", "control_cosine"} <= told.keys()
            assert all(value is None or math.isfinite(value) for value in told.values())

    def test_products_are_those_of_the_two_gradients(self, digits):
        """From one train batch, by autograd on each loss alone; the first metric is 1 / (|g| + eps)."""
        vae = build(MODEL, digits.shape, CLASSES, seed=7)
        steering = controller(digits, Fixed(every=1), vae=vae)
        loss = controlled_loss(MODEL, OBJECTIVE.unaligned(), steering)
        batch = next(Batches(digits, "train", teacher(digits, "train"), 50, "cpu").in_order())
        shared = [*vae.encoder.parameters(), *vae.head.parameters()]

        def gradient(pick: Callable[[Any], torch.Tensor]) -> torch.Tensor:
            terms = loss(vae, batch, torch.Generator().manual_seed(1), 0.0)
            found = torch.autograd.grad(pick(terms), shared, allow_unused=True)
            return torch.cat(
                [(g if g is not None else torch.zeros_like(p)).flatten() for p, g in zip(shared, found, strict=True)]
            )

        force = steering.force
        a = gradient(lambda terms: terms.alignment)
        b = gradient(lambda terms: terms.total - force.lambda_ts * terms.alignment)
        optimiser = torch.optim.Adam(vae.parameters(), lr=1e-3)
        steering.begin(optimiser)
        steering.backward(0, loss(vae, batch, torch.Generator().manual_seed(1), 0.0))
        found = steering._slopes
        assert found is not None
        assert found.alignment == pytest.approx(float(a @ a), rel=1e-4)
        assert found.base == pytest.approx(float(b @ b), rel=1e-3)
        assert found.product == pytest.approx(float(a @ b), rel=1e-3, abs=1e-5)
        metric = 1 / ((b + force.lambda_ts * a).abs() + 1e-8)
        assert found.metric_alignment == pytest.approx(float((metric * a) @ a), rel=1e-2)

    def test_a_rollback_restores_weights_and_moments_to_the_bit(self, digits):
        vae = build(MODEL, digits.shape, CLASSES, seed=7)
        steering = controller(digits, Rollback(xi=0.0, gamma=10.0, every=1), vae=vae)
        optimiser = torch.optim.Adam(vae.parameters(), lr=1e-3, fused=True)
        loss = controlled_loss(MODEL, OBJECTIVE.unaligned(), steering)
        batches = Batches(digits, "train", teacher(digits, "train"), 50, "cpu")
        steering.begin(optimiser)
        noise, undone = torch.Generator().manual_seed(0), 0
        for step, batch in enumerate(batches.in_order()):
            terms = loss(vae, batch, noise, 0.0)
            optimiser.zero_grad()
            (-terms.alignment * 50 + 0 * terms.total).backward()  # uphill, so that the margin falls
            optimiser.step()
            if step:
                steering.after(0, step)
                after = loop.held(vae, optimiser)
                if steering.decisions[-1]["rollback"]:
                    undone += 1
                    kept = steering._ring[-1]
                    assert all(np.array_equal(kept[name], array) for name, array in after.items())
        assert undone
        assert optimiser.param_groups[0]["lr"] == 1e-3 / 2**undone

    def test_decisions_further_apart_than_an_epoch_are_refused(self, digits):
        with pytest.raises(ConfigFault, match=r"every must be <= the 4 steps of an epoch, got 5 .* give 4 or less"):
            controller(digits, Guard(every=5))
        assert controller(digits, Guard(every=4)).force.lambda_ts == 500.0

    def test_a_mode_without_alignment_is_refused(self, digits):
        with pytest.raises(ConfigFault, match=r"lambda_ts must be > 0 to be controlled, got 0.* such as 'full'"):
            controller(digits, Guard(), lambda_ts=0.0)

    def test_a_barrier_says_how_far_its_start_is_from_feasible(self, digits):
        vae = build(MODEL, digits.shape, CLASSES, seed=7)
        short = controller(digits, Fixed(), vae=vae).margin()
        assert short < 0
        with pytest.raises(NumberFault, match=rf"E-NUM: .* got -{-short:.4f} nats .* lacks {-short:.4f} nats"):
            controller(digits, Barrier(), vae=vae)
        assert controller(digits, Guard(), vae=vae).force.lambda_ts == 500.0

    def test_it_sees_guard_rows_and_train_batches_alone(self, digits, tmp_path):
        """Its rows are those that it was given: there is no data set in its hands."""
        assert "dataset" not in vars(controller(digits, Guard()))
