"""The protocol of arXiv 2605.05813: full, no_align and rescue under one frozen teacher.

warm_up -> teacher -> full
                   -> no_align -> rescue            rescue differs from full by its start alone
                               -> protected_rescue  the same, a used head training in the raw head's place
                   -> head_only, full_long, permuted, untrained      controls: what a claim stands beside
                   -> guarded_full, no_align -> guarded_rescue       full and rescue, weighed by a controller
                   -> triad_full            the reconstruction read by the teacher as well; triad_no_align: only read
                   -> curriculum_full       full, aligned with partitions of the classes before all of them
                   -> live_full, live_no_align -> live_rescue        the same three under a teacher that drifts

The printed CIFAR-100 tables of the paper show another I_T for every mode of one seed, which no function of x does: that
teacher moved with the encoder. The live stages reproduce it and log how far it moves,

    drift = E KL(Q || T_live)    nats, Q the cache of the frozen teacher; on guard rows in curves, on the split in rows

T_live carries no gradient. Its rows bear `teacher_features = "live"` and modes of their own, and are never pooled with
those of the frozen teacher, whose quality they show: that is what was known when training began.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from certvae.data.dataset import Dataset
from certvae.protocols import stages, teachers
from certvae.protocols.forecasting import Pressure
from certvae.protocols.judging import Drifting, Edges, Levels, Permuted, Protected, Raw, Reads
from certvae.protocols.steps import Graph, Step
from certvae.quality import Verdict, from_row, judge
from certvae.spec.baselines import Baselines
from certvae.spec.cell import CellSpec
from certvae.spec.modes import named
from certvae.spec.parts import Model, Training
from certvae.spec.rescue import ControlMode, Curriculum, Objective, Protection, Rescue, Triad, Unaligned
from certvae.spec.teachers import WarmUpGmm
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Workbench, stage

PROTECTED = "protected_rescue"
TRIAD = ("triad_full", "triad_no_align")
CURRICULUM = "curriculum_full"
LIVE = named("live")


@dataclass(frozen=True)
class RescueProtocol:
    """What this protocol says of a cell."""

    spec: CellSpec
    protocol: Rescue

    def graph(self) -> Graph:
        """The paper's algorithm box as calls."""
        spec, protocol = self.spec, self.protocol
        given, goal = (spec.data, spec.model), protocol.objective
        schedule = (spec.training, spec.seed)
        read, teacher = taught(spec, protocol, protocol.teacher_seed)
        start = read if read and protocol.teacher_seed is None else warm_up("warm_up", spec, protocol, spec.seed)
        no_align = Step("no_align", stages.no_align, (*given, goal.unaligned(), *schedule, start, teacher))
        full = Step("full", stages.aligned, (*given, goal, *schedule, start, teacher))
        rescue = Step("rescue", stages.aligned, (*given, goal, *schedule, no_align, teacher))
        networks = {"no_align": no_align, "full": full, "rescue": rescue}
        networks |= {mode: self._control(mode, start, teacher) for mode in protocol.controls}
        if protocol.protection is not None:
            held = (*given, goal, protocol.protection, *schedule, no_align, teacher)
            networks[PROTECTED] = Step(PROTECTED, protected, held)
        if protocol.controller is not None:
            held = (*given, goal, protocol.controller, *schedule)
            networks["guarded_full"] = Step("guarded_full", stages.guarded, (*held, start, teacher))
            networks["guarded_rescue"] = Step("guarded_rescue", stages.guarded, (*held, no_align, teacher))
        if protocol.triad is not None:
            held = (*given, goal, protocol.triad, *schedule, start, teacher, read)
            networks["triad_full"] = Step("triad_full", triad, held)
            networks["triad_no_align"] = replace(no_align, name="triad_no_align")
        if protocol.curriculum is not None:
            held = (*given, goal, protocol.curriculum, *schedule, start, teacher)
            networks[CURRICULUM] = Step(CURRICULUM, curriculum, held)
        if protocol.live_features:
            networks |= self._live(start, teacher)
        return Graph(teacher, networks, read)

    def _control(self, mode: ControlMode, start: Step, teacher: Step) -> Step:
        spec, goal = self.spec, self.protocol.objective
        given, schedule = (spec.data, spec.model), (spec.training, spec.seed)
        match mode:
            case "head_only":
                return Step(mode, stages.head_only, (*given, goal, *schedule, start, teacher))
            case "untrained":
                return Step(mode, stages.untrained, (*given, self.protocol.teacher.classes, spec.seed))
            case "full_long":
                twice = replace(spec.training, epochs=2 * spec.training.epochs)
                return Step(mode, stages.aligned, (*given, goal, twice, spec.seed, start, teacher))
            case "permuted":
                mixed = Step("permuted_teacher", stages.permuted_teacher, (teacher, spec.seed))
                return Step(mode, stages.aligned, (*given, goal, *schedule, start, mixed))

    def _live(self, start: Step, teacher: Step) -> dict[str, Step]:
        spec, goal = self.spec, self.protocol.objective
        given, schedule = (spec.data, spec.model), (spec.training, spec.seed)
        no_align = Step("live_no_align", live_no_align, (*given, goal.unaligned(), *schedule, start, teacher))
        full = Step("live_full", live_aligned, (*given, goal, *schedule, start, teacher))
        rescue = Step("live_rescue", live_aligned, (*given, goal, *schedule, no_align, teacher))
        return {"live_no_align": no_align, "live_full": full, "live_rescue": rescue}

    def reads(self, mode: str) -> Reads:
        """How the network of a mode is judged."""
        if mode in LIVE:
            return Drifting()
        if mode in TRIAD:
            return Edges()
        if mode == "permuted":
            return Permuted()
        if mode == CURRICULUM and self.protocol.curriculum is not None:
            return Levels(self.protocol.curriculum.levels)
        if mode == PROTECTED and self.protocol.protection is not None:
            return Protected(self.protocol.protection)
        return Raw()

    def fits_heads(self, mode: str) -> bool:
        """Whether heads are fitted to its code afterwards."""
        return self.protocol.fair_heads and isinstance(self.reads(mode), Raw | Levels)

    def columns(self, mode: str) -> dict[str, Any]:
        """Weights that searches vary, and how the teacher came about."""
        goal = self.protocol.objective
        return {
            "alpha_kl": goal.alpha_kl,
            "lambda_ts": goal.lambda_ts,
            "lambda_bal": goal.lambda_bal,
            "teacher_features": "live" if mode in LIVE else "frozen",
            "teacher_seed": self.protocol.teacher_seed,
        }

    def verdict(self, facts: Mapping[str, Any]) -> Verdict:
        """Quality control of the teacher numbers of a row."""
        return judge(from_row(facts), self.protocol.teacher.thresholds)

    def pressure(self, mode: str) -> Pressure | None:
        """KL and alignment weight of a mode whose weights are fixed, for a forecast; None for modes that have none."""
        goal, sees = self.protocol.objective, self.spec.model.decoder_sees_teacher
        match mode:
            case "no_align" | "head_only" | "triad_no_align":
                return Pressure(goal.alpha_kl, 0.0, sees)
            case "full" | "rescue" | "full_long":
                return Pressure(goal.alpha_kl, goal.lambda_ts, sees)
            case _:
                return None


def warm_up(name: str, spec: CellSpec, protocol: Rescue | Baselines, seed: int) -> Step:
    """The plain VAE that every mode starts from, or that a teacher reads features of."""
    return Step(name, stages.warm_up, (spec.data, spec.model, protocol.teacher.classes, protocol.warm_up, seed))


def taught(spec: CellSpec, protocol: Rescue | Baselines, teacher_seed: int | None) -> tuple[Step | None, Step]:
    """The teacher, of this seed or of one for all seeds, and the warm-up that it reads features of, if it does."""
    name, seed = ("warm_up", spec.seed) if teacher_seed is None else ("teacher_warm_up", teacher_seed)
    if not isinstance(protocol.teacher, WarmUpGmm):
        return None, teachers.fixed(spec.data, protocol.teacher, seed)
    read = warm_up(name, spec, protocol, seed)
    return read, Step("teacher", stages.teacher, (spec.data, spec.model, protocol.teacher, seed, read))


@stage(version=1)
def protected(
    dataset: Dataset,
    model: Model,
    objective: Objective,
    protection: Protection,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """The full objective; while the raw head is below the buffer, a used head is aligned in its place."""
    from certvae.protocols import trained
    from certvae.quality import measure
    from certvae.training.losses import chain_loss
    from certvae.training.used_head import protected_alignment

    vae = trained.network(dataset, model, teacher.facts["classes"], start, bench)
    align = protected_alignment(protection, measure(teacher.arrays["targets_train"]).info)
    loss = chain_loss(model, objective.unaligned(), objective.lambda_ts, align=align)
    return trained.train(vae, dataset, teacher, loss, training, "protected", seed, bench)


@stage(version=1)
def triad(
    dataset: Dataset,
    model: Model,
    objective: Objective,
    triad: Triad,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    warm: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """The full objective and the two edges through the reconstruction, which the frozen teacher reads."""
    from certvae.protocols import trained
    from certvae.training.triad import triad_loss

    vae = trained.network(dataset, model, teacher.facts["classes"], start, bench)
    loss = triad_loss(model, objective, triad, trained.reading_teacher(dataset, model, warm, teacher, bench))
    return trained.train(vae, dataset, teacher, loss, training, "triad", seed, bench)


@stage(version=1)
def curriculum(
    dataset: Dataset,
    model: Model,
    objective: Objective,
    curriculum: Curriculum,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """The full objective, aligned with coarse partitions of the classes at first; every point shows all levels."""
    from certvae.properties import merged
    from certvae.protocols import trained
    from certvae.training.losses import levelled_loss

    vae = trained.network(dataset, model, teacher.facts["classes"], start, bench)
    levels = merged(teacher.arrays["targets_train"], curriculum.levels)
    loss = levelled_loss(model, objective, levels, curriculum.epochs)
    seen = trained.on_levels(dataset, teacher.arrays["targets_guard"], levels, bench)
    return trained.train(vae, dataset, teacher, loss, training, "curriculum", seed, bench, evaluate=seen)


@stage(version=1)
def live_aligned(
    dataset: Dataset,
    model: Model,
    objective: Objective,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """The full objective towards a teacher that reads the features of this very encoder."""
    from certvae.protocols.trained import train_live

    goal = (objective.unaligned(), objective.lambda_ts)
    return train_live(dataset, model, goal, training, seed, start, teacher, "live_aligned", bench)


@stage(version=1)
def live_no_align(
    dataset: Dataset,
    model: Model,
    objective: Unaligned,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """Without alignment; the teacher that is recorded, and that the decoder may see, drifts all the same."""
    from certvae.protocols.trained import train_live

    return train_live(dataset, model, (objective, 0.0), training, seed, start, teacher, "live_no_align", bench)
