"""What a worker does with a cell: all that the cell and its place say arrives, at the far end."""

from dataclasses import replace
from pathlib import Path

import pytest

from certvae import fingerprint
from certvae.cluster.slots import Place
from certvae.engine.cell import work
from certvae.engine.dispatch import Cell
from certvae.engine.early_stop import Censored, Need, StopRule
from certvae.protocols import chain
from certvae.spec.goal import Goal
from certvae.spec.parts import Data
from certvae.store.store import Store
from certvae.training import environment
from tests.small_cells import small_cell, small_digits

SPEC = replace(small_cell(), data=Data(name="digits", limit=240, certify_limit=60))
ONLY = ("full", "no_align")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    small_digits(folder)
    return folder


@pytest.fixture
def place(tmp_path, cache) -> Place:
    return Place(str(tmp_path / "store"), None, str(cache))


def unheard(event: object) -> None:
    """Nobody listens."""


def test_a_cell_pays_its_looks_trains_what_is_wanted_and_judges_its_splits(place):
    rows = work(Cell(SPEC, splits=("guard",), only=ONLY, looks=7), place, unheard)
    assert {(row["mode"], row["split"]) for row in rows} == {(mode, "guard") for mode in ONLY}
    assert {row["looks"] for row in rows} == {7}
    assert {event["stage"] for event in Store(place.store).executions()} >= {"aligned", "no_align"}
    assert len(Store(place.store).executions("aligned")) == 1  # of full, and none of rescue


def test_a_hopeless_cell_ends_at_the_point_where_that_is_known(place):
    out_of_reach = StopRule(Goal(), epoch=1, confidence=0.9, configs=20, needs=(Need("score", wanted=99.0, gain=0.0),))
    heard = []
    spec = replace(SPEC, training=replace(SPEC.training, report_every=1))
    with pytest.raises(Censored):
        work(Cell(spec, splits=("guard",), only=ONLY, stop=out_of_reach), place, heard.append)
    assert Store(place.store).executions("aligned") == []  # it was ended on the way
    assert any("guard_margin" in event for event in heard)


def test_to_recompute_a_place_is_to_make_stale_results_again(place, cache):
    environment.settle()
    old = Store(place.store, fingerprint=environment.fingerprint(fingerprint.device()), program="0" * 64)
    chain.judge(chain.train(SPEC, small_digits(cache), old, only=ONLY), small_digits(cache), old, "guard")
    cell = Cell(SPEC, splits=("guard",), only=ONLY)
    assert all(map(Store(place.store).is_stale, work(cell, place, unheard)))
    assert not any(map(Store(place.store).is_stale, work(cell, replace(place, recompute=True), unheard)))


@pytest.mark.parametrize(("alone", "share"), [(False, 0.25), (True, 1.0)])
def test_a_lane_alone_may_fill_its_gpu_in_a_process_that_was_kept_to_a_share(place, monkeypatch, alone, share):
    told = []

    def stop(*_):
        raise Censored

    monkeypatch.setattr(fingerprint, "device", lambda: "cuda:0")
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", told.append)
    monkeypatch.setattr("certvae.engine.cell._loaded", stop)
    with pytest.raises(Censored):
        work(Cell(SPEC, alone=alone), replace(place, gpu_share=0.25), unheard)
    assert told == [share]
