"""Reading rows costs what verifying and parsing them costs, and a report does not grow with the rows of a search.

Measured on two busy cores, 10,008 rows: load 0.7 s of processor time and 1.4 s on the clock, report 9.5 s and 15 s.
"""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.load import load
from analysis.report import Request, build, gather
from tests.analysis_rows import STUDY, filled, search, whole_study

FEW, MANY = 20, 400  # configs of 3 seeds and 3 modes each


def seconds(action: Callable[[], object], repeats: int = 3) -> float:
    """Processor time of the fastest run: a busy machine does not count."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times)


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("speed")
    return {count: filled(whole_study(folder / str(count)), search(count)) for count in (FEW, MANY)}


@pytest.mark.slow
def test_loading_costs_a_few_passes_over_the_bytes(stores):
    """3,609 rows. Measured: 2.5 times the floor."""

    def floor() -> None:
        for path in (stores[MANY] / "rows" / STUDY).iterdir():
            data = path.read_bytes()
            hashlib.sha256(data).digest()
            json.loads(data)

    assert seconds(lambda: load(stores[MANY], STUDY, mix=["splits"])) < 6 * seconds(floor)


@pytest.mark.slow
def test_a_report_of_twenty_times_the_rows_takes_less_than_three_times_as_long(stores):
    """Pictures dominate. Measured: 1.1 times as long."""

    def report(count: int) -> Callable[[], object]:
        request = Request(store=stores[count], study=STUDY)
        return lambda: build(request, *gather(request))

    assert seconds(report(MANY), 1) < 3 * seconds(report(FEW), 1)
