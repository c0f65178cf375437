"""Teacher search: many mixtures on frozen features, scored on rows they were not fitted on, one chosen.

    train (n, d), guard (m, d)   features: of the frozen warm-up encoder (arXiv 2605.05813), or principal components
                                 of pixels (arXiv 2605.18224)          K  components      T  (n, K)  teacher rows

The theorem needs only a fixed, nonconstant teacher. Quality control is about usefulness: failing it says how the
teacher was built and nothing about the certificate.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from certvae.errors import TeacherFault
from certvae.quality import TeacherQuality, Verdict, judge, measure, score
from certvae.simplex import code_energy
from certvae.spec.parts import Covariance
from certvae.spec.teachers import Gmm, PcaGmm
from certvae.teachers import mixture
from certvae.teachers.mixture import Features, Fit, Mixture, Start

Report = Callable[[Mapping[str, Any]], None]
Held = Float[np.ndarray, "m d"]
Spec = Gmm | PcaGmm
ENERGY_GAIN = 5.0  # the witness gain that energy budgets are stated for: the energy falls with its square
NO_INFORMATION = 1e-9  # nats: below this all rows of the teacher are equal up to rounding


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One fit, read at one temperature."""

    whitening: int
    initialisation: int
    covariance: Covariance
    regulariser: float
    temperature: float


@dataclass(frozen=True)
class Scored:
    """A candidate with its numbers on the guard rows, or with the reason why it has none."""

    candidate: Candidate
    fit: Fit | None
    quality: TeacherQuality | None
    verdict: Verdict
    score: float = -np.inf
    energy: float | None = None
    """e* of the analytic code, nats; None for a teacher without a simplex witness."""

    @property
    def rank(self) -> tuple[bool, float]:
        """Strict-feasible before stress case, then by score."""
        return self.verdict.status == "strict-feasible", self.score

    def facts(self) -> dict[str, Any]:
        """A flat record: one row per candidate, the fitted and the failed."""
        numbers = {} if self.quality is None else {**asdict(self.quality), "score": self.score}
        energy = {} if self.energy is None else {"code_energy": self.energy}
        ended = {} if self.fit is None else {"converged": self.fit.converged, "iterations": self.fit.iterations}
        return {
            **asdict(self.candidate),
            **numbers,
            **energy,
            **ended,
            "status": self.verdict.status,
            "reason": str(self.verdict),
        }


@dataclass(frozen=True)
class Search:
    """All candidates in order, the chosen one, and its mixture."""

    candidates: tuple[Scored, ...]
    chosen: Candidate
    quality: TeacherQuality
    mixture: Mixture

    def facts(self) -> dict[str, Any]:
        """What is stored of it beside the mixture."""
        return {"chosen": asdict(self.chosen), "candidates": [one.facts() for one in self.candidates]}


def search(train: Features, guard: Held, spec: Spec, *, seed: int, device: str, report: Report) -> Search:
    """Fits every candidate on train features, scores it on guard features, chooses one.

    The best strict-feasible candidate wins; if there is none, the best of all is run as a stress case.

    Raises:
        TeacherFault: fewer rows than components, features that are not finite, no candidate that could be fitted, or a
            constant teacher (I_T = 0).
    """
    _check_rows(train, guard, spec)
    scored: list[Scored] = []
    for fitted in _fits(train, spec, seed, device, report):
        scored += [
            _score(replace(fitted[0], temperature=heat), *fitted[1:], guard, spec, device) for heat in spec.temperature
        ]
    best = max(scored, key=lambda one: one.rank)
    if best.fit is None or best.quality is None:
        raise _none_fitted(scored)
    if best.quality.info <= NO_INFORMATION:
        raise _constant(f"teacher search, {best.candidate}")
    return Search(tuple(scored), best.candidate, best.quality, best.fit.mixture)


def _fits(
    train: Features, spec: Spec, seed: int, device: str, report: Report
) -> Iterator[tuple[Candidate, Fit | None, str]]:
    """Every fit with its candidate at the first temperature, or the library's reason why there is none."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(train))[: spec.fit_rows])
    whitenings = _whitenings(spec, train.shape[1])
    total = len(whitenings) * spec.initialisations * len(spec.covariance) * len(spec.regulariser)
    number = 0
    for whitening, initialisation in itertools.product(whitenings, range(spec.initialisations)):
        basis = mixture.pca(train[chosen], whitening)
        points = mixture.whiten(train[chosen], basis)
        start = Start(points, spec.classes, (seed + initialisation) % 2**32)
        for covariance, regulariser in itertools.product(spec.covariance, spec.regulariser):
            began = time.monotonic()
            fit, failure = _fit(points, basis, start, covariance, regulariser, spec.max_iterations, device)
            number += 1
            report({"stage": "teacher", "step": number, "steps": total, "seconds": time.monotonic() - began})
            yield (
                Candidate(
                    whitening=whitening,
                    initialisation=initialisation,
                    covariance=covariance,
                    regulariser=regulariser,
                    temperature=spec.temperature[0],
                ),
                fit,
                failure,
            )


def _fit(
    points: Features,
    basis: dict[str, np.ndarray],
    start: Start,
    covariance: Covariance,
    regulariser: float,
    max_iterations: int,
    device: str,
) -> tuple[Fit | None, str]:
    try:
        fit = mixture.fit(points, start, covariance, regulariser, max_iterations, device)
    except ValueError as error:  # a singular covariance; the search goes on
        return None, f"not fitted: {str(error).splitlines()[0]} Raise the regulariser or lower K."
    return replace(fit, mixture=Mixture(covariance, {**fit.mixture.arrays, **basis})), ""


def _whitenings(spec: Spec, dimensions: int) -> list[int]:
    """Numbers of whitened principal components to try, at most as many as there are; 0 for features as they are."""
    match spec:
        case Gmm():
            return sorted({size if size < dimensions else 0 for size in spec.whitening})
        case PcaGmm():
            return sorted({min(size, dimensions) for size in spec.whitening})


def _score(candidate: Candidate, fit: Fit | None, failure: str, guard: Features, spec: Spec, device: str) -> Scored:
    if fit is None:
        return Scored(candidate, None, None, Verdict((failure,)))
    rows = fit.mixture.teacher(guard, temperature=candidate.temperature, smoothing=spec.smoothing, device=device)
    measured = measure(rows)
    verdict = judge(measured, spec.thresholds)
    match spec:
        case Gmm():
            return Scored(candidate, fit, measured, verdict, score(measured))
        case PcaGmm(energy_budget=budget, energy_price=price):
            energy = code_energy(rows.astype(np.float64), ENERGY_GAIN)
            worth = measured.info - price * energy
            return Scored(candidate, fit, measured, verdict.with_energy(energy, budget), worth, energy)


def _check_rows(train: Features, guard: Held, spec: Spec) -> None:
    rows = min(len(train), spec.fit_rows)
    if rows < spec.classes:
        raise TeacherFault(
            f"{spec.classes} components for {rows} rows",
            "give more images or fewer classes",
            where="teacher search",
            cause="a mixture needs at least one row per component",
        )
    for split, features in (("train", train), ("guard", guard)):
        bad = int((~np.isfinite(features)).any(axis=1).sum())
        if bad:
            raise TeacherFault(
                f"{bad} of {len(features)} {split} feature rows are not finite",
                "lower the learning rate of the warm-up",
                where="teacher search",
                cause="the warm-up diverged",
            )
    if (train == train[0]).all():
        raise _constant("teacher search, features")


def _none_fitted(scored: list[Scored]) -> TeacherFault:
    return TeacherFault(
        f"none of {len(scored)} candidates could be fitted; the first: {scored[0].verdict}",
        "raise the regulariser or lower K",
        where="teacher search",
    )


def _constant(where: str) -> TeacherFault:
    return TeacherFault(
        "the teacher carries no information (I_T = 0.0000 nats): all its rows are equal",
        "train the warm-up longer or lower the temperature; no student can be certified against this teacher",
        where=where,
    )
