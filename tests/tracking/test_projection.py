"""Rows in, runs out: a function of the set of rows, whatever their order."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certvae.store.log import note
from certvae.store.store import Store
from certvae.tracking.evidence import CURVES, Evidence
from certvae.tracking.projection import entries, show
from certvae.tracking.runs import Point, begun
from tests.small_rows import MODES, cell, failed, fill, named, row


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("projection") / "store")
    fill(store, [cell(0), cell(1), cell(0, alpha_kl=0.7)], ("guard", "certify"))
    store.put_row(failed(store, cell(5), "full", "loss became nan"))
    return store


@settings(max_examples=25, deadline=None)
@given(order=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(store: Store, order: random.Random) -> None:
    rows, evidence = store.rows(), Evidence(store)
    shuffled = order.sample(rows, len(rows))
    assert entries(shuffled, evidence) == entries(rows, evidence)


def test_parents_come_first_and_every_key_is_its_own(store: Store) -> None:
    found = entries(store.rows(), Evidence(store))
    keys = [entry.key for entry in found]
    assert len(set(keys)) == len(keys) == 2 + 3 * (len(MODES) + 1) + 2
    assert all(entry.parent is None or keys.index(entry.parent) < keys.index(entry.key) for entry in found)


def test_a_row_says_what_a_live_run_said(store: Store) -> None:
    """A run that was begun live is completed, never contradicted."""
    evidence = Evidence(store)
    found = {entry.key: entry for entry in entries([row(store, cell(1), "full")], evidence)}
    for live in begun(cell(1), "full"):
        done = show(found[live.key], evidence)
        assert (done.name, done.params) == (live.name, live.params)
        assert done.tags.items() >= live.tags.items()


def test_a_point_has_one_value(store: Store) -> None:
    evidence = Evidence(store)
    for entry in entries(store.rows(), evidence):
        places = [(point.name, point.step) for point in show(entry, evidence).points]
        assert len(places) == len(set(places))


def test_of_rows_that_differ_in_bounds_alone_the_most_careful_counts(store: Store) -> None:
    first = row(store, cell(0), "full", "certify")
    careful = first | {"looks": 3, "population_bound": -0.5}
    evidence = Evidence(store)
    for rows in ([first, careful], [careful, first]):
        shown = [show(entry, evidence) for entry in entries(rows, evidence)]
        points = next(run.points for run in shown if "mode" in run.tags and run.tags["mode"] == "full")
        assert Point("population_bound", 0, -0.5) in points


def test_an_unknown_mode_is_shown_like_any_other(store: Store) -> None:
    new = row(store, cell(0), "full") | {"mode": "rst_prefit", "beta": 5.0, "spec": named(cell(0), "", "")["spec"]}
    evidence = Evidence(store)
    runs = {run.tags.get("mode"): run for run in (show(entry, evidence) for entry in entries([new], evidence))}
    assert "guard/rst_prefit/margin_mean" in {point.name for point in runs[None].points}
    assert Point("guard/beta", 0, 5.0) in runs["rst_prefit"].points


def test_a_warm_up_that_all_seeds_share_is_called_so(store: Store) -> None:
    shared = row(store, cell(0), "full") | {"teacher_seed": 7}
    assert {entry.step for entry in entries([shared], Evidence(store))} == {None, "full", "teacher_warm_up"}


def test_a_step_without_a_key_is_known_from_the_journal(store: Store) -> None:
    note(store.disk, CURVES, {"cell": cell(8).cell, "step": "prefit", "point": {"epoch": 1, "total": 2.5}})
    evidence = Evidence(store)
    found = {entry.step: entry for entry in entries([row(store, cell(8), "full")], evidence)}
    run = show(found["prefit"], evidence)
    assert (run.points, run.status, run.tags["kind"]) == ((Point("curve/total", 1, 2.5),), "FINISHED", "preparation")


def test_rows_that_name_only_their_own_stages_are_one_family(store: Store) -> None:
    rows = [row(store, cell(0), mode, split) for mode in MODES for split in ("guard", "certify")]
    for one in rows:
        one[f"stage_version_{one['mode']}"] = 1
        one[f"stage_version_judge_{one['split']}"] = 3
    found = entries(rows, Evidence(store))
    assert {entry.step for entry in found} == {None, "warm_up", *MODES}
    assert {len(entry.rows) for entry in found if entry.step in MODES} == {2}


def test_a_network_that_newer_code_judged_shows_the_newer_numbers(store: Store) -> None:
    old = row(store, cell(0), "full")
    new = old | {"stage_version_judge": 2, "margin": 0.25}
    evidence = Evidence(store)
    for rows in ([old, new], [new, old]):
        (run,) = (show(entry, evidence) for entry in entries(rows, evidence) if entry.step == "full")
        assert Point("margin", 0, 0.25) in run.points
        assert json.loads(run.tags["certvae.row"])["stage_versions"] == {"aligned": 1, "judge": 2}


def test_newer_code_takes_the_run_of_the_older_and_no_mean_has_both(store: Store) -> None:
    old = [row(store, cell(seed), "full") | {"margin": 1.0} for seed in (0, 1)]
    new = row(store, cell(0), "full") | {"stage_version_aligned": 2, "key_trained": "f" * 64, "margin": 0.5}
    evidence = Evidence(store)
    shown = [show(entry, evidence) for entry in entries([*old, new], evidence)]
    margins = [point.value for run in shown for point in run.points if point.name == "margin"]
    assert sorted(margins) == [0.5, 1.0]
    (parent,) = (run for run in shown if run.parent is None)
    assert {point.name: point.value for point in parent.points}.items() >= {
        "guard/full/n": 1.0,
        "guard/full/margin_mean": 0.5,
    }.items()


def test_numbers_repeat_nothing_of_the_spec(store: Store) -> None:
    evidence = Evidence(store)
    (run,) = (
        show(entry, evidence) for entry in entries([row(store, cell(0), "full")], evidence) if entry.step == "full"
    )
    names = {point.name for point in run.points}
    assert "guard/teacher_info" in names
    assert not names & {"guard/alpha_kl", "guard/seed", "guard/classes", "guard/stage_version_judge"}
