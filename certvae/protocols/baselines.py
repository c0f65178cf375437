"""The baseline table of arXiv 2605.05813: VAEs that nobody aligned, held against the frozen teacher of the same seed.

warm_up -> teacher -> vanilla, beta_vae_low, ...        each from scratch; the teacher is read for curves alone
                   -> aligned_vanilla, ...              the same with lambda_ts L_TS: any VAE can carry the term
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from certvae.canonical import stage_seed
from certvae.data.dataset import Dataset
from certvae.protocols.forecasting import Pressure
from certvae.protocols.judging import Reads, Unguided
from certvae.protocols.rescue import taught
from certvae.protocols.steps import Graph, Step
from certvae.quality import Verdict, from_row, judge
from certvae.spec.baselines import Baseline, Baselines, BetaVae, KlAnnealing, Vanilla
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Model, Training
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Workbench, stage

ALIGNED = "aligned_"


@dataclass(frozen=True)
class BaselineProtocol:
    """What this protocol says of a cell."""

    spec: CellSpec
    protocol: Baselines

    def graph(self) -> Graph:
        """Networks that share a teacher and nothing else."""
        spec = self.spec
        read, teacher = taught(spec, self.protocol, None)
        networks = {
            one.name: Step(one.name, baseline, (spec.data, spec.model, one, spec.training, spec.seed, teacher))
            for one in self.protocol.baselines
        }
        if self.protocol.lambda_ts is not None:
            networks |= {f"{ALIGNED}{one.name}": self._aligned(one, teacher) for one in self.protocol.baselines}
        return Graph(teacher, networks, read)

    def _aligned(self, one: Baseline, teacher: Step) -> Step:
        spec = self.spec
        given = (spec.data, spec.model, one, self.protocol.lambda_ts, spec.training, spec.seed, teacher)
        return Step(f"{ALIGNED}{one.name}", aligned_baseline, given)

    def reads(self, mode: str) -> Reads:
        """How the network of a mode is judged."""
        return Unguided(self._named(mode))

    def fits_heads(self, mode: str) -> bool:  # noqa: ARG002 - the printed table has them for all
        """Heads are fitted to every code afterwards: no raw head was ever told of the teacher."""
        return True

    def columns(self, mode: str) -> dict[str, Any]:
        """Weights that searches vary, and how the teacher came about."""
        lambda_ts = self.protocol.lambda_ts if mode.startswith(ALIGNED) else 0.0
        weights = {"alpha_kl": self._named(mode).alpha_kl, "lambda_ts": lambda_ts, "lambda_bal": 0.0}
        return {**weights, "teacher_features": "frozen", "teacher_seed": None}

    def verdict(self, facts: Mapping[str, Any]) -> Verdict:
        """Quality control of the teacher numbers of a row."""
        return judge(from_row(facts), self.protocol.teacher.thresholds)

    def pressure(self, mode: str) -> Pressure | None:
        """KL and alignment weight, for a forecast, of those that minimise L_rec + alpha_kl L_KL in the end."""
        match self._named(mode):
            case Vanilla(alpha_kl=alpha_kl) | BetaVae(alpha_kl=alpha_kl) | KlAnnealing(alpha_kl=alpha_kl):
                aligned = self.protocol.lambda_ts if mode.startswith(ALIGNED) else None
                return Pressure(alpha_kl, aligned or 0.0)
            case _:
                return None

    def _named(self, mode: str) -> Baseline:
        return next(one for one in self.protocol.baselines if one.name == mode.removeprefix(ALIGNED))


@stage(version=3)
def baseline(
    dataset: Dataset,
    model: Model,
    baseline: Baseline,
    training: Training,
    seed: int,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """A baseline from the initialisation of the warm-up; the teacher is read for the curve, and by no gradient."""
    return _trained(dataset, model, baseline, 0.0, training, seed, teacher, bench)


@stage(version=1)
def aligned_baseline(
    dataset: Dataset,
    model: Model,
    baseline: Baseline,
    lambda_ts: float,
    training: Training,
    seed: int,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """The same baseline from the same initialisation, with alignment."""
    return _trained(dataset, model, baseline, lambda_ts, training, seed, teacher, bench)


def _trained(
    dataset: Dataset,
    model: Model,
    baseline: Baseline,
    lambda_ts: float,
    training: Training,
    seed: int,
    teacher: Artifact,
    bench: Workbench,
) -> Content:
    from certvae.evaluation.diagnostics import evaluation
    from certvae.protocols import trained
    from certvae.training import baselines

    initial = stage_seed(seed, "init")
    vae = baselines.network(baseline, model, dataset.shape, teacher.facts["classes"], initial).to(bench.device)
    if isinstance(vae.encoder, baselines.QuantisedEncoder):
        rows = evaluation(dataset, "train", None, bench)
        baselines.place_codes(vae.encoder, (batch.x for batch in rows.in_order()), initial)
    loss = baselines.loss(baseline, model, training, lambda_ts)
    return trained.train(vae, dataset, teacher, loss, training, baseline.name, seed, bench)
