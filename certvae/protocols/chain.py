"""One cell, top to bottom: train the chain, then judge it.

Which steps a cell takes is written in `rescue`, `baselines` and `simplex` beside this file; `of` is the one place that
knows them all, and everything here folds over the graph that one of them returns.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from certvae import fingerprint
from certvae.canonical import digest, plain
from certvae.certificate import CLAIM_SPLIT
from certvae.data.dataset import Dataset, Split
from certvae.data.preconditions import preconditions
from certvae.errors import NumberFault, TeacherFault
from certvae.installed import version
from certvae.looks.register import tell
from certvae.protocols import baselines, forecasting, judging, rescue, response, simplex, stages, teachers
from certvae.protocols.forecasting import Pressure
from certvae.protocols.judging import Look, Reads, Subject
from certvae.protocols.steps import Graph, Step, fold
from certvae.quality import NO_TEACHER, Verdict
from certvae.spec.baselines import Baselines
from certvae.spec.cell import CellSpec
from certvae.spec.modes import ordered
from certvae.spec.parts import Training
from certvae.spec.rescue import Rescue
from certvae.spec.simplex import Witness
from certvae.store import environments
from certvae.store.artifact import Artifact
from certvae.store.store import Stage, Store

Outcome = Literal["ok", "diverged", "infeasible_teacher"]
Row = dict[str, Any]
Announce = Callable[[str], None]
Published = Callable[[str, Artifact], None]
Only = tuple[str, ...]
"""Modes that are wanted of a cell; all of them when empty."""
VERSIONED = ("certvae", "torch", "numpy", "scikit-learn")
STAGES = (
    *(stages.warm_up, stages.teacher, stages.aligned, stages.no_align, stages.guarded, stages.response),
    *(stages.head_only, stages.untrained, stages.permuted_teacher),
    *(rescue.protected, rescue.live_aligned, rescue.live_no_align, rescue.triad, rescue.curriculum),
    *(baselines.baseline, baselines.aligned_baseline),
    *(teachers.labels_teacher, teachers.pca_teacher, teachers.feature_teacher, teachers.given_teacher),
    *(simplex.vae, simplex.initial, simplex.collapsed, simplex.prefit, simplex.escape),
    *(judging.judge, judging.fitted_heads, forecasting.spectrum),
)
"""The only list of all stages."""


class CellProtocol(Protocol):
    """What every protocol must tell of a cell: its steps, how modes are judged, and the columns of its rows."""

    def graph(self) -> Graph: ...

    def reads(self, mode: str) -> Reads: ...

    def fits_heads(self, mode: str) -> bool: ...

    def columns(self, mode: str) -> dict[str, Any]: ...

    def verdict(self, facts: Mapping[str, Any]) -> Verdict: ...

    def pressure(self, mode: str) -> Pressure | None: ...


def of(spec: CellSpec) -> CellProtocol:
    """The protocol of a cell; no other place knows the union of protocols."""
    match spec.protocol:
        case Rescue():
            return rescue.RescueProtocol(spec, spec.protocol)
        case Baselines():
            return baselines.BaselineProtocol(spec, spec.protocol)
        case Witness():
            return simplex.WitnessProtocol(spec, spec.protocol)


@dataclass(frozen=True)
class Failed:
    """A deterministic outcome that is not a network: it takes the place of an artifact, and of all that follow it."""

    outcome: Outcome
    reason: str


Ended = Artifact | Failed


@dataclass(frozen=True)
class Chain:
    """What training a cell left behind: all modes share one teacher, and one warm-up where its features come from.

    warm    None for a teacher that never read an encoder
    woken   what was known of a mode before it aligned a dead channel, as columns of its rows
    """

    spec: CellSpec
    warm: Ended | None
    teacher: Ended
    modes: Mapping[str, Ended]
    woken: Mapping[str, Row] = field(default_factory=dict)


def graph(spec: CellSpec, only: Only = ()) -> Graph:
    """The steps of a cell that these modes need."""
    return of(spec).graph().only(only)


def steps(spec: CellSpec, only: Only = ()) -> tuple[str, ...]:
    """What a cell does, in order; the modes are among them."""
    return (*(step.name for step in graph(spec, only).steps), "judge")


def lanes(spec: CellSpec, only: Only = ()) -> tuple[Only, ...]:
    """The modes of a cell in parts for several slots, the longest first; each needs the teacher, and no other part."""
    return graph(spec, only).lanes()


def modes(spec: CellSpec, only: Only = ()) -> tuple[str, ...]:
    """The networks of a cell that are judged, in the order of tables."""
    return tuple(ordered(graph(spec, only).networks))


def schedules(spec: CellSpec) -> dict[str, Training]:
    """The training schedule of each step that trains, for estimates of time."""
    return {step.name: step.schedule for step in graph(spec).steps if step.schedule is not None}


def shared(spec: CellSpec, only: Only = ()) -> dict[str, str]:
    """Every step by a digest of all that it reads: cells with the same digest compute that step once between them."""
    return {step.name: step.key for step in graph(spec, only).steps}


def found(spec: CellSpec, only: Only, dataset: Dataset, store: Store) -> dict[Step, Artifact | Step]:
    """What the store holds of each step of a cell, looked for with the inputs it would really get; else the step."""

    def look(step: Step, inputs: Sequence[Any]) -> Artifact | Step:
        absent = any(isinstance(given, Step) for given in inputs)
        return step if absent else store.find(step.stage, *inputs) or step

    return fold(graph(spec, only), dataset, look)


def silent(step: str) -> None:
    """Hears which step begins, and says nothing."""


def unseen(step: str, artifact: Artifact) -> None:
    """Sees what a step left, and says nothing."""


def train(
    spec: CellSpec,
    dataset: Dataset,
    store: Store,
    announce: Announce = silent,
    published: Published = unseen,
    *,
    only: Only = (),
    said: Announce = silent,
) -> Chain:
    """Trains a cell: runs all its stages, each computed once per store.

    Args:
        announce: hears which step begins; all steps before it are published then.
        published: sees what each step left in the store, now or earlier.
        only: the modes that are wanted; no step runs that none of them needs.
        said: hears what a user should know before alignment starts from a dead channel.
    """
    woken: dict[str, Row] = {}

    def make(step: Step, inputs: Sequence[Any]) -> Ended:
        announce(step.name)
        if (awakening := response.before(step, inputs, store)) is not None:
            said(f"{step.name} starts from a dead channel. {awakening.words}")
            woken[step.name] = awakening.columns
        ended = _call(store, step.stage, *inputs)
        if isinstance(ended, Artifact):
            published(step.name, ended)
        return ended

    wanted = graph(spec, only)
    made = fold(wanted, dataset, make)
    networks = {mode: made[wanted.networks[mode]] for mode in ordered(wanted.networks)}
    return Chain(spec, None if wanted.warm is None else made[wanted.warm], made[wanted.teacher], networks, woken)


def judge(chain: Chain, dataset: Dataset, store: Store, split: Split, looks: int = 1) -> list[Row]:
    """Judges a trained cell: one row per mode on one split, published in the store.

    Heads are fitted afterwards to say something of the certify split only: a search looks at the raw head alone.

    Bounds on the population, and the claim, are those of each row alone and of all its rows; `certvae.looks.together`
    gives those that hold together, without the claim where certify rows lie in train or guard.

    Args:
        looks: how many configs of the study may open this split: every bound uses delta / looks.
    """
    protocol, rows = of(chain.spec), []
    if split == CLAIM_SPLIT:
        tell(store.disk, dataset.digest, preconditions(dataset).facts)
    for mode, trained in chain.modes.items():
        look, reads = Look(split, looks, chain.spec.seed), protocol.reads(mode)
        judged = [
            _judged(store, stage, chain, dataset, trained, look, reads) for stage in judges(chain.spec, mode, split)
        ]
        row = _row(chain, mode, split, dataset, judged)
        known = _ahead(chain, mode, dataset, store) | chain.woken.get(mode, {}) if row["outcome"] == "ok" else {}
        rows.append(store.with_program(row | known))
    _publish(store, rows)
    for made_in in {row["environment"] for row in rows}:
        environments.remember(store.disk, made_in)
    return rows


def _publish(store: Store, rows: Sequence[Row]) -> None:
    """Rows of one study into the store; what is computed again takes the place of the stale rows of the same thing."""
    stale = [old for old in store.rows(rows[0]["study"]) if store.is_stale(old)] if store.recompute else []
    for row in rows:
        for old in stale:
            if _made_from(old) == _made_from(row):
                store.replace_row(old, row)
        store.put_row(row)


def _made_from(row: Mapping[str, Any]) -> dict[str, Any]:
    """What two rows of the same thing share, whatever their numbers; rows of other code or machines are others."""
    named = ("cell", "mode", "split", "environment")
    return {name: value for name, value in row.items() if name in named or name.startswith("stage_version_")}


def judges(spec: CellSpec, mode: str, split: Split) -> tuple[Stage, ...]:
    """The stages that judge a mode on one split: only certify is held against heads that are fitted afterwards."""
    fitted = split == "certify" and of(spec).fits_heads(mode)
    return (judging.judge, judging.fitted_heads) if fitted else (judging.judge,)


def judging_stages(spec: CellSpec, split: Split, only: Only = ()) -> list[str]:
    """The stages that judge a cell on one split, one per execution: what a judgement costs."""
    return [stage.name for mode in modes(spec, only) for stage in judges(spec, mode, split)]


def versions(spec: CellSpec, mode: str, split: Split) -> dict[str, int]:
    """Versions of the stages that a row is made by; another stage may change and the row stays what it is."""
    ahead = () if of(spec).pressure(mode) is None else (forecasting.spectrum,)
    made_by = (*(step.stage for step in graph(spec, (mode,)).steps), *judges(spec, mode, split), *ahead)
    return {stage.name: stage.version for stage in made_by}


def _judged(
    store: Store, stage: Stage, chain: Chain, dataset: Dataset, trained: Ended, look: Look, reads: Reads
) -> Ended:
    match chain.warm, chain.teacher, trained:
        case (Failed() as failed, _, _) | (_, Failed() as failed, _) | (_, _, Failed() as failed):
            return failed
        case warm, teacher, network:
            return _call(store, stage, Subject(dataset, chain.spec.model, teacher, network, warm), look, reads)


def _ahead(chain: Chain, mode: str, dataset: Dataset, store: Store) -> Row:
    """When this code collapses, as it was known before it was trained."""
    pressure = of(chain.spec).pressure(mode)
    if pressure is None or not isinstance(chain.teacher, Artifact):
        return {}
    return forecasting.columns(forecasting.spectrum_of(chain.spec.model, dataset, store), pressure, chain.teacher)


def _call(store: Store, stage: Stage, *inputs: Any) -> Ended:
    """A stage of the store; failures of its inputs and its own deterministic ones are passed on as values."""
    for given in inputs:
        if isinstance(given, Failed):
            return given
    try:
        return store.call(stage, *inputs)
    except NumberFault as fault:
        return Failed("diverged", str(fault))
    except TeacherFault as fault:
        return Failed(NO_TEACHER, str(fault))


def _row(chain: Chain, mode: str, split: Split, dataset: Dataset, judged: list[Ended]) -> Row:
    named = _named(chain, mode, split, dataset, judged)
    raw, *fitted = judged
    if isinstance(raw, Failed):
        return {**named, "outcome": raw.outcome, "reason": raw.reason}
    facts = dict(raw.facts)
    for ended in fitted:  # heads fitted afterwards take no certificate away when they fail
        facts |= ended.facts if isinstance(ended, Artifact) else {"posthoc_reason": ended.reason}
    facts |= _searched(chain.teacher)
    verdict = of(chain.spec).verdict(facts)
    return {
        **named,
        **facts,
        "outcome": "ok",
        "reason": "",
        "teacher_status": verdict.status,
        "teacher_verdict": str(verdict),
    }


def _named(chain: Chain, mode: str, split: Split, dataset: Dataset, judged: list[Ended]) -> Row:
    """What a row is about and what it was made by."""
    from certvae.training import environment

    spec, made_in = chain.spec, environment.fingerprint(fingerprint.device())
    ended = {"warm_up": chain.warm, "teacher": chain.teacher, "trained": chain.modes[mode]}
    ended |= zip(("judged", "fitted"), judged, strict=False)
    return {
        "study": spec.study,
        "cell": spec.cell,
        "config": spec.config,
        "seed": spec.seed,
        "mode": mode,
        "split": split,
        "classes": spec.protocol.teacher.classes,
        "data": spec.data.name,
        "data_digest": dataset.digest,
        "substitute": dataset.substitute,
        **of(spec).columns(mode),
        "spec": plain(spec),
        "environment": digest(made_in),
        "device": made_in["device"],
        **{f"key_{name}": found.key for name, found in ended.items() if isinstance(found, Artifact)},
        **{f"version_{name}": version(name) for name in VERSIONED},
        **{f"stage_version_{name}": version for name, version in versions(spec, mode, split).items()},
    }


def _searched(teacher: Ended) -> Row:
    """Quality control on the guard rows, where the teacher was chosen: it has one verdict, whatever split is judged."""
    found = teacher.facts["quality"] if isinstance(teacher, Artifact) else {}
    return {f"teacher_{name}": value for name, value in found.items() if name != "classes"}
