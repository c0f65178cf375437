"""Early stop: bounds that hold as often as they say, decisions that depend on no clock, and the same winner."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from certvae.engine.early_stop import Censor, Censored, Halfway, Need, StopRule, halfway_epoch, learn, upper_quantile
from certvae.engine.rule import settle_rule
from certvae.engine.search import censored
from certvae.errors import SearchFault
from certvae.spec.goal import Goal
from certvae.spec.judged import Judged, judge
from certvae.spec.parts import Training
from certvae.spec.ranking import best, pareto_front
from certvae.store.store import Store
from tests.engine.test_search import BASE, cells_of, outcome, search
from tests.simulated_pool import run, simulated_curve, survived, watched

RECORDED = Path(__file__).parents[1] / "recorded" / "digits_search.csv"
RULE = StopRule(Goal(), 10, 0.9, 40, (Need("score", 1.0, 0.2), Need("psnr_drop", 0.0, 0.3)))
GOOD = {"epoch": 10, "guard_margin": 0.9, "guard_psnr_01": 18.5}
REFERENCE = {"epoch": 20, "guard_margin": -0.1, "guard_psnr_01": 19.5}


def config(score, slack, margins, drops, name="c"):
    """A complete config with what its cells showed halfway: margins in nats, drops in dB below the reference."""
    judged = Judged(name, "complete", "", len(margins), 0, 0, score, psnr=18.0, violations={"psnr_drop": -slack})
    return judged, [Halfway(margin, 19.0 - drop, 19.0) for margin, drop in zip(margins, drops, strict=True)]


def like(count, *, slack=0.5, margins=(0.9,), drops=(1.0,), score=1.0):
    """So many configs that showed the same."""
    return [config(score, slack, margins, drops, f"c{number}") for number in range(count)]


class TestBound:
    @pytest.mark.parametrize("miss", [0.05, 0.1, 0.3])
    def test_the_next_value_exceeds_it_no_more_often_than_it_says(self, miss):
        draws = np.random.default_rng(0).gumbel(size=(4000, 41))
        exceeded = [row[-1] > upper_quantile(row[:-1].tolist(), miss) for row in draws]
        assert np.mean(exceeded) == pytest.approx(miss, abs=0.035)
        assert np.mean(exceeded) <= miss + 0.015  # three standard errors

    def test_too_few_values_bound_nothing(self):
        assert upper_quantile([1.0] * 8, 0.1) == np.inf
        assert upper_quantile([1.0] * 9, 0.1) == 1.0

    def test_the_confidence_is_shared_between_quantities(self):
        assert learn(Goal(), 0.9, 10, like(18)) is None
        rule = learn(Goal(), 0.9, 10, like(19))
        assert {need.quantity: need.wanted for need in rule.needs} == {"score": 1.0, "psnr_drop": 0.0}

    def test_the_least_promising_cell_of_a_config_counts(self):
        rule = learn(Goal(), 0.5, 10, like(9, margins=(0.9, 0.2), drops=(1.0, 1.4)))
        assert {need.quantity: round(need.gain, 9) for need in rule.needs} == {"score": 0.8, "psnr_drop": 0.4}

    def test_two_objectives_have_no_best_score(self):
        rule = learn(Goal(pareto=True), 0.5, 10, like(9))
        assert [need.quantity for need in rule.needs] == ["psnr_drop"]

    def test_a_missing_number_halfway_bounds_nothing(self):
        blind = [(judged, [Halfway(None, None, None)]) for judged, _ in like(9)]
        assert learn(Goal(), 0.5, 10, blind) is None

    def test_infeasible_and_censored_configs_set_no_best_score(self):
        stopped = (Judged("c", "censored", "", 0, 0, 0), [])
        rule = learn(Goal(), 0.5, 10, [*like(9, score=5.0, slack=-0.5), stopped])
        assert ([need.quantity for need in rule.needs], rule.configs) == (["psnr_drop"], 9)

    def test_a_config_that_was_proposed_twice_counts_once(self):
        once = like(9)
        assert learn(Goal(), 0.5, 10, once * 2) == learn(Goal(), 0.5, 10, once)
        assert learn(Goal(), 0.9, 10, like(1) * 40) is None


class TestWatch:
    def follow(self, *heard):
        watch = Censor(RULE)
        for step, point in heard:
            watch.heard({"at": step})
            watch.heard(point)

    def test_a_cell_that_can_still_win_goes_on(self):
        self.follow(("no_align", REFERENCE), ("full", GOOD))

    @pytest.mark.parametrize(
        ("change", "said"), [({"guard_margin": 0.79}, "score"), ({"guard_psnr_01": 17.69}, "psnr_drop")]
    )
    def test_one_that_cannot_is_censored_with_both_numbers(self, change, said):
        with pytest.raises(Censored, match=rf"{said}.* can reach .* at most, .* is needed .*epoch 10.*40 earlier"):
            self.follow(("no_align", REFERENCE), ("full", GOOD | change))

    def test_other_epochs_other_modes_and_missing_numbers_end_nothing(self):
        bad = GOOD | {"guard_margin": -5.0}
        self.follow(("full", bad | {"epoch": 11}), ("rescue", bad), ("no_align", bad))
        self.follow(("full", {"epoch": 10, "guard_margin": None, "guard_psnr_01": None}))

    def test_without_the_reference_its_constraint_is_not_looked_at(self):
        self.follow(("full", GOOD | {"guard_psnr_01": 1.0}))

    def test_a_published_curve_decides_as_a_live_one(self, tmp_path):
        store = Store(tmp_path / "s")
        curve = store.call(simulated_curve, 0.9, 18.0, 20, 0.9)
        point = next(point for point in curve.facts["curve"] if point["epoch"] == 10)
        with pytest.raises(Censored) as live:
            self.follow(("full", point))
        with pytest.raises(Censored) as later:
            Censor(RULE).published("full", curve)
        assert str(live.value) == str(later.value)

    def test_without_a_rule_nothing_is_read(self):
        Censor(None).published("full", None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("epochs", "every", "found"), [(60, 1, 30), (60, 7, 28), (5, 1, 2), (1, 1, None), (6, 5, None)]
)
def test_halfway_is_a_report_point_in_the_first_half(epochs, every, found):
    assert halfway_epoch(Training(epochs=epochs, report_every=every)) == found


def test_a_rule_is_read_back_from_json():
    assert StopRule.of(json.loads(json.dumps(RULE.body()))) == RULE


class TestSearch:
    """Whole searches on the simulated pool, with stored curves."""

    def searched(self, path, workers=1, jitter=0, **how):
        store = Store(path)
        found = search(early_stop=0.6, total=24)
        settle_rule(found, store)
        cells = cells_of(found, store)
        run(cells, workers, jitter, put=store.put_row, work=lambda cell: watched(cell, store), **how)
        return cells

    def test_workers_and_kills_do_not_change_what_is_censored(self, tmp_path):
        calm = self.searched(tmp_path / "1")
        wanted = outcome(calm)
        stopped = [judged for judged in calm.judged.values() if judged.outcome == "censored"]
        assert len(stopped) >= 3
        assert outcome(self.searched(tmp_path / "4", 4, 2)) == wanted
        killed = survived(lambda attempt: self.searched(tmp_path / "k", 3, attempt, die_after=9))
        assert outcome(killed) == wanted

    def test_a_censored_config_is_told_as_pruned_and_its_cells_are_not_missing(self, tmp_path):
        cells = self.searched(tmp_path / "s")
        known = censored(Store(tmp_path / "s"), BASE.study)
        assert known
        assert cells.missing() == []
        assert not {cell.spec.cell for cell in cells.confirmed()} & known.keys()
        for judged in cells.judged.values():
            assert judged.outcome != "censored" or ("at most" in judged.reason and not judged.feasible)

    def test_a_front_without_a_constraint_has_nothing_to_stop_at(self):
        with pytest.raises(SearchFault, match="psnr-floor"):
            search(early_stop=0.9, goal=Goal(pareto=True, psnr_drop=None))


class Recorded:
    """A search that ran without early stop: 48 configs x 3 seeds on digits, 30 epochs a mode, psnr_drop 0.3 dB."""

    goal = Goal(psnr_drop=0.3)

    def __init__(self):
        self.frame = pd.read_csv(RECORDED)
        self.judged = [self._judged(lines) for _, lines in self.frame.groupby("number")]
        self.shown = [self._halfway(lines) for _, lines in self.frame.groupby("number")]

    def by_seed(self):
        """Every config after one seed, two, and three."""
        groups = [lines for _, lines in self.frame.groupby("number")]
        return [[self._judged(lines.head(ran)) for ran in range(1, len(lines) + 1)] for lines in groups]

    def _judged(self, lines):
        named = lines[["config", "seed", "teacher_status"]].assign(split="guard", outcome="ok", reason="")
        full = named.assign(mode="full", margin=lines["margin"], psnr_01=lines["psnr_01"])
        reference = named.assign(mode="no_align", margin=0.0, psnr_01=lines["reference_psnr"])
        rows = [*full.to_dict("records"), *reference.to_dict("records")]
        return judge(lines["config"].iloc[0], lines["seed"].tolist(), rows, self.goal)

    def _halfway(self, lines):
        columns = ("halfway_margin", "halfway_psnr", "reference_psnr")
        return [Halfway(*values) for values in lines[list(columns)].itertuples(index=False)]

    def replay(self, confidence, lag=8):
        """Configs that are not censored when each is held against those at least `lag` before it."""
        kept = []
        for number, judged in enumerate(self.judged):
            earlier = [(one, self.shown[place]) for place, one in kept if place <= number - lag]
            rule = learn(self.goal, confidence, 15, earlier)
            if not any(stopped(rule, cell) for cell in self.shown[number]):
                kept.append((number, judged))
        return [judged for _, judged in kept]


def stopped(rule, cell):
    try:
        if rule is not None:
            rule.check(cell)
    except Censored:
        return True
    return False


class TestRecorded:
    @pytest.mark.parametrize("confidence", [0.6, 0.8, 0.9])
    def test_the_winner_of_a_recorded_search_does_not_change(self, confidence):
        recorded = Recorded()
        kept = recorded.replay(confidence)
        certainty = recorded.goal.certainty
        assert best(kept, certainty) == best(recorded.judged, certainty)
        assert len(kept) < len(recorded.judged)

    def test_no_config_of_its_front_is_censored_by_the_constraint_alone(self):
        recorded = Recorded()
        recorded.goal = dataclasses.replace(recorded.goal, pareto=True)
        lost = {one.config for one in recorded.judged} - {one.config for one in recorded.replay(0.9)}
        assert not lost & {one.config for one in pareto_front(recorded.judged)}
