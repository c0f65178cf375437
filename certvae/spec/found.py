"""What a search found, in words: its run, `certvae status` and the report say it alike."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from certvae.spec.goal import Goal
from certvae.spec.judged import Judged, Row, judge
from certvae.spec.noise import NO_NOISE, Noise
from certvae.spec.ranking import ranked
from certvae.terminal import number_of


def winner_words(
    best: Judged, judged: Sequence[Judged], goal: Goal, names: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The winner's score, what it rests on, and how surely it keeps its constraints.

    Args:
        judged: all configs of the search, this one among them.
        names: config -> what the runner-up is called; the first digits of its digest when absent.
    """
    seeds = f"n = {number_of(best.n, 'strict-feasible search seed')} (n_failed {best.n_failed}, {_stress(best)})"
    said = f"{goal.words(best.score or 0.0)} over {seeds}, PSNR {best.psnr:.2f} dB{_slack(best, goal)}"
    if goal.kind == "max_kl" or not goal.constraints:
        return said
    noise, others = Noise.pooled(judged), ranked(judged, goal.certainty)
    chosen = "by all configs together" if noise.together else f"before it was chosen among {len(judged)}"
    sure = f"with a probability of {noise.kept(best):.0%} {chosen}" if noise.is_known else NO_NOISE
    second = next((one for one in others if one.feasible and one.config != best.config), None)
    if second is None:
        return f"{said}, kept {sure}"
    beside = f"runner-up {names.get(second.config, second.config[:12])} {second.score:+.3f}"
    return f"{said}, kept {sure}; {beside}" + (f", {noise.kept(second):.0%}" if noise.is_known else "")


def confirmation_words(best: Judged, seeds: Sequence[int], rows: Iterable[Row], goal: Goal) -> str:
    """The winner on guard rows of fresh seeds, and how much the search overstated it.

    Args:
        seeds: those that the search did not have; without rows of them it is not confirmed yet.
    """
    found = [row for row in rows if row["seed"] in seeds]
    if not found:
        return "not confirmed yet: no confirmation seed has ended"
    fresh = judge(best.config, seeds, found, goal)
    if fresh.score is None:
        return f"not confirmed: {fresh.reason}"
    on, apart = f"{number_of(fresh.n, 'fresh seed')} (guard split)", f"{_stress(fresh)} apart{_slack(fresh, goal)}"
    if goal.kind == "max_kl":
        held = "alive and certified" if fresh.feasible else "not alive and certified"
        return f"held against {on}: {held} in all of them, {apart}"
    said = f"confirmed on {on}: {fresh.score:+.4f}, {apart}"
    if goal.constraints:
        said += f": its constraints {'held' if fresh.feasible else 'did not hold'}"
        said += f", kept with a probability of {Noise.of([fresh]).kept(fresh):.0%}" if fresh.n > 1 else ""
    return f"{said}; optimism of the search {(best.score or 0.0) - fresh.score:+.4f} nats"


def _stress(judged: Judged) -> str:
    return number_of(judged.n_stress, "stress case")


def _slack(judged: Judged, goal: Goal) -> str:
    """Nothing where nothing is asked of a config."""
    return f", slack {judged.slack:+.2f} {goal.unit}" if goal.constraints else ""
