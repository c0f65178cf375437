"""Tables of collapse and rescue: the KL weight at which a code dies, as the data forecast it and as it was seen."""

import math
from collections.abc import Callable
from itertools import pairwise

import pandas as pd

from certvae import answers, drift
from certvae.spec.modes import ordered
from certvae.terminal import number_of

from ..table import Table
from ..views import Partition, everything, failed
from .margins import SEEDS, table

_AWAKE = {True: "alive", False: "dead"}
INSIDE, BELOW, ABOVE = "inside", "below: it lived longer", "above: it died earlier"


def forecast_table(parts: Partition) -> Table:
    """Per mode: the forecast of alpha_crit beside the weights of the study between which its channel died.

    Over strict-feasible seeds, failed ones among them: a channel that nobody saw is neither alive nor dead.
    """
    rows, stress = parts.strict.rows, parts.stress.listed
    found = [
        {**_line(mode, rows[rows["mode"] == mode]), "n_stress": stress.loc[stress["mode"] == mode, "seed"].nunique()}
        for mode in ordered(rows["mode"])
    ]
    notes = (
        "alive: a head on draws is certified in every strict-feasible seed; dead: the KL rate is below 0.05 nats in "
        "every one; between both weights seeds differ, nothing was shown, or nothing was run",
        "the forecast is that of the spectrum, a local statement at the trivial solution: no unit survives alpha_crit, "
        "and below 0.05 nats a channel falls a little before, at alpha_dead; modes without one have weights that move, "
        "or other terms",
        "held against the last weight at which no seed is dead, and the first from which on all are; `off by` is how "
        "far one of both is from alpha_dead at most",
    )
    shown = ("mode", "alpha_crit", "alpha_dead", "alive_to", "lives_to", "dead_from", "held", "off", *SEEDS, "n_stress")
    frame, title = pd.DataFrame(found), "When a channel dies: forecast and seen"
    return table("forecast", title, everything(parts), frame, shown, notes)


def rescue_table(parts: Partition) -> Table:
    """Per network that alignment began with a dead channel: what was known before, and how its channel ended."""
    rows = everything(parts)
    rows = rows[rows["response"].notna()]
    expected = [_AWAKE[bool(answers.awakens(row))] for row in rows.to_dict("records")]
    frame = rows.assign(expected_channel=expected)
    strict = frame[frame["teacher_status"] != "stress-case"]
    agree = int((strict["expected_channel"] == strict["channel_word"]).sum())
    notes = (
        f"the channel ended as expected in {agree} of {number_of(len(strict), 'strict-feasible network')}",
        "response: what one step of alignment moves the logits of the start towards the teacher, first order; expected "
        "alive where it responds and the largest weight in force reaches the least that the forecast asks for",
    )
    known = ("response", "critical_weight", "largest_weight", "expected_channel")
    shown = ("seed", "mode", "teacher_status", "alpha_kl", *known)
    return table("awakening", "Networks with a dead channel, aligned", rows, frame, (*shown, "channel_word"), notes)


def drift_table(curves: pd.DataFrame, parts: Partition, tau: float) -> Table:
    """Per config and mode: drift and noise of the guard margin in the first half of the curves, the bound that they
    give for reaching 0 afterwards, and the share of seeds that did.

    Args:
        curves: from `load.curves`.
        tau: nats; the margin is G_tau.
    """
    rows, of = everything(parts), ["config", "mode", "seed"]
    strict = curves.merge(parts.strict.rows[of].drop_duplicates(), on=of)
    runs = strict.dropna(subset="guard_margin").groupby(of, sort=False)["guard_margin"]
    found = [{**dict(zip(of, run, strict=True)), **_watched(list(G - tau))} for run, G in runs]
    frame = pd.DataFrame(found, columns=[*of, "drift", "noise", "halfway", "bound", "reached"])
    by = frame.dropna(subset="bound").groupby(["config", "mode"], sort=False)
    means = by[["drift", "noise", "halfway", "bound", "reached"]].mean().assign(n=by.size()).reset_index()
    notes = (
        "a local statement: P(G_tau ever reaches 0) <= exp(-2 m G_tau / s^2) were drift m and noise s of the first "
        "half of a curve to last; 1 says nothing, which is all that can be said where the margin falls",
        "means over strict-feasible seeds whose margin is positive halfway; per report point, guard rows",
    )
    shown = ("label", "mode", "drift", "noise", "halfway", "bound", "reached", "n")
    return table("drift", "Does a margin near 0 reach it? Bound and seen", rows, means, shown, notes, tau)


def _watched(margins: list[float]) -> dict[str, float]:
    """What the first half of a curve says of the second, and what the second did; nothing where it says nothing."""
    half = len(margins) // 2
    before, after = margins[: half + 1], margins[half + 1 :]
    found = drift.estimated([later - earlier for earlier, later in pairwise(before)])
    if found is None or not after or before[-1] <= 0:
        return {}
    bound = drift.hitting_bound(*found, before[-1])
    return {"drift": found[0], "noise": found[1], "halfway": before[-1], "bound": bound, "reached": min(after) <= 0}


def _line(mode: str, rows: pd.DataFrame) -> dict[str, object]:
    words = rows.groupby("alpha_kl")["channel_word"].agg(lambda found: set(found.fillna("open")))
    alive_to = _run(words, lambda found: found == {"alive"}, rising=True)
    lives_to = _run(words, lambda found: "dead" not in found, rising=True)
    dead_from = _run(words, lambda found: found == {"dead"}, rising=False)
    crit, dead = (float(rows[name].mean()) if name in rows else math.nan for name in ("alpha_crit", "alpha_dead"))
    awaited = crit if math.isnan(dead) else dead  # rows of earlier versions know alpha_crit alone
    held = None if math.isnan(crit) else _held(awaited, lives_to, dead_from)
    seen = {"alive_to": alive_to, "lives_to": lives_to, "dead_from": dead_from, "held": held}
    off = math.nan if math.isnan(lives_to + dead_from) else max(abs(one / awaited - 1) for one in (lives_to, dead_from))
    counts = {"n": rows["seed"].nunique(), "n_failed": rows.loc[failed(rows), "seed"].nunique()}
    return {"mode": mode, "alpha_crit": crit, "alpha_dead": dead, **seen, "off": off, **counts}


def _run(words: pd.Series, holds: Callable[[set[str]], bool], *, rising: bool) -> float:
    """The last weight, from one end of the grid, up to which this holds; NaN where it does not at that end."""
    reached = math.nan
    for weight, found in words.sort_index(ascending=rising).items():
        if not holds(found):
            break
        reached = float(str(weight))
    return reached


def _held(crit: float, lives_to: float, dead_from: float) -> str:
    if crit < lives_to:
        return BELOW
    return ABOVE if crit > dead_from else INSIDE
