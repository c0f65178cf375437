"""What stopping early saves on curves that were recorded to their end, and what it costs the winner.

    python -m tests.benchmarks.fidelity --repetitions 40

A replay takes 48 of the recorded configs in random order and three of the five seeds, and stops what its rule stops: by
`--race` and `--early-stop`, by their rules at several epochs, and by successive halving as Optuna has it (Jamieson and
Talwalkar 2016; asynchronous as in arXiv 1810.05934), which is told the margin and ten nats less per dB that the
constraint misses. Seconds are those of the stages that a config has for itself: no_align, full and its judging. A
winner is named by the product's rule among configs that ran whole; its true margin and drop are means over five seeds.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import optuna
from scipy.special import stdtr, stdtrit

from certvae.engine.early_stop import Censored, Halfway, StopRule, learn
from certvae.engine.race import Race, entered
from certvae.spec.goal import Goal
from certvae.spec.judged import Judged, judge
from certvae.spec.ranking import best
from tests.benchmarks.recorded import SEARCHED, Curves

CONFIGS, LIMIT, CONFIDENCE, PENALTY = 48, 0.3, 0.9, 10.0
GOAL = Goal(psnr_drop=LIMIT)


@dataclass(frozen=True)
class Cost:
    """Seconds of the stages of one cell."""

    no_align: float
    full: float
    judge: float

    def cell(self, share: float = 1.0) -> float:
        """no_align is trained before full, so it is whole; what is censored is not judged."""
        return self.no_align + share * self.full + 2 * self.judge * (share == 1)

    def lockstep(self, share: float) -> float:
        """Both side by side, so that both stop."""
        return share * (self.no_align + self.full) + 2 * self.judge * (share == 1)


@dataclass(frozen=True)
class Replay:
    """Recorded configs in the order of one search, and its seeds."""

    curves: Curves
    configs: Sequence[int]
    seeds: Sequence[int]

    def judged(self, place: int, ran: int = SEARCHED) -> Judged:
        """A config after its first seeds."""
        rows, config = [], self.configs[place]
        for seed in self.seeds[:ran]:
            known = {"config": str(place), "seed": seed, "split": "guard", "outcome": "ok"}
            known |= {"teacher_status": "strict-feasible"}
            margin, psnr = self.curves.margin[config, seed, -1], self.curves.psnr[config, seed, -1]
            reference = float(self.curves.reference[config, seed, -1])
            rows += [{**known, "mode": "full", "margin": float(margin), "psnr_01": float(psnr)}]
            rows += [{**known, "mode": "no_align", "margin": 0.0, "psnr_01": reference}]
        return judge(str(place), self.seeds[:ran], rows, GOAL)

    def shown(self, place: int, epoch: int) -> list[Halfway]:
        """What each cell of a config shows after an epoch."""
        config = self.configs[place]
        return [
            Halfway(
                float(self.curves.margin[config, seed, epoch - 1]),
                float(self.curves.psnr[config, seed, epoch - 1]),
                float(self.curves.reference[config, seed, -1]),
            )
            for seed in self.seeds
        ]

    def looked(self, place: int, known: Sequence[int], epoch: int, *, lockstep: bool) -> list[tuple[float, float]]:
        """Forecasts of final margin and drop of a config's first cell, nats and dB, and their variances."""
        seed, curves, configs = self.seeds[0], self.curves, [*(self.configs[one] for one in known), self.configs[place]]
        reference = curves.reference[configs, seed, epoch - 1 if lockstep else -1]
        shown = [curves.margin[configs, seed, epoch - 1], reference - curves.psnr[configs, seed, epoch - 1]]
        ends = [curves.margin[configs[:-1], seed, -1], curves.drop[configs[:-1], seed]]
        return [_regressed(one[:-1], end, float(one[-1])) for one, end in zip(shown, ends, strict=True)]

    def reported(self, place: int, epoch: int, *, lockstep: bool) -> float:
        """What a pruner is told of a config after an epoch: the mean over seeds, with a penalty."""
        config, seeds = self.configs[place], list(self.seeds)
        reference = self.curves.reference[config, seeds, epoch - 1 if lockstep else -1]
        drop = float((reference - self.curves.psnr[config, seeds, epoch - 1]).mean())
        return float(self.curves.margin[config, seeds, epoch - 1].mean()) - PENALTY * max(0.0, drop - LIMIT)


def _regressed(shown: np.ndarray, ends: np.ndarray, now: float) -> tuple[float, float]:
    """What a straight line says of the end, and the variance of that; infinite with fewer than five points."""
    if len(shown) < 5:
        return now, np.inf
    slope, start = np.polyfit(shown, ends, 1)
    rest = ends - start - slope * shown
    far = 1 + 1 / len(shown) + (now - shown.mean()) ** 2 / ((shown - shown.mean()) ** 2).sum()
    return float(start + slope * now), float((rest**2).sum() / (len(shown) - 2) * far)


Told = tuple[list[Judged], float]
"""Every config as a search has it at its end, and the seconds that this took."""
Rule = Callable[[Replay, Cost], Told]


def whole(replay: Replay, cost: Cost) -> Told:
    """Nothing is stopped."""
    judged = [replay.judged(place) for place in range(len(replay.configs))]
    return judged, len(judged) * SEARCHED * cost.cell()


def product(lag: int, *, raced: bool, epochs: Sequence[float] = ()) -> Rule:
    """`--race` and `--early-stop`; with several epochs, as shares, these share the confidence."""

    def run(replay: Replay, cost: Cost) -> Told:
        told: list[Judged] = []
        spent, last = 0.0, replay.curves.margin.shape[2]
        for place in range(len(replay.configs)):
            known = told[: max(0, place - lag + 1)]
            race = entered(GOAL, CONFIDENCE, SEARCHED, known) if raced else None
            confidence = 1 - (1 - CONFIDENCE) / max(1, len(epochs))
            rules = [_learned(replay, known, round(share * last), confidence) for share in epochs]
            judged, seconds = _config(replay, place, [rule for rule in rules if rule], race, cost)
            told.append(judged)
            spent += seconds
        return told, spent

    return run


def _learned(replay: Replay, known: Sequence[Judged], epoch: int, confidence: float) -> StopRule | None:
    return learn(GOAL, confidence, epoch, [(one, replay.shown(int(one.config), epoch)) for one in known])


def _config(replay: Replay, place: int, rules: Sequence[StopRule], race, cost: Cost) -> tuple[Judged, float]:
    """A config as it ends, and its seconds; without a race all of its cells run, and each may be censored."""
    last, spent, lost = replay.curves.margin.shape[2], 0.0, ""
    for ran in range(1, SEARCHED + 1):
        epoch = next((rule.epoch for rule in rules if _stops(rule, replay.shown(place, rule.epoch)[ran - 1])), None)
        spent += cost.cell(1.0 if epoch is None else epoch / last)
        if epoch is not None:
            lost = "censored"
            if race is not None:
                break
        if race is not None and ran < SEARCHED and race.hopeless(judged := replay.judged(place, ran)):
            return replace(judged, outcome="censored", variances=None), spent
    return Judged(str(place), "censored", lost, 0, 0, 0) if lost else replay.judged(place), spent


def _stops(rule: StopRule, cell: Halfway) -> bool:
    try:
        rule.check(cell)
    except Censored:
        return True
    return False


def forecast(lag: int, epochs: Sequence[int], *, lockstep: bool) -> Rule:
    """A race whose first look comes before a seed has ended: the first cell of a config is forecast at these epochs.

    Final margin and drop of the cell are regressed on what cells of earlier configs showed at the epoch; the error of
    the forecast is added to that of the seeds that have not run, and the confidence is shared between all looks.
    """

    def run(replay: Replay, cost: Cost) -> Told:
        told: list[Judged] = []
        spent, last = 0.0, replay.curves.margin.shape[2]
        for place in range(len(replay.configs)):
            known = range(max(0, place - lag + 1))
            race = entered(GOAL, CONFIDENCE, SEARCHED, [told[one] for one in known])
            ended = None
            if race is not None:
                looks = (replay.looked(place, known, epoch, lockstep=lockstep) for epoch in epochs)
                least = (1 - CONFIDENCE) / (SEARCHED - 1 + len(epochs)) / 2
                ended = next(
                    (epoch for epoch, look in zip(epochs, looks, strict=True) if _lost(race, look, least)), None
                )
            if ended is None:
                judged, seconds = _config(replay, place, [], race, cost)
            else:
                judged = Judged(str(place), "censored", "forecast", 0, 0, 0)
                seconds = (cost.lockstep if lockstep else cost.cell)(ended / last)
            told.append(judged)
            spent += seconds
        return told, spent

    return run


def _lost(race: Race, look: Sequence[tuple[float, float]], least: float) -> bool:
    """Whether the score or the constraint can hardly be reached, by (forecast, its variance) of margin and drop."""
    noise, left, wanted = race.noise, 1 - 1 / SEARCHED, race.best
    reach = stdtrit(noise.freedom, GOAL.certainty) * np.sqrt(noise.variances["psnr_drop"] / SEARCHED)
    (margin, margin_error), (drop, drop_error) = look
    lacks = [(drop - LIMIT + reach, drop_error + noise.variances["psnr_drop"] * left)]
    lacks += [] if wanted is None else [(wanted - margin, margin_error + noise.variances["score"] * left)]
    return any(stdtr(noise.freedom, -lack / np.sqrt(variance)) < least for lack, variance in lacks)


def halving(factor: int, *, lockstep: bool) -> Rule:
    """Optuna's SuccessiveHalvingPruner on the mean over seeds, from the first epoch on."""

    def run(replay: Replay, cost: Cost) -> Told:
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=factor)
        study = optuna.create_study(direction="maximize", pruner=pruner)
        told, spent, last = [], 0.0, replay.curves.margin.shape[2]
        seconds = cost.lockstep if lockstep else cost.cell
        for place in range(len(replay.configs)):
            trial, ended = study.ask(), last
            for epoch in range(1, last + 1):
                trial.report(replay.reported(place, epoch, lockstep=lockstep), epoch)
                if epoch < last and trial.should_prune():
                    ended = epoch
                    break
            spent += SEARCHED * seconds(ended / last)
            if ended < last:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                told.append(Judged(str(place), "censored", "pruned", 0, 0, 0))
            else:
                study.tell(trial, replay.reported(place, last, lockstep=lockstep))
                told.append(replay.judged(place))
        return told, spent

    return run


RULES: dict[str, Rule] = {
    "all run whole": whole,
    "--race, lag 8": product(8, raced=True),
    "--race, lag 3": product(3, raced=True),
    "--early-stop, lag 8": product(8, raced=False, epochs=(0.5,)),
    "--early-stop, lag 3": product(3, raced=False, epochs=(0.5,)),
    "both, lag 8": product(8, raced=True, epochs=(0.5,)),
    "both, lag 3": product(3, raced=True, epochs=(0.5,)),
    "race, and stop at 1/8, 1/4, 1/2, lag 3": product(3, raced=True, epochs=(0.125, 0.25, 0.5)),
    "race with forecasts at 2, 4, 8, lag 3": forecast(3, (2, 4, 8), lockstep=False),
    "the same, no_align in lockstep": forecast(3, (2, 4, 8), lockstep=True),
    "halving by 2": halving(2, lockstep=False),
    "halving by 4": halving(4, lockstep=False),
    "halving by 2, no_align in lockstep": halving(2, lockstep=True),
    "halving by 4, no_align in lockstep": halving(4, lockstep=True),
}


def replays(curves: Curves, repetitions: int) -> Iterator[Replay]:
    """Searches of a fixed size over the recorded configs."""
    for number in range(repetitions):
        rng = np.random.default_rng([number, 11])
        seeds = rng.permutation(curves.margin.shape[1])[:SEARCHED].tolist()
        yield Replay(curves, rng.permutation(len(curves.points))[:CONFIGS].tolist(), seeds)


def main() -> None:
    """Prints, per rule: share of the seconds, same winners, loss of true margin, truly violated and missing winners."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=40)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    curves = Curves.read()
    cost = Cost(*(curves.seconds[stage] for stage in ("no_align", "aligned", "judge")))
    margin, drop = curves.margin[:, :, -1].mean(axis=1), curves.drop.mean(axis=1)
    print(f"{'rule':40} seconds   same winner   nats lost: median, tenth worst   violated   none")
    for name, rule in RULES.items():
        shares, same, lost, wrong, none = [], 0, [], 0, 0
        for replay in replays(curves, given.repetitions):
            told, spent = rule(replay, cost)
            base, seconds = whole(replay, cost)
            first, winner = best(base, GOAL.certainty), best(told, GOAL.certainty)
            shares.append(spent / seconds)
            if first is None or winner is None:
                none += winner is None
                continue
            one, two = (replay.configs[int(found.config)] for found in (first, winner))
            same, wrong = same + (one == two), wrong + bool(drop[two] > LIMIT)
            lost.append(margin[one] - margin[two])
        worst = f"{np.median(lost):+.4f} {np.quantile(lost, 0.9):+.4f}" if lost else ""
        print(
            f"{name:40} {np.mean(shares):6.0%} {same:7} of {given.repetitions}   {worst:>24} {wrong:9} {none:6}",
            flush=True,
        )


if __name__ == "__main__":
    main()
