"""Margin and bound in ball arithmetic: intervals that hold the exact values, whatever rounding did (python-flint).

The inputs are the float64 rows of a certificate, taken as exact numbers and normalised in balls: what is enclosed is
the arithmetic of the certificate, every logarithm and product of it, and not that of the network before it. It is
written from the definitions in `certificate.py` and shares no code with it. Roots are found in float64 and then proved:
a ball around each holds a change of sign.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from flint import arb, ctx

from certvae.certificate import ORDERS, TILTS, Pairs
from certvae.errors import BundleFault
from certvae.verifier.bundle import Computed

BITS = 128
SHOWN = 1e12  # parts of a nat that are printed
NEAR = 1e-9  # relative half width of the balls around roots
LEAST_RATIO = 1.001  # where `certificate.py` begins to look for the largest ratio
Row = Sequence[arb]


@dataclass(frozen=True)
class Enclosure:
    """Intervals in nats that hold the exact margin and the exact lower bound."""

    margin: tuple[float, float]
    bound: tuple[float, float]

    def __str__(self) -> str:
        return "\n".join(
            f"  {name} in [{low:+.12f}, {high:+.12f}], proved in ball arithmetic"
            for name, (low, high) in (("margin     ", self.margin), ("lower bound", self.bound))
        )


def enclosed(found: Computed) -> Enclosure:
    """Encloses margin and betting bound of a claim without strata.

    Raises:
        BundleFault: a float64 number of the claim lies outside its interval by more than rounding, or a root is not
            where float64 found it.
    """
    before, ctx.prec = ctx.prec, BITS
    try:
        margin = _Rows(found, found.pairs).margin()
        bound = _Rows(found, found.rows.kept(found.pairs)).bound()
    finally:
        ctx.prec = before
    certificate = found.certificate
    for name, ball, said in (("margin", margin, certificate.margin), ("bound", bound, certificate.betting_bound)):
        if not abs(float(ball.mid()) - said) <= NEAR + float(ball.rad()):
            raise _unproved(f"{name} is {said!r} in float64 and {ball.str(15)} in ball arithmetic")
    return Enclosure(_interval(margin), _interval(bound))


class _Rows:
    """T, log S and r in balls."""

    def __init__(self, found: Computed, pairs: Pairs):
        certificate = found.certificate
        self._found = certificate
        self._n, self._classes = pairs.teacher.shape
        self._teacher = [_normalised(row) for row in pairs.teacher.tolist()]
        self._student = [_log_softmax(row) for row in pairs.log_student.tolist()]
        self._eta = arb(certificate.eta)
        given = _normalised(found.reference.rows(None)[0].tolist())
        self._reference = [(1 - self._eta) * r + self._eta / self._classes for r in given]
        self._mean = [_sum(column) / self._n for column in zip(*self._teacher, strict=True)]
        self._level = arb(certificate.delta) / certificate.looks

    def margin(self) -> arb:
        """H(Tbar) - E[-<T, log S>]."""
        cross = _sum(_dot(t, s) for t, s in zip(self._teacher, self._student, strict=True)) / self._n
        return cross - _dot(self._mean, [_log(p) for p in self._mean])

    def bound(self) -> arb:
        """Lower end of E d(r) by betting, minus the upper bound of KL(p || r)."""
        logs = [r.log() for r in self._reference]
        smooth = [[((1 - self._eta) * s.exp() + self._eta / self._classes).log() for s in row] for row in self._student]
        scores = [_dot(t, s) - _dot(t, logs) for t, s in zip(self._teacher, smooth, strict=True)]
        low = (self._eta / self._classes).log() - _largest(logs)
        width = -_least(logs) - low
        apart = self._divergence(
            _dot(self._mean, [_log(p) for p in self._mean]) - _dot(self._mean, logs), -_least(logs)
        )
        root = float(((arb(self._found.betting_bound) + apart - low) / width).mid())
        scaled = [(score - low) / width for score in scores]
        return low + width * self._proved_mean(scaled, root) - apart

    def _proved_mean(self, x: list[arb], root: float) -> arb:
        """A ball around the largest m that is rejected: capital reaches the odds at its lower end, not at its upper.

        Few rows reject nothing, and then it is 0: scores in [0, 1] have no smaller mean.
        """
        odds = arb(1.5) / self._level
        games = [_bets([x[i] for i in _order(number, self._n)], odds.log()) for number in range(ORDERS)]
        is_reached = root <= NEAR or _capital(games, arb(root - NEAR)) >= odds
        if not (is_reached and _capital(games, arb(root + NEAR)) < odds):
            raise _unproved("the mean that betting rejects is not where float64 found it")
        return arb(root, NEAR)

    def _divergence(self, apart: arb, largest: arb) -> arb:
        """Upper bound of KL(p || r): the least over tilts."""
        share = ((arb(3) / self._level).log() + arb(len(TILTS)).log()) / self._n
        bounds = [largest]
        for tilt in TILTS:
            short = 1 - (-(share + arb(tilt) * _largest([apart, arb(0)]))).exp()
            t = self._ratio(short, tilt)
            bounds.append(short * (t * t.log() - t + 1) / _renyi(t, tilt))
        return _least(bounds)

    def _ratio(self, short: arb, tilt: float) -> arb:
        """The largest p_k / r_k: for each class a ball that holds the root, or an end of where it is looked for."""
        found = []
        for r in self._reference:
            low, high = LEAST_RATIO, float((1 / r).mid())
            for _ in range(60):
                middle = (low + high) / 2
                beyond = r * _renyi(arb(middle), tilt) > short
                low, high = (low, middle) if beyond else (middle, high)
            below, above = arb(high) * (1 - NEAR), arb(high) * (1 + NEAR)
            is_above = above >= 1 / r or r * _renyi(above, tilt) > short
            is_below = below <= LEAST_RATIO or r * _renyi(below, tilt) < short
            if not (is_above and is_below):
                raise _unproved("the largest ratio of a class is not where float64 found it")
            found.append(below.union(above))
        return _largest(found)


def _normalised(row: Sequence[float]) -> list[arb]:
    values = [arb(p) for p in row]
    total = _sum(values)
    return [p / total for p in values]


def _log_softmax(row: Sequence[float]) -> list[arb]:
    values = [arb(a) for a in row]
    total = _sum(a.exp() for a in values).log()
    return [a - total for a in values]


def _order(number: int, n: int) -> list[int]:
    """The permutations of the certificate: raw output of PCG64, sorted."""
    return np.argsort(np.random.PCG64(number).random_raw(n), kind="stable").tolist()


def _bets(x: list[arb], log_odds: arb) -> list[tuple[arb, arb]]:
    """(draw, bet before it): sqrt(2 log odds / (n variance)), from a mean and a variance that start at 1/2 and 1/4."""
    games, total, squares, n = [], arb(0.5), arb(0.25), len(x)
    variance = arb(0.25)
    for t, draw in enumerate(x, 2):
        games.append((draw, (2 * log_odds / (n * variance)).sqrt()))
        total += draw
        squares += (draw - total / t) ** 2
        variance = squares / t
    return games


def _capital(games: Sequence[Sequence[tuple[arb, arb]]], m: arb) -> arb:
    """Mean over orders of prod (1 + bet (x - m)), bets cut at 3 / (4 m)."""
    most, total = arb(0.75) / m, arb(0)
    for game in games:
        capital = arb(1)
        for draw, bet in game:
            capital *= 1 + bet.min(most) * (draw - m)
        total += capital
    return total / len(games)


def _renyi(t: arb, tilt: float) -> arb:
    a = arb(tilt)
    return (1 - a) * t + a - t ** (1 - a)


def _dot(p: Row, logs: Row) -> arb:
    """<p, logs>; a class with p = 0 adds nothing."""
    return _sum(a * b for a, b in zip(p, logs, strict=True) if a != 0)


def _log(p: arb) -> arb:
    return arb(0) if p == 0 else p.log()


def _sum(values: Iterable[arb]) -> arb:
    return sum(values, start=arb(0))


def _largest(values: Row) -> arb:
    return reduce(arb.max, values)


def _least(values: Row) -> arb:
    return reduce(arb.min, values)


def _interval(ball: arb) -> tuple[float, float]:
    """Its ends, rounded outwards to the digits that are shown."""
    return math.floor(float(ball.lower()) * SHOWN - 1) / SHOWN, math.ceil(float(ball.upper()) * SHOWN + 1) / SHOWN


def _unproved(what: str) -> BundleFault:
    return BundleFault(what, "report it with the bundle: float64 and ball arithmetic must agree", where="record.json")
