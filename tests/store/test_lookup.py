"""Finding results again: one cell by its first digits, the row that counts, the object behind it."""

import pytest

from certvae.canonical import digest
from certvae.errors import ConfigFault, StoreFault
from certvae.fingerprint import expected
from certvae.store import lookup
from certvae.store.folders import MANIFEST, Corrupt
from certvae.store.lookup import cell_of, newest, object_of
from certvae.store.program import PROGRAM
from certvae.store.store import OBJECTS, Store
from tests import analysis_rows

ROW = {"cell": "ab" * 32, "mode": "full", "split": "guard", "seed": 0, "stage_version_judge": 4}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", program="this text")


def test_a_cell_is_named_by_as_many_digits_as_it_takes(store):
    rows = [{"cell": "ab1"}, {"cell": "ab1"}, {"cell": "ab2"}]
    assert cell_of(store, rows, "ab1") == "ab1"
    for prefix, count in (("ab", 2), ("c", 0)):
        with pytest.raises(ConfigFault, match=f"{count} cells with rows have a digest that begins with '{prefix}'"):
            cell_of(store, rows, prefix)


def test_of_several_rows_of_a_network_the_latest_judgement_counts_and_then_the_one_that_is_not_stale(store):
    old, stale, fresh = ROW, ROW | {"stage_version_judge": 5}, ROW | {"stage_version_judge": 5, PROGRAM: store.program}
    other = ROW | {"mode": "rescue"}
    for order in ([old, stale, fresh, other], [fresh, other, stale, old]):
        assert sorted(newest(store, order), key=lambda row: row["mode"]) == [fresh, other]


def test_of_two_machines_the_row_of_this_one_counts_though_it_is_stale(store):
    """The names of files decided, so a bundle could be of another network than the one that the table shows."""
    ours = ROW | {"environment": digest(expected())}
    other = ROW | {"environment": "e" * 64, PROGRAM: store.program}
    assert newest(store, [ours, other]) == newest(store, [other, ours]) == [ours]
    assert newest(store, [ours, other | {"stage_version_judge": 5}]) == [other | {"stage_version_judge": 5}]


def test_of_two_other_machines_the_one_that_is_not_stale_counts_and_then_the_last_digest(store):
    stale, fresh = ROW | {"environment": "e" * 64}, ROW | {"environment": "f" * 64, PROGRAM: store.program}
    third = fresh | {"environment": "d" * 64}
    last = max(fresh, third, key=digest)
    for order in ([stale, fresh, third], [third, fresh, stale], [fresh, third]):
        assert newest(store, order) == [last]


def test_where_all_environments_are_one_this_machine_is_not_asked_for_its_own(store, monkeypatch):
    """On a host with GPUs that imports torch."""
    monkeypatch.setattr(lookup, "expected", lambda: pytest.fail("asked"))
    assert newest(store, [ROW, ROW | {PROGRAM: store.program}]) == [ROW | {PROGRAM: store.program}]


def test_an_object_that_is_gone_is_named_with_its_remedy(store):
    with pytest.raises(StoreFault, match="the teacher object of full, seed 0, is not in the store"):
        object_of(store, ROW | {"key_teacher": "c" * 64}, "teacher")


def test_one_that_is_damaged_is_told_so_where_a_store_is_only_read(store):
    """It was said not to be there, and to run the study on a store that may be an archive."""
    key = store.call(analysis_rows.teacher, 0).key
    (store.path / OBJECTS / key / MANIFEST).write_text("{}")
    with pytest.raises(Corrupt, match=r"does not match its digest.*store repair .*where the store can be written"):
        object_of(Store.existing(store.path, reading=True), ROW | {"key_teacher": key}, "teacher")
    assert (store.path / OBJECTS / key).is_dir()
