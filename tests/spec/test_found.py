"""What a search found, in words: in the unit of its goal, and of nothing that was not asked."""

from dataclasses import replace

import pytest

from certvae.spec.found import confirmation_words, winner_words
from certvae.spec.goal import Goal
from certvae.spec.judged import judge

SEARCHED, FRESH = (0, 1, 2), (7, 8)
KL = Goal(kind="max_kl", psnr_drop=None)


def rows(config="a" * 64, margin=1.8, psnr=19.0, draws=0.3, seeds=(*SEARCHED, *FRESH)):
    known = {"config": config, "split": "guard", "outcome": "ok", "teacher_status": "strict-feasible"}
    known |= {"alpha_kl": 4.0, "population_bound": 1.0, "sampled_population_bound": draws}
    return [
        {**known, "seed": seed, "mode": mode, "margin": margin + 0.01 * seed, "psnr_01": psnr + (mode != "full") * 0.4}
        for seed in seeds
        for mode in ("full", "no_align")
    ]


def said(goal, fresh=FRESH, **changes):
    """Of a winner beside a second config: itself, and on these fresh seeds."""
    found, second = rows(**changes), rows("b" * 64, margin=0.5)
    judged = [judge(one[0]["config"], SEARCHED, one, goal) for one in (found, second)]
    names = {"b" * 64: "lambda_ts 1"}
    return winner_words(judged[0], judged, goal, names), confirmation_words(judged[0], fresh, found, goal)


def test_of_a_margin():
    winner, confirmed = said(Goal())
    assert winner == (
        "mean margin +1.8100 nats over n = 3 strict-feasible search seeds (n_failed 0, 0 stress cases), PSNR 19.00 dB, "
        "slack +1.10 dB, kept with a probability of 100% before it was chosen among 2; runner-up lambda_ts 1 +0.510, "
        "100%"
    )
    assert confirmed == (
        "confirmed on 2 fresh seeds (guard split): +1.8750, 0 stress cases apart, slack +1.10 dB: its constraints "
        "held, kept with a probability of 100%; optimism of the search -0.0650 nats"
    )


def test_of_a_weight_there_is_no_margin_and_no_slack_in_decibels():
    winner, confirmed = said(KL)
    assert winner == (
        "alpha_kl 4 over n = 3 strict-feasible search seeds (n_failed 0, 0 stress cases), PSNR 19.00 dB, slack +0.30 "
        "nats"
    )
    assert confirmed == (
        "held against 2 fresh seeds (guard split): alive and certified in all of them, 0 stress cases apart, slack "
        "+0.30 nats"
    )
    assert "not alive and certified in all of them" in said(KL, draws=-0.1)[1]


def test_without_a_constraint_nothing_is_said_to_be_kept():
    assert not [word for text in said(Goal(psnr_drop=None, pareto=True)) for word in ("slack", "kept") if word in text]


@pytest.mark.parametrize("goal", [Goal(), KL])
def test_one_seed_is_no_seeds(goal):
    assert "on 1 fresh seed (" in said(goal, fresh=(7,))[1].replace("held against", "on")


def test_without_rows_of_fresh_seeds_nothing_is_confirmed_yet():
    assert said(Goal(), fresh=())[1].startswith("not confirmed yet")
    assert said(Goal(), fresh=(9,))[1].startswith("not confirmed yet")
    assert said(Goal(), fresh=(7, 9))[1] == "not confirmed: seed 9: no result (the cell failed)"


def test_a_runner_up_without_a_name_is_called_by_its_digest():
    judged = [judge(one[0]["config"], SEARCHED, one, Goal()) for one in (rows(), rows("b" * 64, margin=0.5))]
    assert "runner-up bbbbbbbbbbbb +0.510" in winner_words(judged[0], judged, Goal())
    assert "runner-up" not in winner_words(judged[0], judged[:1], replace(Goal(), certainty=0.5))
