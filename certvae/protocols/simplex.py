"""The protocol of arXiv 2605.18224: a teacher that never reads an encoder, and networks that differ by their start.

teacher                                    labels or a PCA-GMM on pixels, before any network exists
initial                                 -> rst
           -> prefit, alpha_prefit      -> rst_prefit, rst_alpha_prefit
           -> collapsed, low_prefit     -> escape_collapsed, escape_prefit        the same objective, step by step
vae        a mode by itself             -> escape_vae

All aligned modes minimise the same objective and differ by their start alone. No start depends on lambda_ts, and none
but vae on alpha_kl, so one run of them serves a whole sweep. `aligned` is the stage of the other paper: the fixed head
takes the place of a learned one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from certvae.canonical import stage_seed
from certvae.data.dataset import Dataset
from certvae.protocols import stages, teachers
from certvae.protocols.forecasting import Pressure
from certvae.protocols.judging import Reads, Simplex
from certvae.protocols.steps import Graph, Step
from certvae.quality import Verdict, from_row, judge
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Bernoulli, Conv, Gaussian, Mlp, Model, Module, SimplexHead, Training
from certvae.spec.rescue import Objective, Unaligned
from certvae.spec.simplex import ESCAPES, Witness, WitnessMode
from certvae.spec.teachers import PcaGmm
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Workbench, stage

NO_CLASSES = 2  # a witness has no weights, so any number of classes stands for it where no teacher is known yet


@dataclass(frozen=True)
class WitnessProtocol:
    """What this protocol says of a cell."""

    spec: CellSpec
    protocol: Witness

    def graph(self) -> Graph:
        """The modes that the protocol lists, each from its start."""
        return Graph(self._teacher, {mode: self._network(mode) for mode in self.protocol.modes})

    def reads(self, mode: str) -> Reads:  # noqa: ARG002 - every network has the witness
        """How the network of a mode is judged."""
        return Simplex()

    def fits_heads(self, mode: str) -> bool:  # noqa: ARG002 - a fixed witness can fail any healthy latent
        """The best rotation and affine heads stand beside every witness."""
        return True

    def columns(self, mode: str) -> dict[str, Any]:
        """Weights that searches vary, None where a mode does not have one; how the teacher came about; its budget."""
        protocol, head, teacher = self.protocol, self.spec.model.head, self.protocol.teacher
        return {
            "alpha_kl": protocol.alpha_kl,
            "lambda_ts": 0.0 if mode == "vae" else protocol.lambda_ts,
            "lambda_bal": 0.0,
            "beta": head.beta if isinstance(head, SimplexHead) else None,
            "prefit_scale": {
                "rst_prefit": 1.0,
                "rst_alpha_prefit": protocol.prefit.scale,
                "escape_prefit": protocol.escape.low_scale,
            }.get(mode),
            "teacher_features": "frozen",
            "teacher_seed": None,
            "energy_budget": teacher.energy_budget if isinstance(teacher, PcaGmm) else None,
        }

    def verdict(self, facts: Mapping[str, Any]) -> Verdict:
        """Quality control of a row's teacher numbers, and for a mixture its energy budget."""
        teacher = self.protocol.teacher
        found = judge(from_row(facts), teacher.thresholds)
        match teacher:
            case PcaGmm(energy_budget=budget):
                return found.with_energy(facts["teacher_code_energy"], budget)
            case _:
                return found

    def pressure(self, mode: str) -> Pressure | None:
        """KL weight of the plain VAE, for a forecast; the curvature of an aligned fixed witness is another one."""
        return Pressure(self.protocol.alpha_kl) if mode == "vae" else None

    @property
    def objective(self) -> Objective:
        """L_rec + alpha_kl L_KL + lambda_ts L_TS: this paper has no balance term."""
        protocol = self.protocol
        weights = {"alpha_kl": protocol.alpha_kl, "lambda_ts": protocol.lambda_ts, "lambda_bal": 0.0}
        return Objective(**weights, kl_ramp_epochs=protocol.kl_ramp_epochs)

    def _network(self, mode: WitnessMode) -> Step:
        if mode == "vae":
            return self._vae
        spec, start = self.spec, self._start(mode)
        if mode not in ESCAPES:
            given = (spec.data, spec.model, self.objective, spec.training, spec.seed, start, self._teacher)
            return Step(mode, stages.aligned, given)
        goal, watched = replace(self.objective, kl_ramp_epochs=0), self.protocol.escape
        pace = replace(spec.training, epochs=watched.points, report_every=1)
        given = (spec.data, spec.model, goal, watched.steps_per_point, pace, spec.seed, start, self._teacher)
        return Step(mode, escape, given)

    def _start(self, mode: WitnessMode) -> Step:
        match mode:
            case "rst":
                return self._initial
            case "rst_prefit":
                return self._prefit("prefit", 1.0)
            case "rst_alpha_prefit":
                return self._prefit("alpha_prefit", self.protocol.prefit.scale)
            case "escape_prefit":
                return self._prefit("low_prefit", self.protocol.escape.low_scale)
            case "escape_collapsed":
                return Step("collapsed", collapsed, (self._initial,))
            case "escape_vae" | "vae":
                return self._vae

    @cached_property
    def _teacher(self) -> Step:
        return teachers.fixed(self.spec.data, self.protocol.teacher, self.spec.seed)

    @cached_property
    def _initial(self) -> Step:
        return Step("initial", initial, (self.spec.data, self.spec.model.body, self.spec.seed))

    @cached_property
    def _vae(self) -> Step:
        spec = self.spec
        goal = self.objective.unaligned()
        return Step("vae", vae, (spec.data, spec.model.body, spec.model.likelihood, goal, spec.training, spec.seed))

    def _prefit(self, name: str, scale: float) -> Step:
        spec, fit = self.spec, self.protocol.prefit
        schedule = replace(spec.training, epochs=fit.epochs, learning_rate=fit.learning_rate)
        return Step(
            name,
            prefit,
            (spec.data, spec.model, scale, fit.rest_weight, schedule, spec.seed, self._initial, self._teacher),
        )


@stage(version=1)
def vae(
    dataset: Dataset,
    encoder: Mlp | Conv | Module,
    likelihood: Gaussian | Bernoulli,
    objective: Unaligned,
    training: Training,
    seed: int,
    *,
    bench: Workbench,
) -> Content:
    """L_rec + alpha_kl L_KL from the initialisation that the aligned modes of the seed share."""
    from certvae.models.nets import build
    from certvae.protocols.trained import train
    from certvae.training.losses import chain_loss

    model = _without_teacher(encoder, likelihood)
    network = build(model, dataset.shape, NO_CLASSES, stage_seed(seed, "init")).to(bench.device)
    return train(network, dataset, None, chain_loss(model, objective, 0.0), training, "vae", seed, bench)


@stage(version=1)
def initial(dataset: Dataset, encoder: Mlp | Conv | Module, seed: int, *, bench: Workbench) -> Content:  # noqa: ARG001
    """The untrained network of a seed."""
    from certvae.models.nets import build, weights

    model = _without_teacher(encoder, Gaussian())
    return Content(weights(build(model, dataset.shape, NO_CLASSES, stage_seed(seed, "init"))), {})


@stage(version=1)
def collapsed(start: Artifact, *, bench: Workbench) -> Content:  # noqa: ARG001
    """The same network with exactly constant means: the layer before them is zeroed."""
    arrays = {name: np.zeros_like(a) if name.startswith("encoder.mu.") else a for name, a in start.arrays.items()}
    return Content(arrays, {})


@stage(version=1)
def prefit(
    dataset: Dataset,
    model: Model,
    scale: float,
    rest_weight: float,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """Encoder means fitted to the scaled analytic code of the teacher; decoder and variances are left as they are."""
    from certvae.evaluation.simplex import witness_of
    from certvae.protocols import trained
    from certvae.training.losses import code_loss

    network = trained.network(dataset, model, teacher.facts["classes"], start, bench)
    loss = code_loss(witness_of(network), scale, rest_weight)
    return trained.train(network, dataset, teacher, loss, training, "prefit", seed, bench)


@stage(version=2)
def escape(
    dataset: Dataset,
    model: Model,
    objective: Objective,
    steps_per_point: int,
    pace: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """The aligned objective from a low-margin start; an epoch is cut to a few steps, and epoch 0 is the start itself.

    Points show besides the usual guard numbers the norm of d L_TS / d parameters on the guard rows.
    """
    from certvae.protocols import trained
    from certvae.training.losses import chain_loss

    network = trained.network(dataset, model, teacher.facts["classes"], start, bench)
    loss = chain_loss(model, objective.unaligned(), objective.lambda_ts)
    return trained.watched(network, dataset, teacher, loss, pace, steps_per_point, seed, bench)


def _without_teacher(encoder: Mlp | Conv | Module, likelihood: Gaussian | Bernoulli) -> Model:
    """A model with the witness, whose decoder reads the latent alone."""
    alone = Model(head=SimplexHead(), likelihood=likelihood, decoder_sees_teacher=False)
    match encoder:
        case Module():
            return replace(alone, network=encoder)
        case _:
            return replace(alone, encoder=encoder)
