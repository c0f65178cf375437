"""The register of a store: every opening of certify rows is a record, counted per rows and not per study.

    plan/looks/<number>.json            one config that was opened: study, config, data, modes; numbered as they came
    plan/declared/<digest>.json         so many looks were declared on some rows beforehand
    plan/preconditions/<digest>.json    what was found of the rows of a data set, by its digest

Each is published once and whole, so a killed driver registers nothing twice, and of two that open at once one takes the
next number. The rows of one data set are one resource whatever is kept of them (limit, size, classes), and so are equal
pixels under another name. Seeds and modes of one config are one look; another study name is another look, and so is a
program that was changed after it had looked and looks again.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from certvae.canonical import digest
from certvae.errors import StoreFault
from certvae.store.disk import Disk
from certvae.store.records import documents, get_document, put_document, rows, studies

LOOKS, DECLARED, TESTED = "looks", "declared", "preconditions"
"""Kinds of its documents."""
SPLIT = "certify"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Look:
    """One config that was opened on certify rows.

    data     name of the data set;  certify  digest of the pixels of its certify rows, None where only rows tell
    modes    its networks, each a claim of its own
    program  digest of the text that looked; empty where only rows tell
    """

    study: str
    config: str
    data: str
    certify: str | None = None
    modes: tuple[str, ...] = ()
    program: str = ""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Look":
        """A look, read from its record."""
        return cls(**{**body, "modes": tuple(body["modes"])})

    @property
    def opening(self) -> tuple[str, str]:
        """Names what was opened, whoever opened it."""
        return self.study, self.config

    def is_new(self, known: Iterable["Look"], *, again: bool) -> bool:
        """Whether these looks leave it one of its own.

        Args:
            again: rows are made again, so that another text of the program looks anew.
        """
        programs = {one.program for one in known if one.opening == self.opening}
        return not programs or (again and self.program not in programs)

    def is_at(self, other: "Look") -> bool:
        """Whether both see the same rows."""
        return self.data == other.data or (self.certify is not None and self.certify == other.certify)


class Register:
    """The looks of a store in order, as they are now; it is read once.

    Args:
        disk: of the store.
        seen: all rows of some studies: a look whose record was lost is told by its rows.
    """

    def __init__(self, disk: Disk, seen: Iterable[Row] = ()):
        self.looks = recorded(disk)
        self.looks += [one for one in _told(disk, self.looks, seen) if one.is_new(self.looks, again=False)]
        self._declared = documents(disk, DECLARED).values()
        self._tested = documents(disk, TESTED)

    def find(self, study: str, config: str) -> Look | None:
        """The look of a config, if it was opened."""
        return next((one for one in self.looks if one.opening == (study, config)), None)

    def of(self, row: Row) -> Look:
        """The look that a row belongs to."""
        return self.find(row["study"], row["config"]) or Look(row["study"], row["config"], row["data"])

    def at(self, look: Look) -> list[Look]:
        """All looks at the rows that this one sees, in order."""
        return [one for one in self.looks if one.is_at(look)]

    def declared(self, look: Look) -> int:
        """How many were declared on these rows; 0 where nobody did."""
        there = (body for body in self._declared if look.is_at(Look("", "", body["data"], body["certify"])))
        return max((int(body["looks"]) for body in there), default=0)

    def price(self, look: Look) -> int:
        """Every bound on these rows uses delta divided by this: looks declared, or more where more were opened."""
        return max(self.declared(look), len(self.at(look)), 1)

    def tested(self, data_digest: str) -> dict[str, Any] | None:
        """What was found of the rows of a data set; None where they were never tested."""
        return self._tested.get(data_digest)


def recorded(disk: Disk) -> list[Look]:
    """The looks that have a record, in order."""
    return [Look.of(body) for body in documents(disk, LOOKS).values()]


def adopt(disk: Disk) -> None:
    """Registers the looks that only rows tell of, those of stores that had no register among them."""
    for look in Register(disk, rows(disk)).looks:
        register(disk, look)


def register(disk: Disk, look: Look, *, again: bool = False) -> None:
    """Gives a look the first number that is free, unless it has one; see `Look.is_new`.

    That is the next one, or the one of a look whose record was lost: what was listed is there again.

    Raises:
        DiskFault: it could not be written.
    """
    while True:
        known = documents(disk, LOOKS)
        if not look.is_new(map(Look.of, known.values()), again=again):
            return
        name = next(name for number in itertools.count(1) if (name := f"{number:06d}") not in known)
        try:
            put_document(disk, LOOKS, name, asdict(look))
        except StoreFault:  # somebody else took the number
            if get_document(disk, LOOKS, name) is None:
                raise


def declare(disk: Disk, look: Look, looks: int) -> None:
    """Notes how many looks are declared on the rows of a look; the largest number stands."""
    body = {"data": look.data, "certify": look.certify, "looks": looks}
    put_document(disk, DECLARED, digest(body), body)


def tell(disk: Disk, data_digest: str, found: Mapping[str, Any]) -> None:
    """Keeps what was found of the rows of a data set."""
    if get_document(disk, TESTED, data_digest) is None:
        put_document(disk, TESTED, data_digest, found)


def _told(disk: Disk, found: Iterable[Look], seen: Iterable[Row]) -> list[Look]:
    """Looks that rows tell of: those in hand, and of other studies without a record. In order of study and config."""
    seen = list(seen)
    known = {one.study for one in found} | {row["study"] for row in seen}
    unknown = (study for study in studies(disk) if study not in known)
    every = [*seen, *(row for study in unknown for row in rows(disk, study))]
    looks = {Look(row["study"], row["config"], row["data"]) for row in every if row["split"] == SPLIT}
    return sorted(looks, key=lambda look: look.opening)
