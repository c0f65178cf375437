"""Which config of a search is the best, and which come next; the best keeps its constraints with stated probability."""

from collections.abc import Iterable, Sequence

from certvae.spec.judged import Judged
from certvae.spec.noise import Noise


def best(configs: Sequence[Judged], certainty: float) -> Judged | None:
    """The sure config of largest score; the earlier one of a tie. None when no config is sure enough."""
    noise = Noise.pooled(configs)
    scored = [config for config in configs if config.feasible and config.score is not None]
    sure = [config for config in scored if noise.kept(config) >= certainty]
    return max(sure, key=lambda config: config.score or 0.0, default=None)


def ranked(configs: Sequence[Judged], certainty: float) -> list[Judged]:
    """The best first: sure ones by falling score, then feasible ones, then misses, the nearest first, then the rest."""
    noise = Noise.pooled(configs)

    def place(config: Judged) -> tuple[bool, float]:
        return noise.kept(config) < certainty, _by_margin(config)

    feasible = sorted((config for config in configs if config.feasible), key=place)
    rest = [config for config in configs if config.outcome != "complete"]
    return [*feasible, *nearest_misses(configs, len(configs)), *rest]


def pareto_front(configs: Iterable[Judged]) -> list[Judged]:
    """Feasible configs that no other feasible one exceeds in both margin and PSNR, by falling margin."""
    feasible = [config for config in configs if config.feasible]
    return sorted((one for one in feasible if not any(_dominates(two, one) for two in feasible)), key=_by_margin)


def hypervolume(configs: Iterable[Judged], worst: tuple[float, float]) -> float:
    """Area of (margin, PSNR) that feasible configs dominate and that lies above `worst`, nats x dB.

    Args:
        worst: (margin, PSNR) that counts as nothing gained; a config below it in either adds nothing.
    """
    area, reached = 0.0, worst[1]
    for config in pareto_front(configs):
        margin, psnr = config.score or 0.0, config.psnr or 0.0
        if margin > worst[0] and psnr > reached:
            area += (margin - worst[0]) * (psnr - reached)
            reached = psnr
    return area


def nearest_misses(configs: Iterable[Judged], count: int = 5) -> list[Judged]:
    """Complete but infeasible configs, the least violated first."""
    missed = [config for config in configs if config.outcome == "complete" and not config.feasible]
    return sorted(missed, key=lambda config: -config.slack)[:count]


def _dominates(one: Judged, two: Judged) -> bool:
    first, second = (one.score or 0.0, one.psnr or 0.0), (two.score or 0.0, two.psnr or 0.0)
    return first != second and all(a >= b for a, b in zip(first, second, strict=True))


def _by_margin(config: Judged) -> float:
    return -(config.score or 0.0)
