"""Judges a trained network on one split, and says what is read besides for each kind of mode.

    judge          certificate, diagnostics and pictures of the network as it was trained
    fitted_heads   heads fitted to its code afterwards, so that a latent is judged only after it had a fair chance

Facts only: no threshold enters, so thresholds stay views; on certify rows the scores behind each claim are kept, so
that the number of looks is one as well. A diagnostic that is added raises one version here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from certvae.data.dataset import Dataset, Split
from certvae.spec.baselines import Baseline
from certvae.spec.parts import Model
from certvae.spec.rescue import Protection
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Workbench, stage

if TYPE_CHECKING:
    from certvae.evaluation.facts import Exam, Fact
    from certvae.models.nets import Vae


@dataclass(frozen=True)
class Subject:
    """A network to be judged, with the data and the teacher that it is held against.

    warm   the network whose features the teacher reads; None for a teacher that never reads an encoder
    """

    dataset: Dataset
    model: Model
    teacher: Artifact
    trained: Artifact
    warm: Artifact | None = None


@dataclass(frozen=True)
class Look:
    """The split that a network is judged on, at a number of looks.

    looks   configs that may open it: every bound uses delta / looks
    seed    of the cell: draws of a judgement are functions of it
    """

    split: Split
    looks: int
    seed: int


@dataclass(frozen=True)
class Raw:
    """The raw head of a chain's network, against the frozen teacher."""


@dataclass(frozen=True)
class Protected:
    """The raw head is certified; what the used head that trained in its place says stands beside it as `used_*`."""

    protection: Protection


@dataclass(frozen=True)
class Drifting:
    """Against the rows that the teacher shows on the features of the trained network itself."""


@dataclass(frozen=True)
class Edges:
    """The raw head against the frozen teacher, and the three edges of a triad, which are not certified."""


@dataclass(frozen=True)
class Levels:
    """The raw head against the frozen teacher, and against coarser ones whose classes are parts of its classes."""

    counts: tuple[int, ...]


@dataclass(frozen=True)
class Permuted:
    """Against teacher rows that belong to other images of the split."""


@dataclass(frozen=True)
class Unguided:
    """A baseline, which never heard of the teacher, with what only this baseline has."""

    baseline: Baseline


@dataclass(frozen=True)
class Simplex:
    """The fixed witness of arXiv 2605.18224: its subspace, the decoder's use of it, and the view gap of the teacher."""


Reads = Raw | Protected | Drifting | Edges | Levels | Permuted | Unguided | Simplex
"""What a judgement reads besides what all of them read."""


@stage(version=6)
def judge(subject: Subject, look: Look, reads: Reads, *, bench: Workbench) -> Content:
    """Certificate, diagnostics and pictures of one network on one split."""
    from certvae.evaluation import facts

    exam = examined(subject, look, reads, bench)
    known = {"teacher_source": subject.teacher.facts["source"]}
    found = facts.facts(exam, subject.dataset.std, look.seed)
    return facts.content({**found, **known, **_beside(exam, subject, look, reads, bench)}, facts.pictures(exam))


@stage(version=5)
def fitted_heads(subject: Subject, look: Look, reads: Reads, *, bench: Workbench) -> Content:
    """Heads that are fitted on train rows to the code of a trained network, held against one split."""
    from certvae.evaluation import facts, simplex

    exam = examined(subject, look, reads, bench)
    given = (subject.dataset, subject.teacher, look.seed, bench)
    match reads:
        case Simplex():
            found = simplex.fair_facts(exam, simplex.witness_of(exam.vae), subject.model.likelihood, *given)
        case _:
            found = facts.posthoc_facts(exam, *given)
    return facts.content(found)


def examined(subject: Subject, look: Look, reads: Reads, bench: Workbench) -> "Exam":
    """Passes the network over the split; the exam holds what came out, and the teacher rows to compare with."""
    from certvae.evaluation import facts
    from certvae.protocols import trained
    from certvae.teachers.kinds import FeatureTeacher

    classes = subject.teacher.facts["classes"]
    vae = network(reads, subject.model, subject.dataset.shape, classes, subject.trained, bench)
    targets = trained.teacher_rows(subject.dataset, subject.model, subject.warm, subject.teacher, look.split, bench)
    if isinstance(reads, Permuted):
        targets = trained.permuted(targets, look.split, look.seed)
    live = FeatureTeacher.of(subject.teacher, bench.device) if isinstance(reads, Drifting) else None
    return facts.exam(vae, subject.dataset, targets, look.split, look.looks, subject.teacher, bench, live)


def network(
    reads: Reads, model: Model, shape: tuple[int, int, int], classes: int, trained: Artifact, bench: Workbench
) -> "Vae":
    """The network of an artifact, on the device; what is read tells which kind it is."""
    from certvae.models import nets
    from certvae.protocols.trained import loaded
    from certvae.training import baselines

    match reads:
        case Unguided(baseline=baseline):
            return loaded(baselines.network(baseline, model, shape, classes, seed=0), trained, bench)
        case _:
            return loaded(nets.build(model, shape, classes, seed=0), trained, bench)


def _beside(exam: "Exam", subject: Subject, look: Look, reads: Reads, bench: Workbench) -> "dict[str, Fact]":
    """Facts that only this way of reading has."""
    match reads:
        case Raw() | Permuted():
            return {}
        case Protected(protection=protection):
            return _used(exam, subject, look, protection, bench)
        case Drifting():
            return _drift(exam, subject, look, bench)
        case Edges():
            return _edges(exam, subject, bench)
        case Levels(counts=counts):
            from certvae.properties import levels, merged

            known = merged(subject.teacher.arrays["targets_train"], counts)
            return dict(levels(exam.pairs(exam.raw_logits()), known))
        case Unguided(baseline=baseline):
            from certvae.training import baselines

            return dict(baselines.facts(baseline, exam.vae, exam.seen.mu, exam.seen.logvar))
        case Simplex():
            return _witness(exam, subject, look, bench)


def _used(exam: "Exam", subject: Subject, look: Look, protection: Protection, bench: Workbench) -> dict[str, Any]:
    """The map of the used head is fitted on guard rows, and read on those of the exam."""
    from certvae.certificate import Pairs
    from certvae.evaluation import diagnostics
    from certvae.training import used_head

    guard = subject.teacher.arrays["targets_guard"]
    logits = diagnostics.head_logits(exam.vae.head, diagnostics.features(exam.vae, subject.dataset, "guard", bench))
    fitted_on = (guard, Pairs.from_logits(guard, logits, split="guard").log_student)
    judged_on = (exam.teacher, exam.pairs(exam.raw_logits()).log_student)
    used = used_head.diagnose(protection, fitted_on, judged_on, split=look.split)
    return {"used_loss": used.loss, "used_margin": used.margin}


def _drift(exam: "Exam", subject: Subject, look: Look, bench: Workbench) -> dict[str, Any]:
    """How far the teacher moved from Q; the quality that stands in the row is that of Q, known before training."""
    from certvae.evaluation import facts
    from certvae.protocols import trained

    cached = trained.teacher_rows(subject.dataset, subject.model, subject.warm, subject.teacher, look.split, bench)
    moved = trained.drift(cached, exam.teacher, look.split)
    return {**facts.teacher_quality(cached), "teacher_drift": moved}


def _edges(exam: "Exam", subject: Subject, bench: Workbench) -> "dict[str, Fact]":
    from certvae.evaluation import edges
    from certvae.protocols import trained

    if subject.warm is None:
        raise ValueError("a triad needs a teacher that reads an encoder: give the network that it reads")
    return edges.of_exam(
        exam, trained.reading_teacher(subject.dataset, subject.model, subject.warm, subject.teacher, bench)
    )


def _witness(exam: "Exam", subject: Subject, look: Look, bench: Workbench) -> dict[str, Any]:
    from certvae.evaluation import simplex
    from certvae.teachers import kinds

    head = simplex.witness_of(exam.vae)
    found = simplex.witness_facts(exam, head, subject.model.likelihood, look.seed)
    gap = kinds.read(subject.teacher, bench.device).view_gap(subject.dataset, look.split)
    return {**found, "view_gap": gap}
