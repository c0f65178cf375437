"""Guards the certify rows: says what a run is about to open and what that costs other looks, and registers it.

Search sees the guard split. A bound on certify rows holds for a student that was fixed before they were looked at, and
each config that looks makes all bounds on these rows pay: see `certvae.looks`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from certvae.errors import StoreFault
from certvae.looks.register import LOOKS, SPLIT, Look, Register, adopt, declare, recorded, register, tell
from certvae.looks.view import together
from certvae.preconditions import warnings
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.store.records import documents
from certvae.store.store import Store
from certvae.terminal import number_of

MOST_TOLD = 3  # other looks whose cost is told


class Gate:
    """The certify rows of one data set, for the configs of a run.

    Args:
        store: holds the register.
        data: name of the data set.
        data_digest: of its pixels and splits.
        tested: what was found of its certify rows; see `data.preconditions`.
        declared: looks that the command declares; the register counts what is opened when absent.
        again: stale rows are made again: a program that was changed since it looked takes another look.
    """

    def __init__(
        self,
        store: Store,
        data: str,
        data_digest: str = "",
        tested: Mapping[str, Any] | None = None,
        declared: int | None = None,
        *,
        again: bool = False,
    ):
        self._store, self._data, self._digest, self._declared = store, data, data_digest, declared
        self._again = again
        self._tested = tested or {}

    def price(self, configs: Iterable[CellSpec]) -> int:
        """The number by which delta is divided once these configs have looked.

        Raises:
            StoreFault: more are claimed than were declared, here or before.
        """
        now = Register(self._store.disk)
        _, new = self._split(configs, now)
        claimed = len(now.at(self._look())) + len(new)
        declared = max(now.declared(self._look()), self._declared or 0)
        if declared and claimed > declared:
            raise _too_many(self._store, new, declared, claimed)
        return max(declared, claimed, 1)

    def open(self, configs: Sequence[CellSpec]) -> None:
        """Registers the look of each config. One that has looked before costs nothing: that is how a run resumes.

        Two drivers that open at once may exceed together what was declared; bounds then pay for what was opened.

        Raises:
            StoreFault: see `price`.
            DiskFault: the register cannot be written.
        """
        self.price(configs)
        disk = self._store.disk
        adopt(disk)
        if self._tested:
            tell(disk, self._digest, self._tested)
        if self._declared:
            declare(disk, self._look(), self._declared)
        for config in configs:
            register(disk, self._look(config), again=self._again)
        for study in {config.study for config in configs}:
            self._store.expect(study, {LOOKS: documents(disk, LOOKS)})

    def told(self, configs: Sequence[CellSpec]) -> list[str]:
        """Lines for the user: which look this is, and what it costs the others. Nothing is opened.

        Raises:
            StoreFault: see `price`.
        """
        now, price = Register(self._store.disk), self.price(configs)
        known, new = self._split(configs, now)
        there = now.at(self._look())
        if not new:
            places = [at for at, look in enumerate(there, start=1) if look in known]
            return [f"certify rows: {_places(places)} of {price}, opened before"]
        places = range(len(there) + 1, len(there) + len(new) + 1)
        share = f", every bound on them uses delta / {price}" if price > 1 else ""
        costs = self._costs(there, now.price(self._look()), price)
        return [f"certify rows: {_places(places)} of {price}{share}", *(f"  costs {line}" for line in costs)]

    def others(self, study: str) -> list[str]:
        """The looks of other studies at the same rows: their bounds pay for the looks of this study too."""
        return [_named(look) for look in Register(self._store.disk).at(self._look()) if look.study != study]

    def warnings(self, classes: int) -> list[str]:
        """Lines on what is wrong with the certify rows themselves, such as leaks and repeats."""
        return warnings(self._tested or None, classes)

    def _costs(self, there: Sequence[Look], before: int, after: int) -> list[str]:
        """What a higher price does to the looks that are there."""
        if before == after:
            return []
        lines = []
        for look in there[:MOST_TOLD]:
            rows = [row for row in self._store.rows(look.study) if row["config"] == look.config]
            then, later = (_held(together(self._store.disk, rows, price)) for price in (before, after))
            lines.append(f"{_named(look)}: {_change(then, later)}")
        return lines + ([f"and {number_of(len(there) - MOST_TOLD, 'other look')}"] if len(there) > MOST_TOLD else [])

    def _split(self, configs: Iterable[CellSpec], now: Register) -> tuple[list[Look], list[Look]]:
        """Those that were opened before, and those that were not."""
        wanted = {config.config: self._look(config) for config in configs}.values()
        new = [look for look in wanted if look.is_new(now.looks, again=self._again)]
        known = [now.find(*look.opening) for look in wanted if look not in new]
        return [look for look in known if look], new

    def _look(self, config: CellSpec | None = None) -> Look:
        """The look of a config; without one, the rows alone."""
        certify = self._tested.get("certify")
        if config is None:
            return Look("", "", self._data, certify)
        return Look(config.study, config.config, self._data, certify, chain.modes(config), self._store.program)


def opened_for(store: Store, study: str, seen: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """The configs of a study that have looked at certify rows; none while these are closed.

    Args:
        seen: rows of the study, which tell of openings whose record was lost.
    """
    told = {row["config"] for row in seen if row["study"] == study and row["split"] == SPLIT}
    return sorted(told | {look.config for look in recorded(store.disk) if look.study == study})


def _held(rows: Iterable[Mapping[str, Any]]) -> list[float]:
    """Bounds of the raw heads that are certified."""
    bounds = [row.get("population_bound") for row in rows if row["split"] == SPLIT]
    return [bound for bound in bounds if bound is not None and bound > 0]


def _change(then: Sequence[float], later: Sequence[float]) -> str:
    counts = f"{number_of(len(then), 'head')} certified" + (f", then {len(later)}" if len(later) != len(then) else "")
    return f"{counts}, least bound {min(then):+.3f} -> {min(later):+.3f}" if later else counts


def _named(look: Look) -> str:
    return f"{look.study} {look.config[:12]}"


def _places(places: Sequence[int]) -> str:
    return f"look {places[0]}" if len(places) == 1 else f"looks {places[0]} to {places[-1]}"


def _too_many(store: Store, new: Sequence[Look], declared: int, claimed: int) -> StoreFault:
    opened = claimed - len(new)
    return StoreFault(
        f"more claims than looks declared: {declared} declared on these certify rows, {opened} opened, and this "
        f"command opens {len(new)} more",
        f"declare all of them with --looks {claimed}: every bound on these rows then uses delta / {claimed}",
        where=str(store.path),
        cause="a bound holds for as many looks as it pays for, under whatever name of a study they happen",
    )
