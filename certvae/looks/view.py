"""Shows rows with bounds at the number of looks so far: a view, and no row is written anew.

A row keeps the scores behind its claims, so its bounds at another delta are computed and not trained. One config is one
look: its claims, four for each network of each seed, share delta / looks by Holm, whichever machine or stage version
made them. So all claims with a positive bound in the view hold together, over all looks at these rows: these margins
are above 0. How far above, a bound says of its own margin alone. Where no scores were kept, a bound that paid for less
than it must is not shown.

That is so where neither the number of looks nor what they open depends on what earlier ones showed. Who looks until
something is certified errs with a probability of up to delta (1 + 1/2 + ... + 1/looks), unless the number of looks was
declared beforehand: each of them then has its part of delta from the first on, whenever they end.

The claims of a config are those of its rows that are there: while it runs, or before further seeds are added, they are
fewer, so a bound that is seen early can be above the one of the final table, and that one holds with all others.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from certvae.certificate import CLAIM_SPLIT, Evidence
from certvae.looks.register import Register
from certvae.preconditions import warnings, withheld
from certvae.simultaneous import holm, in_sequence
from certvae.store.artifact import read_arrays
from certvae.store.disk import Disk
from certvae.store.folders import Corrupt, open_folder
from certvae.store.store import OBJECTS

HEADS = {"": "judged", "sampled_": "judged", "affine_": "fitted", "sampled_affine_": "fitted"}
"""Whose claims the words of a network rest on: how its columns begin -> whose object keeps its scores."""
OTHERS = (
    *("bernstein_bound", "mcdiarmid_bound", "brier_bound", "wald_bound"),
    *(f"{head}_population_bound" for head in ("short_affine", "relabelled", "rotation")),
)
"""Bounds that keep no scores: of other kinds, and of heads that no claim rests on. They read every row."""
RESTATED = (
    *(f"{head}population_bound" for head in HEADS),
    *("betting_bound", "certified_population", "certified_units"),
    *OTHERS,
)
"""All columns that `together` restates: as a row has them, they are those of one claim alone."""
Row = dict[str, Any]
Claim = tuple[Row, str]


def together(
    disk: Disk, rows: Iterable[Mapping[str, Any]], price: int | None = None, *, beside: Iterable[Mapping[str, Any]] = ()
) -> list[Row]:
    """Rows in their order, certify rows with bounds and words at the looks of now, others as they are.

    Units are counted at a delta that the networks of a config share: their counts hold together, apart from the claims.

    Columns besides the bounds: `look` of `looks`; `paid`, the looks that the row was written for; `claims`, how many
    share the delta of the config; `held`, how many of these have positive bounds; `preconditions`, what a reader must
    know of the certify rows; `withheld`, why there is no claim about the population.

    Args:
        rows: all rows of a config, or none of it: its claims share its delta.
        price: looks to pay for; as many as the store holds when absent.
        beside: further rows of these configs, made elsewhere or by other stages: they are not shown, and claim too.
    """
    shown, hidden = ([dict(row) for row in given] for given in (rows, beside))
    if not any(row["split"] == CLAIM_SPLIT for row in shown):
        return shown
    register = Register(disk, [*shown, *hidden])
    families: dict[tuple[str, str], list[Row]] = {}
    for row in (*shown, *hidden):
        if row["split"] == CLAIM_SPLIT:
            families.setdefault((row["study"], row["config"]), []).append(row)
    arrays = lru_cache(maxsize=len(HEADS))(partial(_arrays, disk))
    for members in families.values():
        _restate(members, register, price, arrays)
    return shown


def sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which look this is, and what holds together; of one or more rows of a config, as `together` gives them."""
    told = [row for row in rows if row.get("claims")]
    if not told:
        return ""
    first = told[0]
    which = f"look {first['look']} of {first['looks']} on these rows"
    if all(row["withheld"] for row in told):
        return which
    shown = f"{first['held']} of {first['claims']} claims have bounds above 0"
    return f"{which}: {shown}, which hold together at {_percent(first)}"


def claims_of(rows: Iterable[Mapping[str, Any]], row: Mapping[str, Any]) -> int:
    """How many claims share the delta of the config of a row, that of the row among them."""
    place = (CLAIM_SPLIT, row["study"], row["config"])
    return len(_claims(dict(one) for one in rows if (one["split"], one["study"], one["config"]) == place))


def alone(disk: Disk, row: Mapping[str, Any], delta: float) -> dict[str, float]:
    """The bounds of the claims of a row by name, each at this error probability; without those that kept no scores."""
    arrays = partial(_arrays, disk)
    found = {head: _bound(of, head, arrays)(delta) for of, head in _claims([dict(row)])}
    return {f"{head}population_bound": bound for head, bound in found.items() if math.isfinite(bound)}


def _restate(members: list[Row], register: Register, price: int | None, arrays: Callable[[str], Any]) -> None:
    first = members[0]
    look = register.of(first)
    looks = price or register.price(look)
    place = next((at for at, one in enumerate(register.at(look), start=1) if one.opening == look.opening), looks)
    for row in members:
        tested = register.tested(row.get("data_digest", ""))  # another machine may have decoded other pixels
        row["withheld"] = None if tested is None else withheld(tested) or None
        row["preconditions"] = "; ".join(warnings(tested, row.get("classes", 0))) or None
        idle = tested is not None and (tested["leaked"] or tested["distinct"] < tested["n"])
        row |= {name: None for name in OTHERS if name in row and (idle or row.get("looks", 1) < looks)}
    claims = _claims(members)
    found = _bounds(claims, looks, arrays)
    for (row, head), bound in zip(claims, found, strict=True):
        row[f"{head}population_bound"] = bound if math.isfinite(bound) else None
    counted = [row for row in members if row.get("certified_units") is not None]
    for row in counted:
        share = row["delta"] / looks / len(counted)
        row["certified_units"] = None if row["withheld"] else _units(row, share, arrays)
    for row in members:
        bound = row.get("population_bound")
        row |= {"look": place, "looks": looks, "paid": row.get("looks", 1)}
        row |= {"claims": len(claims), "held": sum(bound > 0 for bound in found)}
        known = {"betting_bound": bound, "certified_population": None if bound is None else bound > 0}
        row |= {name: value for name, value in known.items() if name in row}


def _claims(members: Iterable[Row]) -> list[Claim]:
    return [(row, head) for row in members for head in HEADS if row.get(f"{head}population_bound") is not None]


def _bounds(claims: Sequence[Claim], looks: int, arrays: Callable[[str], Any]) -> list[float]:
    """Of all claims of a config: they share its delta, those that are withheld too."""
    kept = [(lambda _: -math.inf) if row["withheld"] else _bound(row, head, arrays) for row, head in claims]
    return holm(kept, claims[0][0]["delta"] / looks) if claims else []


def _bound(row: Row, head: str, arrays: Callable[[str], Any]) -> Callable[[float], float]:
    """error probability -> the bound of one claim; -inf where it cannot be known."""
    judged, own = (arrays(row.get(f"key_{of}", "")) for of in ("judged", HEADS[head]))
    if f"{head}scores" in own and "reference_row" in judged:
        scores, reference = own[f"{head}scores"], judged["reference_row"]
        return Evidence(scores=scores, rows=reference, divergence=row["reference_divergence"], eta=row["eta"]).bound
    paid, stated = row["delta"] / row["looks"], row[f"{head}population_bound"]
    return lambda delta: stated if paid <= delta else -math.inf


def _units(row: Row, delta: float, arrays: Callable[[str], Any]) -> int | None:
    """Units whose evidence is enough at this error probability; None where it cannot be known."""
    kept = arrays(row.get("key_fitted", "")).get("unit_evidence")
    return None if kept is None else in_sequence(kept, delta)


def _arrays(disk: Disk, key: str) -> Mapping[str, np.ndarray]:
    """The arrays of an object; none where it is gone or damaged, which the next run mends."""
    with contextlib.suppress(Corrupt):
        if key and (folder := open_folder(disk, disk.root / OBJECTS / key)) is not None:
            return read_arrays(folder)
    return {}


def _percent(row: Mapping[str, Any]) -> str:
    return f"{100 * (1 - row['delta']):g} %"
