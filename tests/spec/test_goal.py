"""What a search maximises: no path names a best config that is not feasible, and nothing is averaged over survivors."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from certvae import answers
from certvae.canonical import plain
from certvae.engine import summary
from certvae.engine.command import parse
from certvae.errors import ConfigFault
from certvae.spec.goal import Goal
from certvae.spec.judged import Judged, judge
from certvae.spec.noise import Noise
from certvae.spec.ranking import best, hypervolume, nearest_misses, pareto_front, ranked
from sweeps import search_margin_psnr

SEEDS = (100, 101, 102)


def row(seed, mode, margin, psnr, *, status="strict-feasible", outcome="ok", config="c"):
    return {
        "config": config,
        "seed": seed,
        "mode": mode,
        "split": "guard",
        "outcome": outcome,
        "reason": "loss became nan" if outcome == "diverged" else "",
        "margin": margin,
        "psnr_01": psnr,
        "teacher_status": status,
    }


def rows(margins, drops=(0.0, 0.0, 0.0), statuses=("strict-feasible",) * 3):
    pairs = zip(SEEDS, margins, drops, statuses, strict=True)
    return [
        one
        for seed, margin, drop, status in pairs
        for one in (
            row(seed, "full", margin, 20 - drop, status=status),
            row(seed, "no_align", -0.1, 20, status=status),
        )
    ]


class TestScore:
    def test_mean_worst_and_mean_minus_standard_error(self):
        found = rows((1.0, 2.0, 3.0))
        scores = {name: judge("c", SEEDS, found, Goal(score=name)).score for name in ("mean", "worst", "mean-se")}
        assert scores == pytest.approx({"mean": 2.0, "worst": 1.0, "mean-se": 2 - 1 / math.sqrt(3)})

    def test_the_constraint_is_the_mean_drop_below_the_paired_reference(self):
        judged = judge("c", SEEDS, rows((1, 1, 1), drops=(1.0, 2.0, 3.0)), Goal(psnr_drop=1.5))
        assert judged.violations == pytest.approx({"psnr_drop": 0.5})
        assert not judged.feasible
        assert judged.slack == pytest.approx(-0.5)

    def test_an_absolute_floor(self):
        judged = judge("c", SEEDS, rows((1, 1, 1)), Goal(psnr_drop=None, psnr_floor=19.0))
        assert judged.feasible
        assert judged.slack == pytest.approx(1.0)

    def test_rows_of_other_configs_and_splits_do_not_count(self):
        mixed = [
            *rows((1, 1, 1)),
            row(100, "full", 99.0, 99.0, config="other"),
            *({**row(100, "full", 9, 9), "split": split} for split in ("train", "certify")),
        ]
        assert judge("c", SEEDS, mixed, Goal()).score == pytest.approx(1.0)

    def test_a_goal_without_any_reconstruction_constraint_is_refused(self):
        with pytest.raises(ConfigFault, match="reconstruction"):
            Goal(psnr_drop=None)


class TestLargestKl:
    """The largest alpha_kl at which, in every seed, the channel is alive and the head certified."""

    goal = Goal(kind="max_kl", psnr_drop=None)

    def config(self, alpha_kl, heads=(1.0, 1.0, 1.0), draws=(1.0, 1.0, 1.0), config="c"):
        found = rows((1.0, 1.0, 1.0))
        bounds = dict(zip(SEEDS, zip(heads, draws, strict=True), strict=True))
        return [
            one
            | {"alpha_kl": alpha_kl, "config": config, "kl_rate": 1.0}
            | dict(zip(("population_bound", "sampled_population_bound"), bounds[one["seed"]], strict=True))
            for one in found
        ]

    def test_the_score_is_the_weight_and_the_slack_the_least_bound(self):
        judged = judge("c", SEEDS, self.config(8.0, (0.5, 0.4, 0.3), (0.2, 0.9, 0.9)), self.goal)
        assert (judged.score, judged.feasible) == (8.0, True)
        assert judged.slack == pytest.approx(0.2)

    @given(bounds=st.lists(st.floats(-3, 3), min_size=6, max_size=6))
    def test_a_config_is_feasible_exactly_where_every_row_says_so(self, bounds):
        found = self.config(8.0, tuple(bounds[:3]), tuple(bounds[3:]))
        said = [(answers.head(one), answers.channel(one)) for one in found if one["mode"] == "full"]
        marginal = any(0 < abs(bound) <= 1e-9 for bound in bounds)
        assert marginal or judge("c", SEEDS, found, self.goal).feasible == (said == [("certified", "alive")] * 3)

    def test_the_largest_feasible_weight_wins(self):
        dead = (-0.1, -0.1, -0.1)
        judged = [
            judge("a", SEEDS, self.config(2.0, config="a"), self.goal),
            judge("b", SEEDS, self.config(5.0, config="b"), self.goal),
            judge("c", SEEDS, self.config(9.0, draws=dead, config="c"), self.goal),
            judge("d", SEEDS, self.config(7.0, heads=(1.0, 1.0, -0.1), config="d"), self.goal),
        ]
        winner = best(judged, self.goal.certainty)
        assert winner is not None
        assert winner.config == "b"

    def test_a_row_without_a_bound_makes_it_incomplete(self):
        found = [one | {"sampled_population_bound": None} for one in self.config(8.0)]
        assert judge("c", SEEDS, found, self.goal).outcome == "incomplete"

    def test_a_bound_on_reconstruction_beside_it_is_refused_and_the_remedy_works(self):
        with pytest.raises(ConfigFault, match=r"add --goal\.psnr-drop None"):
            Goal(kind="max_kl")
        assert parse(search_margin_psnr.STUDY, ["--goal.kind", "max_kl", "--goal.psnr-drop", "None"])[2] == self.goal

    def test_goals_about_a_margin_keep_their_names(self):
        assert "kind" not in plain(Goal())
        assert Goal.of(plain(Goal())) == Goal()
        assert Goal.of(plain(self.goal)) == self.goal


class TestIncomplete:
    def test_a_missing_seed_makes_the_config_incomplete(self):
        judged = judge("c", SEEDS, rows((1, 2, 3))[:-2], Goal())
        assert (judged.outcome, judged.n_failed, judged.score) == ("incomplete", 1, None)
        assert "seed 102" in judged.reason

    def test_a_diverged_seed_makes_the_config_incomplete(self):
        found = rows((1, 2, 3))
        found[2] = row(101, "full", None, None, outcome="diverged")
        judged = judge("c", SEEDS, found, Goal())
        assert judged.outcome == "incomplete"
        assert "diverged: loss became nan" in judged.reason

    @pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("field", ["margin", "psnr_01"])
    @pytest.mark.parametrize("position", [0, 1])
    def test_a_number_that_is_not_finite_is_never_feasible(self, bad, field, position):
        found = rows((1, 2, 3))
        found[position][field] = bad
        judged = judge("c", SEEDS, found, Goal())
        assert judged.outcome == "incomplete"
        assert not judged.feasible
        with pytest.raises(ValueError, match="incomplete"):
            judged.values(Goal())

    def test_stress_cases_enter_no_score_and_are_counted(self):
        statuses = ("strict-feasible", "stress-case", "strict-feasible")
        judged = judge("c", SEEDS, rows((1.0, 100.0, 3.0), statuses=statuses), Goal())
        assert (judged.n, judged.n_stress, judged.score) == (2, 1, pytest.approx(2.0))

    def test_a_config_of_stress_cases_alone_is_incomplete(self):
        judged = judge("c", SEEDS, rows((1, 2, 3), statuses=("stress-case",) * 3), Goal())
        assert judged.outcome == "incomplete"


def configs():
    """Judged configs of every kind: feasible, violated, incomplete, without recorded constraints."""
    number = st.floats(-5, 5)
    violations = st.none() | st.dictionaries(st.just("psnr_drop"), number)
    return st.builds(
        Judged,
        config=st.text("abc", min_size=1),
        outcome=st.sampled_from(["complete", "incomplete"]),
        reason=st.just(""),
        n=st.integers(0, 3),
        n_failed=st.integers(0, 3),
        n_stress=st.integers(0, 3),
        score=st.none() | number,
        psnr=st.none() | number,
        violations=violations,
    )


class TestSelection:
    @given(st.lists(configs()))
    def test_no_path_names_an_infeasible_best(self, found):
        winner = best(found, 0.5)
        named = [*([winner] if winner else []), *pareto_front(found)]
        for one in named:
            assert one.outcome == "complete"
            assert one.violations is not None
            assert all(violation <= 0 for violation in one.violations.values())

    @given(st.lists(configs()))
    def test_the_best_has_the_largest_score_of_all_feasible(self, found):
        winner = best(found, 0.5)
        scores = [one.score for one in found if one.feasible and one.score is not None]
        assert (winner.score if winner else None) == (max(scores) if scores else None)

    def test_nothing_feasible_gives_no_best_but_the_nearest_miss(self):
        near = judge("near", SEEDS, [{**one, "config": "near"} for one in rows((1, 1, 1), (1.6,) * 3)], Goal())
        far = judge("far", SEEDS, [{**one, "config": "far"} for one in rows((9, 9, 9), (5.0,) * 3)], Goal())
        assert best([far, near], 0.5) is None
        assert nearest_misses([far, near])[0] is near

    def test_the_earlier_config_of_a_tie_wins(self):
        tied = [at(1.0, 11.0), at(2.0, 12.0), at(2.0, 19.0)]
        assert best(tied, 0.5) is tied[1]

    def test_a_config_exactly_on_its_constraint_is_feasible(self):
        judged = judge("c", SEEDS, rows((1, 1, 1), drops=(1.5, 1.5, 1.5)), Goal(psnr_drop=1.5))
        assert judged.violations == {"psnr_drop": 0.0}
        assert judged.feasible

    def test_the_front_is_what_nothing_equals_in_one_and_exceeds_in_the_other(self):
        kept = [at(3.0, 11.0), at(2.0, 13.0), at(1.0, 14.0)]
        dominated = [at(3.0, 10.0), at(2.0, 12.0), at(1.0, 13.0), at(0.5, 14.0)]
        assert pareto_front([*dominated, *reversed(kept)]) == kept

    def test_a_config_that_was_drawn_twice_is_on_the_front_twice(self):
        assert pareto_front([at(3.0, 11.0), at(3.0, 11.0)]) == [at(3.0, 11.0)] * 2


class TestCertainty:
    def judged(self, name, drops, limit=1.5):
        return judge(
            name, SEEDS, [{**one, "config": name} for one in rows((1.0, 1.0, 1.0), drops)], Goal(psnr_drop=limit)
        )

    def test_is_the_t_posterior_of_the_mean_violation(self):
        drops = np.array([1.0, 1.3, 1.1])
        one = self.judged("a", drops)
        wanted = stats.t.cdf((1.5 - drops.mean()) / (drops.std(ddof=1) / math.sqrt(3)), df=2)
        assert Noise.of([one]).kept(one) == pytest.approx(wanted)

    def test_seeds_of_all_configs_tell_how_large_noise_is(self):
        lucky, noisy = self.judged("lucky", (1.49, 1.49, 1.49)), self.judged("noisy", (0.5, 1.0, 1.5))
        noise = Noise.of([lucky, noisy])
        assert noise.freedom == 4
        assert noise.kept(lucky) < 0.55

    def test_an_unsure_config_does_not_win_however_large_its_margin(self):
        unsure = judge("c", SEEDS, rows((9, 9, 9), (1.0, 1.5, 1.9)), Goal())
        sure = judge("d", SEEDS, [{**one, "config": "d"} for one in rows((1, 1, 1), (0.1, 0.2, 0.3))], Goal())
        assert unsure.feasible
        assert best([unsure, sure], 0.9) is sure
        assert best([unsure, sure], 0.5) is unsure
        assert best([unsure], 0.9) is None
        assert ranked([unsure, sure], 0.9) == [sure, unsure]

    def test_what_a_sampler_is_told_is_missed_exactly_where_a_config_is_unsure(self):
        for drop in np.linspace(0.5, 1.6, 23):
            one = self.judged("a", drop + np.array([-0.2, 0.0, 0.2]))
            noise = Noise.of([one])
            assert (noise.shortfalls(one, 0.9)["psnr_drop"] <= 0) == (noise.kept(one) >= 0.9)

    def test_a_config_that_was_proposed_twice_tells_of_its_seeds_once(self):
        one = judge("c", SEEDS, rows((1, 1, 1), (0.9, 1.0, 1.4)), Goal())
        assert Noise.of([one, one, one]) == Noise.of([one])
        assert best([one, one, one], 0.8) == best([one], 0.8)

    def test_one_seed_knows_no_noise_and_goes_by_its_mean(self):
        one = judge("c", SEEDS[:1], rows((1, 1, 1)), Goal())
        noise = Noise.of([one])
        assert (noise.is_known, noise.kept(one), noise.shortfalls(one, 0.9)) == (False, 1.0, one.violations)
        said = [summary.feasible([one], Goal()), summary.winner_text(one, [one, replace(one, config="d")], Goal(), {})]
        assert all("by the mean alone" in text and "100%" not in text for text in said)

    def test_the_promise_holds_for_a_config_on_the_limit(self):
        """Of configs that truly miss by nothing at all, no more than a tenth count as kept at 90 %."""
        rng = np.random.default_rng(0)
        drops = 1.5 + rng.normal(0, 0.2, (2000, 3))
        kept = [Noise.of([one]).kept(one) for one in (self.judged("a", drop) for drop in drops)]
        assert stats.binomtest(sum(found >= 0.9 for found in kept), 2000, 0.1).pvalue > 0.001

    def test_two_constraints_share_the_error(self):
        found = rows((1.0, 1.0, 1.0), (1.0, 1.2, 1.4))
        both = judge("c", SEEDS, found, Goal(psnr_drop=1.5, psnr_floor=18.5))
        drop = judge("c", SEEDS, found, Goal(psnr_drop=1.5))
        floor = judge("c", SEEDS, found, Goal(psnr_drop=None, psnr_floor=18.5))
        one, two = (1 - Noise.of([each]).kept(each) for each in (drop, floor))
        assert Noise.of([both]).kept(both) == pytest.approx(1 - one - two)


def test_a_standard_error_needs_two_strict_seeds():
    """With one there is none, and no penalty would favour the config that is known least."""
    one = rows((1.0, 9.0, 9.0), statuses=("strict-feasible", "stress-case", "stress-case"))
    judged = judge("c", SEEDS, one, Goal(score="mean-se"))
    assert (judged.outcome, judged.score, judged.n_stress) == ("incomplete", None, 2)
    assert "standard error" in judged.reason
    assert judge("c", SEEDS, one, Goal(score="mean")).score == 1.0


def at(margin, psnr, slack=0.0):
    return Judged("c", "complete", "", 3, 0, 0, score=margin, psnr=psnr, violations={"psnr_drop": -slack})


class TestHypervolume:
    def test_of_a_staircase(self):
        front = [at(3.0, 11.0), at(2.0, 13.0), at(1.0, 14.0)]
        assert hypervolume(front, (0.0, 10.0)) == pytest.approx(3 * 1 + 2 * 2 + 1 * 1)

    def test_what_is_dominated_infeasible_or_below_the_worst_adds_nothing(self):
        front = [at(3.0, 11.0)]
        more = [at(2.0, 10.5), at(9.0, 19.0, slack=-0.1), at(-1.0, 30.0), at(5.0, 9.0)]
        assert hypervolume(front + more, (0.0, 10.0)) == hypervolume(front, (0.0, 10.0)) == 3.0

    @given(st.lists(st.tuples(st.floats(-2, 5), st.floats(5, 30)), max_size=8))
    def test_it_is_the_share_of_a_grid_that_is_dominated(self, points):
        cells = [(x + 0.5, y + 0.5) for x in range(5) for y in range(10, 30)]
        rounded = [(float(round(margin)), float(round(psnr))) for margin, psnr in points]
        covered = sum(any(margin >= x and psnr >= y for margin, psnr in rounded) for x, y in cells)
        found = hypervolume([at(*point) for point in rounded], (0.0, 10.0))
        assert found == pytest.approx(covered)
