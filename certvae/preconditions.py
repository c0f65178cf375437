"""What a claim about the population needs of its rows: none was seen by a fit or a choice, and each counts once.

One rule wherever a bound is stated, in tables, bundles, `certvae.load` and `certify_latents`: rows that lie in train or
guard are left out of bounds, and so is every repetition; with more than 1 % in train or guard there is no claim about
the population. Margins are of all rows. Rows are equal whose digests are. A bound without repetitions is about images
that differ: where one image is half of all draws by nature, as a blank one may be, it is not about the draws.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from jaxtyping import Bool

from certvae.certificate import Certificate, Pairs, certify

MOST_LEAKED = 0.01
"""Share of certify rows that may lie in train or guard: bounds leave them out. With more the claim is withheld."""
WIDTH = 16  # bytes of a digest
BOUNDS = tuple(field.name for field in fields(Certificate) if field.name.endswith("_bound"))


@dataclass(frozen=True, eq=False)
class Preconditions:
    """What was found of the certify rows of one data set.

    unseen  (n,) rows that equal no train or guard row
    first   (n,) rows that equal no certify row before them
    facts   n and, of these rows:
            in_train, in_guard  rows that equal a train row, a guard row;  leaked  either
            distinct            rows without repetition: the effective n
            untold              there, and true, where nothing told images apart, so that no row was found to be equal
    """

    unseen: Bool[np.ndarray, " n"]
    first: Bool[np.ndarray, " n"]
    facts: dict[str, Any]

    @classmethod
    def of(cls, certify: np.ndarray, train: np.ndarray, guard: np.ndarray) -> Self:
        """From one digest for each row of a split."""
        in_train, in_guard = np.isin(certify, train), np.isin(certify, guard)
        unseen, first = ~(in_train | in_guard), np.zeros(len(certify), bool)
        first[np.unique(certify, return_index=True)[1]] = True
        counts = {"in_train": in_train, "in_guard": in_guard, "leaked": ~unseen, "distinct": first}
        return cls(unseen, first, {"n": len(certify)} | {name: int(rows.sum()) for name, rows in counts.items()})

    @property
    def counted(self) -> Bool[np.ndarray, " n"]:
        """Rows that a claim about the population may rest on: a repeated row is no new evidence."""
        return self.unseen & self.first

    def kept(self, pairs: Pairs) -> Pairs:
        """What bounds rest on: the rows that count, or all of them where there is no claim."""
        if withheld(self.facts) or self.counted.all():
            return pairs
        rows = {name: getattr(pairs, name)[self.counted] for name in ("teacher", "log_student")}
        return replace(pairs, **rows)

    def certify(self, pairs: Pairs, **options: Any) -> Certificate:
        """The certificate of pairs of these rows; its split says why where there is no claim about the population.

        Args:
            options: of `certvae.certify`, which raises what this does.
        """
        if withheld(self.facts):
            split = f"{pairs.split}, of which {self.facts['leaked']:,} rows lie in train or guard"
            return certify(replace(pairs, split=split), **options)
        found, kept = certify(pairs, **options), self.kept(pairs)
        bounds = found if kept is pairs else certify(kept, **options)
        return replace(found, **{name: getattr(bounds, name) for name in BOUNDS})


def digests(rows: Iterable[np.ndarray]) -> np.ndarray:
    """(n,) bytes, equal for equal rows."""
    found = (hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=WIDTH).digest() for row in rows)
    return np.frombuffer(b"".join(found), dtype=f"V{WIDTH}")


def withheld(found: Mapping[str, Any]) -> str:
    """Why there is no claim about the population; empty where there is one."""
    return "" if _tolerated(found) else _leak(found)


def warnings(found: Mapping[str, Any] | None, classes: int) -> list[str]:
    """What a reader must know of certify rows, as they were tested; none where all is well, or nothing was tested."""
    if found is None:
        return []
    n, said = found["n"], []
    if found["leaked"]:
        said.append(_leak(found))
    if found.get("near"):
        said.append(f"{found['near']:,} of {n:,} certify rows are nearly a train or guard row")
    if repeated := n - found["distinct"]:
        once = "the bound counts each once, and is about different images"
        said.append(f"{repeated:,} certify rows repeat another one: {once}")
    if found.get("untold"):
        said.append("latents and features of few values tell no image from another: nothing was tested for repetition")
    if n < classes:
        said.append(f"certify has {n:,} rows for {classes:,} classes: no bound can be tight")
    return said


def _leak(found: Mapping[str, Any]) -> str:
    done = "the bound leaves them out" if _tolerated(found) else "no claim about the population"
    places = [f"{found[f'in_{split}']:,} in {split}" for split in ("train", "guard") if found[f"in_{split}"]]
    return f"{found['leaked']:,} of {found['n']:,} certify rows lie in other splits ({', '.join(places)}): {done}"


def _tolerated(found: Mapping[str, Any]) -> bool:
    return found["leaked"] <= MOST_LEAKED * found["n"]
