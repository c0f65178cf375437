"""The rule of a search: what is searched, how, and on which seeds. A store holds one rule per study."""

from dataclasses import dataclass, replace
from typing import Any

from certvae.canonical import plain
from certvae.data.dataset import Split
from certvae.engine.dispatch import Cell
from certvae.engine.early_stop import StopRule
from certvae.engine.samplers import AUTO, read, written
from certvae.engine.space import Space
from certvae.errors import SearchFault
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.spec.goal import RULE, Goal
from certvae.spec.validation import check_seeds
from certvae.store.store import Store

SEARCHED: tuple[Split, ...] = ("guard",)
CONFIRMED: tuple[Split, ...] = ("guard", "certify")
DIGEST, DIGITS = 64, 12  # length of a config's digest, and how much of it is shown


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched, by which rule, and with which seeds; the number of configs is a total and may grow."""

    base: CellSpec
    space: Space
    goal: Goal
    sampler: str
    total: int
    lag: int
    study_seed: int
    seeds: tuple[int, ...]
    confirmation_seeds: tuple[int, ...]
    early_stop: float | None = None
    """Confidence with which a hopeless cell is censored; none is when absent."""
    race: float | None = None
    """Confidence with which the seeds of a config that can hardly win are dropped; all run when absent."""
    every_mode: bool = False
    """Search cells train all modes, and not only those that the goal reads."""

    def __post_init__(self) -> None:
        self._check_seeds()
        self._check_modes()
        self._check_ending_early()

    @property
    def bounded(self) -> bool:
        """Whether a config can be out of reach: of a constraint, or of the best score."""
        return bool(self.goal.constraints) or not self.goal.pareto

    def _check_seeds(self) -> None:
        check_seeds(self.seeds)
        check_seeds(self.confirmation_seeds)
        if both := sorted(set(self.seeds) & set(self.confirmation_seeds)):
            raise SearchFault(
                f"seeds {both} are both search and confirmation seeds",
                "give disjoint --search-seeds and --confirmation-seeds",
                where=self.base.study,
                cause="a winner confirmed on the seeds that chose it is confirmed by nothing",
            )

    def _check_modes(self) -> None:
        there = chain.modes(self.base)
        if unknown := sorted({self.goal.mode, self.goal.reference} - set(there)):
            raise SearchFault(
                f"the goal reads {', '.join(unknown)}, and a cell trains {', '.join(there)}",
                "name modes of the cell, or add them to it (--modes, where the protocol has a choice)",
                where="--goal.mode, --goal.reference",
                cause="a mode that no cell trains would leave every config incomplete",
            )

    def _check_ending_early(self) -> None:
        """Refuses to censor cells, or to race seeds, where nothing can be said of a config before its end."""
        if self.early_stop is not None and self.goal.kind == "max_kl":
            raise SearchFault(
                "nothing can be said of a config before its end",
                "leave --early-stop away",
                where="--early-stop",
                cause="a curve shows no bound on draws, and how a code ends under a KL weight is not seen halfway",
            )
        if self.early_stop is not None and not self.bounded:
            raise SearchFault(
                "nothing can be said of a config before its end",
                "add --goal.psnr-drop or --goal.psnr-floor, or leave --early-stop away",
                where="--early-stop",
                cause="a front of margin and PSNR without a constraint has no config that is out of reach",
            )
        if self.race is not None and not (self.bounded and len(self.seeds) > 1):
            raise SearchFault(
                "a race has nothing to compare",
                "give two --search-seeds or more and, with --goal.pareto, a constraint, or leave --race away",
                where="--race",
                cause="a config is dropped after some of its seeds when a constraint or the best score is out of reach",
            )

    def cells(self, spec: CellSpec, stop: StopRule | None = None) -> list[Cell]:
        """The cells of a config in the search: one per search seed, guard split, only the modes that the goal reads."""
        only = () if self.every_mode else (self.goal.mode, self.goal.reference)
        return [Cell(replace(spec, seed=seed), SEARCHED, only, stop=stop) for seed in self.seeds]

    def confirmation(self, spec: CellSpec, splits: tuple[Split, ...] = CONFIRMED) -> list[Cell]:
        """The cells of a winner: one per confirmation seed, with all modes."""
        return [Cell(replace(spec, seed=seed), splits) for seed in self.confirmation_seeds]

    def rule(self) -> dict[str, Any]:
        """The part of a search that must not change: under another rule its proposals would mean something else."""
        return {
            "config": self.base.config,
            "goal": self.goal,
            "sampler": written(self.sampler),
            "lag": self.lag,
            "study_seed": self.study_seed,
            "seeds": list(self.seeds),
            "early_stop": self.early_stop,
            "race": self.race,
        }


def going_on(search: Search, store: Store) -> Search:
    """The search as it began: with its sampler, where no other one is asked for, and by the seeds of each config alone,
    where it began before configs were judged together."""
    found = store.get_document(RULE, search.base.study)
    if found is None:
        return search
    sampler = read(found["sampler"]) if search.sampler == AUTO else search.sampler
    pooled = search.goal.pooled and "pooled" in found["goal"]
    return replace(search, sampler=sampler, goal=replace(search.goal, pooled=pooled))


def settle_rule(search: Search, store: Store) -> None:
    """Publishes the rule of a study, where the store holds none.

    Raises:
        SearchFault: the store holds proposals made by another rule.
    """
    check_rule(search, store)
    if store.get_document(RULE, search.base.study) is None:
        store.put_document(RULE, search.base.study, plain(search.rule()))


def check_rule(search: Search, store: Store) -> None:
    """Compares the rule of a search with the one that the store holds, if it holds one.

    Raises:
        SearchFault: they differ.
    """
    wanted, found = plain(search.rule()), store.get_document(RULE, search.base.study)
    if found is None:
        return
    found = found | {"goal": plain(Goal.of(found["goal"]))}
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if not differing:
        return
    shown = [f"{name} ({_short(found.get(name))} there, {_short(wanted[name])} here)" for name in differing]
    raise SearchFault(
        f"the search in the store differs in {', '.join(shown)}",
        "repeat the options of the first run, or name a new study with --study",
        where=f"{store.path}, study {search.base.study}",
        cause="proposals of one rule cannot be continued by another",
    )


def _short(value: Any) -> str:
    """A value as a message shows it; a digest in the digits that tables show."""
    text = str(value)
    return text[:DIGITS] if len(text) == DIGEST else text
