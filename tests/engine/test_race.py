"""Racing: chances that hold as often as they say, decisions of no clock, and the same winner for fewer seeds."""

import dataclasses
import io
import json
from collections import Counter

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from certvae.canonical import plain
from certvae.engine import runs, standing
from certvae.engine.dispatch import Ended
from certvae.engine.race import Race, entered
from certvae.engine.rule import settle_rule
from certvae.engine.search import censored
from certvae.engine.summary import search_shown
from certvae.errors import SearchFault
from certvae.spec.goal import Goal
from certvae.spec.judged import Judged, judge
from certvae.spec.noise import Noise
from certvae.spec.ranking import best
from certvae.store.store import Store
from tests.engine.test_early_stop import Recorded
from tests.engine.test_search import BASE, cells_of, outcome, search
from tests.simulated_pool import rows_of, run, survived

NOISE = Noise({"psnr_drop": 0.04, "score": 0.01}, 10)
SEEDS = (100, 101, 102, 103)


def first(score=1.0, violation=-1.0, n=1, n_stress=0):
    return Judged("c", "complete", "", n, 0, n_stress, score, (score,) * n, 18.0, 0.5, {"psnr_drop": violation})


def race(**changes):
    return Race(**{"goal": Goal(), "confidence": 0.9, "seeds": 3, "best": 1.0, "noise": NOISE, **changes})


class TestChances:
    def test_a_score_is_out_of_reach_where_the_t_distribution_says_so(self):
        level = 0.1 / 2 / 2  # two looks, two conditions
        reach = -stats.t.ppf(level, 10) * 0.1 * np.sqrt(1 - 1 / 3)
        assert race().hopeless(first(1.0 - reach + 1e-9)) == ""
        assert "of more than +1 after all seeds is 0.025, and 0.025 is asked for" in race().hopeless(
            first(1.0 - reach - 1e-9)
        )

    def test_a_constraint_must_be_kept_at_the_certainty_once_all_seeds_have_ended(self):
        last = stats.t.ppf(0.9, 10) * 0.2 / np.sqrt(3)
        rise = -stats.t.ppf(0.025, 10) * 0.2 * np.sqrt(1 / 2 - 1 / 3)
        assert race().hopeless(first(9.0, rise - last - 1e-9, n=2)) == ""
        assert "that psnr_drop is kept at 90%" in race().hopeless(first(9.0, rise - last + 1e-9, n=2))

    def test_stress_cases_are_seeds_that_no_mean_has(self):
        """With one of three apart a mean over one of two is what is left to move."""
        reach = -stats.t.ppf(0.025, 10) * 0.1 * np.sqrt(1 - 1 / 2)
        assert race().hopeless(first(1.0 - reach + 1e-9, n_stress=1)) == ""
        assert race().hopeless(first(1.0 - reach - 1e-9, n_stress=1))

    def test_a_bound_that_every_seed_must_have_is_lost_with_the_first_that_has_none(self):
        goal, noise = Goal(kind="max_kl", psnr_drop=None), Noise({"channel": 0.0, "score": 0.0}, 4)
        one = dataclasses.replace(first(2.0), violations={"channel": 0.01})
        assert "that channel is kept" in race(goal=goal, noise=noise).hopeless(one)
        assert race(goal=goal, noise=noise).hopeless(dataclasses.replace(one, violations={"channel": -0.01})) == ""

    def test_what_would_have_won_is_dropped_no_more_often_than_it_says(self):
        """Scores around the best one, with noise as large as it is thought to be."""
        rng, dropped, won = np.random.default_rng(0), 0, 0
        for truth in rng.normal(0.9, 0.15, 4000):
            seeds = truth + rng.normal(0, 0.1, 3)
            if seeds.mean() > 1.0:
                won += 1
                dropped += any(race().hopeless(first(float(seeds[:n].mean()), n=n)) for n in (1, 2))
        assert won > 500
        assert dropped / won <= 0.1

    def test_noise_is_learned_from_what_ended_before(self):
        rows = [row | {"config": "c"} for seed in SEEDS[:2] for row in numbers(seed, 1.0 + seed % 2, 19.0)]
        one = judge("c", SEEDS[:2], rows, Goal())
        assert entered(Goal(), 0.9, 3, []) is None
        made = entered(Goal(), 0.9, 3, [one])
        assert (made.best, made.noise.variances["score"], made.noise.freedom) == (1.5, pytest.approx(0.5), 1)
        assert entered(Goal(pareto=True), 0.9, 3, [one]).best is None

    def test_it_is_read_back_from_json(self):
        assert Race.of(json.loads(json.dumps(race().body()))) == race()


def numbers(seed, margin, psnr):
    known = {"seed": seed, "split": "guard", "outcome": "ok", "teacher_status": "strict-feasible"}
    return [
        {**known, "mode": "full", "margin": margin, "psnr_01": psnr},
        {**known, "mode": "no_align", "margin": 0.0, "psnr_01": 20.0},
    ]


class TestSearch:
    """Whole searches on the simulated pool."""

    def searched(self, path, workers=1, jitter=0, **how):
        store = Store(path)
        found = search(race=0.9, total=20, seeds=SEEDS[:3], goal=Goal(psnr_drop=1.0))
        settle_rule(found, store)
        cells = cells_of(found, store)
        run(cells, workers, jitter, put=store.put_row, **how)
        return cells

    @pytest.fixture(scope="class")
    def calm(self, tmp_path_factory):
        return self.searched(tmp_path_factory.mktemp("calm") / "s")

    def test_workers_and_kills_do_not_change_what_is_dropped(self, calm, tmp_path):
        wanted = outcome(calm)
        assert sum(judged.outcome == "censored" for judged in wanted[1]) >= 5
        assert outcome(self.searched(tmp_path / "4", 4, 2)) == wanted
        killed = survived(lambda attempt: self.searched(tmp_path / "k", 3, attempt, die_after=5))
        assert outcome(killed) == wanted

    def test_a_config_that_was_dropped_ran_some_of_its_seeds_and_says_how_many(self, calm):
        lost = [judged for judged in calm.judged.values() if judged.outcome == "censored"]
        for judged in lost:
            ran = [cell for cell in cells(calm, judged.config) if calm.rows.of(cell)]
            assert f"stopped after {len(ran)} of 3 seeds: the probability" in judged.reason
            assert [cell.spec.seed for cell in ran] == [*SEEDS[: len(ran)]]
            assert not judged.feasible
            assert judged.variances is None
        assert calm.missing() == []
        said = io.StringIO()
        Console(file=said, width=200).print(search_shown(calm))
        ran = Counter(judged.n for judged in lost)
        assert ", ".join(f"{ran[n]} stopped after {n} of 3 seeds" for n in sorted(ran)) in said.getvalue()

    def test_the_store_alone_tells_how_many_were_dropped(self, tmp_path):
        """Cells that nobody handed out are in no log."""

        def elsewhere(cell):
            known = {"environment": "e" * 64, "spec": plain(cell.spec)}
            return Ended("ok", rows=[row | known for row in rows_of(cell)])

        found = self.searched(tmp_path / "s", work=elsewhere)
        store, whole = Store(tmp_path / "s"), [cell for one in found.configs for cell in cells(found, one.config)]
        runs.ask(store, BASE.study, [cell for cell in whole if found.rows.of(cell)])
        lost = Counter(judged.n for judged in found.configs if judged.outcome == "censored")
        stopped = ", ".join(f"{lost[n]} stopped after {n} of 3 seeds" for n in sorted(lost))
        told = list(standing.Standing(store, BASE.study).head)
        assert any(f"20 of 20 configs judged, 0 incomplete, {stopped}" in line for line in told), told

    def test_fewer_cells_find_the_winner_of_all_of_them(self, calm):
        total = sum(len(cells(calm, judged.config)) for judged in calm.configs)
        ran = sum(bool(calm.rows.of(cell)) for judged in calm.configs for cell in cells(calm, judged.config))
        assert ran < 0.75 * total
        whole = [judge(one.config, SEEDS[:3], every_row(calm, one.config), calm.search.goal) for one in calm.configs]
        assert best(whole, 0.9).config == calm.winner.config

    def test_seeds_that_ran_after_all_do_not_count(self, calm, tmp_path):
        """The first seed of every other config is lost to a full disk: the others run, and the next run mends it."""
        odd = set()

        def disk_is_full(spec):
            odd.add(spec.config)
            return spec.seed == 100 and sorted(odd).index(spec.config) % 2 == 1

        disturbed = self.searched(tmp_path / "s", fails=disk_is_full)
        assert any(judged.outcome == "incomplete" for judged in disturbed.judged.values())
        assert outcome(self.searched(tmp_path / "s", 4, 1)) == outcome(calm)

    def test_a_seed_that_diverged_drops_nothing(self, tmp_path):
        def diverges(cell):
            rows = rows_of(cell)
            lost = cell.spec.seed == 100
            return Ended("ok", rows=[row | {"outcome": "diverged", "reason": "NaN"} if lost else row for row in rows])

        found = self.searched(tmp_path / "s", work=diverges)
        assert {judged.outcome for judged in found.judged.values()} == {"incomplete"}
        assert censored(Store(tmp_path / "s"), BASE.study) == {}

    def test_a_config_that_is_proposed_again_is_not_run_again(self, tmp_path):
        def space(trial, base):
            goal = dataclasses.replace(
                base.protocol.objective, lambda_ts=trial.suggest_categorical("x", [0.3, 3.0, 30.0])
            )
            return dataclasses.replace(base, protocol=dataclasses.replace(base.protocol, objective=goal))

        outcomes = []
        for workers in (1, 5):
            store = Store(tmp_path / str(workers))
            found = search(race=0.9, total=9, space=space, sampler="random", seeds=SEEDS[:3])
            settle_rule(found, store)
            made = cells_of(found, store)
            run(made, workers, workers, put=store.put_row)
            outcomes.append(outcome(made))
            assert made.missing() == []
        assert outcomes[0] == outcomes[1]

    @pytest.mark.parametrize("without", [{"seeds": (1,)}, {"goal": Goal(pareto=True, psnr_drop=None)}])
    def test_what_has_nothing_to_compare_is_refused(self, without):
        with pytest.raises(SearchFault, match="--search-seeds"):
            search(race=0.9, **without)
        search(race=0.9)


def cells(found, config):
    return found.search.cells(found.spec(config))


def every_row(found, config):
    return [row for cell in cells(found, config) for row in rows_of(cell)]


class TestRecorded:
    @pytest.mark.parametrize(("lag", "share"), [(3, 0.60), (8, 0.70)])
    def test_the_winner_of_a_recorded_search_does_not_change(self, lag, share):
        recorded = Recorded()
        raced, ran = [], 0
        for whole, seeds in zip(recorded.judged, recorded.by_seed(), strict=True):
            rule = entered(recorded.goal, 0.9, 3, raced[: max(0, len(raced) - lag + 1)])
            lost = next((one for one in seeds[:2] if rule and rule.hopeless(one)), None)
            ran += lost.n if lost else 3
            raced.append(dataclasses.replace(lost, outcome="censored", variances=None) if lost else whole)
        certainty = recorded.goal.certainty
        assert best(raced, certainty) == best(recorded.judged, certainty)
        assert ran < share * 3 * len(raced)
