"""Configs beside each other at the end of a run: only strict-feasible seeds, and no mean over what is missing."""

import io

from rich.console import Console

from certvae.engine.compared import DESCRIPTIVE, compared
from certvae.engine.summary import tables
from tests.engine.test_summary import row


def config(name, weight, seed, margin, **more):
    spec = {"seed": seed, "protocol": {"lambda_ts": weight}}
    return row(seed, "full", margin, config=name, spec=spec, sampled_affine_population_bound=0.4, **more)


def lines(rows) -> list[str]:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(compared(rows, {"a": "lambda_ts 1", "b": "lambda_ts 5"}))
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


BOTH = [config(name, weight, seed, 1.0 + seed) for name, weight in (("a", 1), ("b", 5)) for seed in (0, 1)]


def test_a_line_per_config_and_mode():
    first, second = (line for line in lines(BOTH) if line.startswith("lambda_ts"))
    assert first == "lambda_ts 1 full 2 0 +1.500 +1.000 +2.000 2 of 2 2 of 2 19.1"
    assert second.startswith("lambda_ts 5 full")


def test_a_stress_case_is_in_no_mean_and_is_counted():
    told = lines([*BOTH, config("a", 1, 2, -9.0, teacher_status="stress-case")])
    assert "without 1 stress-case seed" in " ".join(told)
    assert "+1.500" in next(line for line in told if line.startswith("lambda_ts 1"))


def test_a_failed_seed_is_counted_and_in_no_mean():
    failed = config("a", 1, 2, None, outcome="diverged", population_bound=None)
    told = next(line for line in lines([*BOTH, failed]) if line.startswith("lambda_ts 1"))
    assert told == "lambda_ts 1 full 3 1 +1.500 +1.000 +2.000 2 of 3 2 of 3 19.1"


def test_a_failed_run_of_a_stress_case_is_a_stress_case():
    """As in the report: the seed is counted apart, and not among those that failed."""
    apart = [
        config("a", 1, 2, -9.0, teacher_status="stress-case", key_teacher="t"),
        config("a", 1, 2, None, outcome="diverged", teacher_status=None, key_teacher="t") | {"mode": "rescue"},
        config("a", 1, 3, None, outcome="infeasible_teacher", teacher_status=None),
    ]
    told = lines([*BOTH, *apart])
    assert "without 2 stress-case seeds" in " ".join(told)
    assert next(line for line in told if line.startswith("lambda_ts 1")).startswith("lambda_ts 1 full 2 0 +1.500")
    assert not any("rescue" in line for line in told)


def test_a_psnr_that_is_missing_is_in_no_mean():
    broken = config("a", 1, 2, 1.5) | {"psnr_01": None}
    told = next(line for line in lines([*BOTH, broken]) if line.startswith("lambda_ts 1"))
    assert told == "lambda_ts 1 full 3 0 +1.500 +1.000 +2.000 3 of 3 3 of 3 -"


def test_it_says_of_which_rows_and_what_certified_means():
    told = " ".join(lines([{**one, "split": "guard"} for one in BOTH]))
    assert "guard rows: means over strict-feasible seeds" in told
    assert DESCRIPTIVE.format("guard") in told
    assert "choices have seen" not in " ".join(lines(BOTH))
    assert "certify rows: means over strict-feasible seeds" in " ".join(lines(BOTH))
    assert "certified: population bound of the head above 0" in told


def test_no_number_is_made_up_where_every_seed_failed():
    failed = [config("a", 1, seed, None, outcome="diverged", population_bound=None) for seed in (0, 1)]
    told = next(line for line in lines(failed) if line.startswith("lambda_ts 1"))
    assert told == "lambda_ts 1 full 2 2 - - - 0 of 2 0 of 2 -"


def test_one_config_is_compared_with_nothing():
    assert len(tables(BOTH[:2])) == 1
    assert len(tables(BOTH)) == 3
