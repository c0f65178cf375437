"""One cell, top to bottom: train the chain, then judge it.

The graphs of stages, and what is shared, stand in `rescue`, `baselines` and `simplex` beside this file.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from certvae import quality
from certvae.canonical import digest, plain
from certvae.data.dataset import Dataset, Split
from certvae.errors import NumberFault, TeacherFault
from certvae.protocols import baselines, rescue, simplex, stages
from certvae.protocols.rescue import PROTECTED
from certvae.spec.baselines import Baselines
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Data, Training
from certvae.spec.rescue import Rescue
from certvae.spec.simplex import Witness
from certvae.store.artifact import Artifact
from certvae.store.store import Stage, Store
from certvae.training import environment

Outcome = Literal["ok", "diverged", "infeasible_teacher"]
Row = dict[str, Any]
Announce = Callable[[str], None]
Published = Callable[[str, Artifact], None]
Only = tuple[str, ...]
"""Modes that are wanted of a cell; all of them when empty."""
LIVE = ("live_full", "live_no_align", "live_rescue")
VERSIONED = ("certvae", "torch", "numpy", "scikit-learn")


def silent(step: str) -> None:
    """Hears which step begins, and says nothing."""


def unseen(step: str, artifact: Artifact) -> None:
    """Sees what a step left, and says nothing."""


@dataclass(frozen=True)
class Failed:
    """A deterministic outcome that is not a network: it takes the place of an artifact, and of all that follow it."""

    outcome: Outcome
    reason: str


Ended = Artifact | Failed
Call = Callable[..., Any]


@dataclass(frozen=True)
class Chain:
    """What training a cell left behind: all modes share one teacher, and one warm-up where its features come from.

    warm    None for a teacher that never read an encoder
    """

    spec: CellSpec
    warm: Ended | None
    teacher: Ended
    modes: Mapping[str, Ended]


def steps(spec: CellSpec, only: Only = ()) -> tuple[str, ...]:
    """What a cell does, in order; the modes are among them."""
    needed = {*_needs(spec, only), "judge"}
    return tuple(step for step in _steps(spec) if step in needed)


def modes(spec: CellSpec, only: Only = ()) -> tuple[str, ...]:
    """The networks of a cell that are judged, in the order of tables."""
    return tuple(mode for mode in _modes(spec) if not only or mode in only)


def _needs(spec: CellSpec, only: Only = ()) -> frozenset[str]:
    """The steps that these modes are made by and judged with, their own among them."""

    def made(step: str, stage: Stage, *inputs: Any) -> frozenset[str]:  # noqa: ARG001 - only names matter
        return _before(inputs) | {step}

    chain = _walk(spec, spec.data, made)
    return _before([chain.warm, chain.teacher, *(chain.modes[mode] for mode in modes(spec, only))])


def _before(inputs: Iterable[Any]) -> frozenset[str]:
    return frozenset().union(*(given for given in inputs if isinstance(given, frozenset)))


def _steps(spec: CellSpec) -> tuple[str, ...]:
    match spec.protocol:
        case Rescue(teacher_seed=teacher_seed):
            taught = ("warm_up", "teacher") if teacher_seed is None else ("teacher_warm_up", "teacher", "warm_up")
            later = tuple(mode for mode in (PROTECTED, *LIVE) if mode in _modes(spec))
            return (*taught, "no_align", "full", "rescue", *later, "judge")
        case Baselines():
            return ("warm_up", "teacher", *_modes(spec), "judge")
        case Witness():
            return simplex.steps(spec.protocol)


def _modes(spec: CellSpec) -> tuple[str, ...]:
    match spec.protocol:
        case Rescue(protection=protection, live_features=live):
            later = ((PROTECTED,) if protection else ()) + (LIVE if live else ())
            return ("full", "no_align", "rescue", *later)
        case Baselines(baselines=listed):
            return tuple(baseline.name for baseline in listed)
        case Witness():
            return spec.protocol.modes


def schedules(spec: CellSpec) -> dict[str, Training]:
    """The training schedule of each step that trains, for estimates of time."""
    match spec.protocol:
        case Rescue(warm_up=warm_up) | Baselines(warm_up=warm_up):
            warm = {step: warm_up.training for step in steps(spec) if step.endswith("warm_up")}
            return warm | dict.fromkeys(modes(spec), spec.training)
        case Witness():
            return simplex.schedules(spec, spec.protocol)


def train(
    spec: CellSpec,
    dataset: Dataset,
    store: Store,
    announce: Announce = silent,
    published: Published = unseen,
    *,
    only: Only = (),
) -> Chain:
    """All stages of a cell, each computed once per store.

    Args:
        announce: hears which step begins; all steps before it are published then.
        published: sees what each step left in the store, now or earlier.
        only: the modes that are wanted; no step runs that none of them needs.
    """

    def call(step: str, stage: Stage, *inputs: Any) -> Ended:
        announce(step)
        ended = _call(store, stage, *inputs)
        if isinstance(ended, Artifact):
            published(step, ended)
        return ended

    return walk(spec, dataset, call, only)


def walk(spec: CellSpec, dataset: Dataset | Data, call: Call, only: Only = ()) -> Chain:
    """The graph of a cell as calls of `call(step, stage, *inputs)`: to compute stages, to name them, or to look."""
    needed = _needs(spec, only)
    chain = _walk(spec, dataset, lambda step, *given: call(step, *given) if step in needed else None)
    return replace(chain, modes={mode: chain.modes[mode] for mode in modes(spec, only)})


def _walk(spec: CellSpec, dataset: Dataset | Data, call: Call) -> Chain:
    match spec.protocol:
        case Rescue():
            return Chain(spec, *rescue.rescue(spec, spec.protocol, dataset, call))
        case Baselines():
            return Chain(spec, *rescue.baselines(spec, spec.protocol, dataset, call))
        case Witness():
            return Chain(spec, None, *simplex.walk(spec, spec.protocol, dataset, call))


def judge(chain: Chain, dataset: Dataset, store: Store, split: Split, looks: int = 1) -> list[Row]:
    """One row per mode on one split, published in the store.

    Heads are fitted afterwards to say something of the certify split only: a search looks at the raw head alone.

    Args:
        looks: how many configs of the study may open this split: every bound uses delta / looks.
    """
    rows, read = [], () if chain.warm is None else (chain.warm,)
    for mode, trained in chain.modes.items():
        judged_by = _judges(chain.spec, mode)
        place = (chain.spec.seed, split, looks, *read, chain.teacher, trained)
        found = [
            _call(store, stage, dataset, chain.spec.model, *judged_by.reads, *place) for stage in judged_by.on(split)
        ]
        rows.append(_row(chain, mode, split, dataset, found))
        store.put_row(rows[-1])
    return rows


@dataclass(frozen=True)
class _Judges:
    """The stages that judge a mode, and what they read besides what all of them read."""

    stage: Stage
    posthoc: Stage | None = None
    reads: tuple[Any, ...] = ()

    def on(self, split: Split) -> tuple[Stage, ...]:
        """The stages of one split: only certify is held against heads that are fitted afterwards."""
        return (self.stage,) if self.posthoc is None or split != "certify" else (self.stage, self.posthoc)


def _judges(spec: CellSpec, mode: str) -> _Judges:
    match spec.protocol:
        case Rescue(protection=protection, fair_heads=fair):
            if mode in LIVE:
                return _Judges(rescue.judge_live)
            if mode == PROTECTED:
                return _Judges(rescue.judge_protected, reads=(protection,))
            return _Judges(stages.judge, stages.posthoc if fair else None)
        case Baselines(baselines=listed):
            named = next(baseline for baseline in listed if baseline.name == mode)
            return _Judges(baselines.judge_baseline, baselines.posthoc_baseline, (named,))
        case Witness():
            return _Judges(simplex.judge_witness, simplex.fair_witness)


def shared(spec: CellSpec, only: Only = ()) -> dict[str, str]:
    """Every step by a digest of all that it reads: cells with the same digest compute that step once between them."""
    named: dict[str, str] = {}

    def name(step: str, stage: Stage, *inputs: Any) -> str:
        named[step] = digest([stage.name, stage.version, *inputs])
        return named[step]

    walk(spec, spec.data, name, only)
    return named


def judging(spec: CellSpec, split: Split, only: Only = ()) -> list[str]:
    """The stages that judge a cell on one split, one per execution: what a judgement costs."""
    return [stage.name for mode in modes(spec, only) for stage in _judges(spec, mode).on(split)]


@dataclass(frozen=True)
class _Made:
    """A stage of a chain that nobody computes: versions of the stage and of all it is made from, by name."""

    versions: Mapping[str, int]


def versions(spec: CellSpec, mode: str, split: Split) -> dict[str, int]:
    """Versions of the stages that a row is made by; another stage may change and the row stays what it is."""

    def made(step: str, stage: Stage, *inputs: Any) -> _Made:  # noqa: ARG001 - two steps may be one stage
        return _made_by(stage, inputs)

    chain = walk(spec, spec.data, made, (mode,))
    read = (chain.warm, chain.teacher, chain.modes[mode])
    judged = [_made_by(stage, read).versions for stage in _judges(spec, mode).on(split)]
    return {name: version for found in judged for name, version in found.items()}


def _made_by(stage: Stage, inputs: Iterable[Any]) -> _Made:
    earlier = (given.versions for given in inputs if isinstance(given, _Made))
    return _Made({name: version for found in earlier for name, version in found.items()} | {stage.name: stage.version})


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
        return Failed("infeasible_teacher", str(fault))


def _row(chain: Chain, mode: str, split: Split, dataset: Dataset, judged: list[Ended]) -> Row:
    spec, made_in = chain.spec, environment.fingerprint(environment.device())
    named = {
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
        **hyper_parameters(spec, mode),
        **teaching(spec, mode),
        "spec": plain(spec),
        "environment": digest(made_in),
        "device": made_in["device"],
        **{f"key_{name}": ended.key for name, ended in _artifacts(chain, mode, judged[0]).items()},
        **{f"version_{name}": environment.version(name) for name in VERSIONED},
        **{f"stage_version_{name}": version for name, version in versions(spec, mode, split).items()},
    }
    raw, *fitted = judged
    if isinstance(raw, Failed):
        return {**named, "outcome": raw.outcome, "reason": raw.reason}
    facts = dict(raw.facts)
    for ended in fitted:  # heads fitted afterwards take no certificate away when they fail
        facts |= ended.facts if isinstance(ended, Artifact) else {"posthoc_reason": ended.reason}
    facts |= _searched(chain.teacher)
    judgement = verdict(spec, facts)
    return {
        **named,
        **facts,
        "outcome": "ok",
        "reason": "",
        "teacher_status": judgement.status,
        "teacher_verdict": str(judgement),
    }


def _searched(teacher: Ended) -> Row:
    """Quality control on the guard rows, where the teacher was chosen: it has one verdict, whatever split is judged."""
    found = teacher.facts["quality"] if isinstance(teacher, Artifact) else {}
    return {f"teacher_{name}": value for name, value in found.items() if name != "classes"}


def _artifacts(chain: Chain, mode: str, judged: Ended) -> dict[str, Artifact]:
    ended = {"warm_up": chain.warm, "teacher": chain.teacher, "trained": chain.modes[mode], "judged": judged}
    return {name: found for name, found in ended.items() if isinstance(found, Artifact)}


def hyper_parameters(spec: CellSpec, mode: str) -> dict[str, float | None]:
    """The weights that searches vary, as columns of a row."""
    match spec.protocol:
        case Rescue(objective=goal):
            return {"alpha_kl": goal.alpha_kl, "lambda_ts": goal.lambda_ts, "lambda_bal": goal.lambda_bal}
        case Baselines(baselines=listed):
            weights = {baseline.name: baseline.alpha_kl for baseline in listed}
            return {"alpha_kl": weights[mode], "lambda_ts": 0.0, "lambda_bal": 0.0}
        case Witness():
            return simplex.hyper_parameters(spec, spec.protocol, mode)


def teaching(spec: CellSpec, mode: str) -> dict[str, str | int | None]:
    """How the teacher of a mode came about: rows that differ here answer different questions and are not pooled.

    teacher_features  `frozen`: T is a function of x; `live`: it drifts with the encoder
    teacher_seed      the seed whose teacher all seeds share, or None where each searches its own
    """
    features = "live" if mode in LIVE else "frozen"
    match spec.protocol:
        case Rescue(teacher_seed=teacher_seed):
            return {"teacher_features": features, "teacher_seed": teacher_seed}
        case Baselines() | Witness():
            return {"teacher_features": features, "teacher_seed": None}


def verdict(spec: CellSpec, facts: dict[str, Any]) -> quality.Verdict:
    """Quality control of the teacher numbers of a row."""
    match spec.protocol:
        case Rescue(teacher=teacher) | Baselines(teacher=teacher):
            return quality.judge(quality.from_row(facts), teacher.thresholds)
        case Witness(teacher=teacher):
            return simplex.verdict(teacher, facts)


STAGES = (
    *(stages.warm_up, stages.teacher, stages.aligned, stages.no_align, stages.judge, stages.posthoc),
    *(rescue.protected, rescue.judge_protected),
    *(rescue.live_aligned, rescue.live_no_align, rescue.judge_live),
    *(baselines.baseline, baselines.judge_baseline, baselines.posthoc_baseline),
    *(simplex.labels_teacher, simplex.pca_teacher, simplex.vae, simplex.initial, simplex.collapsed),
    *(simplex.prefit, simplex.escape, simplex.judge_witness, simplex.fair_witness),
)
"""The only list of all stages."""
