"""The gate of certify rows: looks are counted per data, whatever the study is called, and cost each other."""

import dataclasses
import multiprocessing
from pathlib import Path

import pytest

from certvae.engine.gate import Gate, opened_for
from certvae.errors import StoreFault
from certvae.looks.register import Look, Register, recorded
from certvae.spec.cell import CellSpec
from certvae.spec.presets import rescue
from certvae.store.audit import MISSING, repair
from certvae.store.store import Store

BASE = rescue("digits")
TESTED = {"n": 9, "certify": "c" * 64, "in_train": 0, "in_guard": 0, "leaked": 0, "near": 0, "distinct": 9}


def config(study: str = "first", width: int = 16) -> CellSpec:
    """One of several configs of a study."""
    encoder = dataclasses.replace(BASE.model.encoder, latent=width)
    return dataclasses.replace(BASE, study=study, model=dataclasses.replace(BASE.model, encoder=encoder))


def gate(store: Store, declared: int | None = None, data: str = "digits", certify: str = "c" * 64) -> Gate:
    return Gate(store, data, certify, TESTED | {"certify": certify}, declared)


def told_by(one: CellSpec, seed: int = 0) -> dict:
    """A certify row as a store of an earlier version holds it: there was no register."""
    named = {"study": one.study, "config": one.config, "seed": seed, "mode": "full", "data": one.data.name}
    return named | {"cell": f"{seed:064d}", "split": "certify", "outcome": "ok"}


def test_every_config_is_a_look_and_another_study_name_is_another_one(store):
    three = [config(width=width) for width in (4, 8, 16)]
    gate(store).open(three)
    assert gate(store).price(three) == 3
    gate(store).open([config("second")])
    assert gate(store).price([config("second")]) == 4
    assert gate(store).price([config("third")]) == 5


def test_seeds_are_no_looks_and_opening_again_is_how_a_run_resumes(store):
    gate(store).open([config()])
    before = sorted((store.path / "plan").rglob("*.json"))
    gate(store).open([dataclasses.replace(config(), seed=7), config()])
    assert sorted((store.path / "plan").rglob("*.json")) == before
    assert gate(store).told([config()]) == ["certify rows: look 1 of 1, opened before"]


def test_a_program_that_was_changed_and_looks_again_takes_another_look(store):
    """Else edit, recompute and peek would be free."""
    changed = Store(store.path, program="another text")

    def asked(which: Store, *, again: bool) -> Gate:
        return Gate(which, "digits", "c" * 64, TESTED, again=again)

    asked(store, again=False).open([config()])
    asked(changed, again=False).open([config()])  # nothing is made again: rows are kept as they are
    asked(store, again=True).open([config()])
    assert asked(store, again=True).price([config()]) == 1
    assert asked(changed, again=True).told([config()])[0].startswith("certify rows: look 2 of 2")
    asked(changed, again=True).open([config()])
    assert gate(store).price([config()]) == 2
    assert asked(changed, again=True).price([config()]) == 2


@pytest.mark.parametrize(
    ("data", "certify", "price"), [("digits", "d" * 64, 2), ("npz@1", "c" * 64, 2), ("mnist", "d", 1)]
)
def test_less_of_a_data_set_and_equal_pixels_under_another_name_are_the_same_rows(store, data, certify, price):
    gate(store).open([config()])
    assert gate(store, data=data, certify=certify).price([config("second")]) == price


def test_asking_opens_nothing(store):
    assert gate(store).told([config()]) == ["certify rows: look 1 of 1"]
    assert opened_for(store, "first") == []
    assert not list((store.path / "plan").rglob("*.json"))


def test_it_tells_whom_a_look_costs(store):
    gate(store).open([config()])
    told = gate(store).told([config("second"), config("second", 4)])
    assert told[0] == "certify rows: looks 2 to 3 of 3, every bound on them uses delta / 3"
    assert told[1] == f"  costs first {config().config[:12]}: 0 heads certified"
    assert gate(store).others("second") == [f"first {config().config[:12]}"]
    assert gate(store).others("first") == []


def test_more_claims_than_looks_declared_are_refused_and_the_remedy_works(store):
    two = [config(), config(width=4)]
    with pytest.raises(StoreFault, match="more claims than looks declared: 1 declared") as caught:
        gate(store, declared=1).told(two)
    assert opened_for(store, "first") == []
    assert "--looks 2" in caught.value.remedy
    gate(store, declared=2).open(two)
    assert gate(store).price(two) == 2


def test_a_declaration_binds_the_studies_that_come_later(store):
    gate(store, declared=2).open([config()])
    assert gate(store).price([config()]) == 2
    gate(store).open([config("second")])
    with pytest.raises(StoreFault, match="2 opened, and this command opens 1 more") as caught:
        gate(store).open([config("third")])
    assert "--looks 3" in caught.value.remedy
    gate(store, declared=3).open([config("third")])
    gate(store, declared=2).open([config("third")])
    assert gate(store).price([config()]) == 3


def test_an_old_store_counts_what_its_rows_tell(store):
    for one in (config("old"), config("older"), config("older", 4)):
        store.put_row(told_by(one))
    assert gate(store).price([config()]) == 4
    gate(store).open([config()])
    assert [look.opening[0] for look in recorded(store.disk)] == ["old", "older", "older", "first"]
    assert gate(store).price([config("old")]) == 4


@pytest.mark.parametrize("loss", ["damaged", "deleted"])
def test_a_look_whose_record_was_lost_is_told_by_its_rows(store, loss):
    store.put_row(told_by(config()))
    gate(store).open([config()])
    [path] = (store.path / "plan" / "looks").iterdir()
    path.unlink() if loss == "deleted" else path.write_text("{}")
    assert gate(store).price([config("second")]) == 2
    gate(store).open([config("second")])
    assert {look.study for look in recorded(store.disk)} == {"first", "second"}


def test_the_record_of_a_look_that_was_deleted_is_there_again_once_its_study_runs(store):
    for study in ("first", "second"):
        gate(store).open([config(study)])
        store.put_row(told_by(config(study)))
    [gone, _] = sorted((store.path / "plan" / "looks").iterdir())
    gone.unlink()
    assert repair(store.path).exit_code == MISSING
    gate(store).open([config()])
    assert store.verify().exit_code == 0
    assert gate(store).price([config("third")]) == 3


def _open(path: Path, study: str, barrier) -> None:
    barrier.wait()
    for width in range(2, 8):
        gate(Store(path)).open([config(study, width)])


def test_processes_that_open_at_once_lose_no_look_and_share_none(store):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_open, args=(store.path, study, barrier)) for study in ("a", "b", "b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    looks = recorded(store.disk)
    assert len({look.opening for look in looks}) == len(looks) == 12
    assert sorted(path.stem for path in (store.path / "plan" / "looks").iterdir()) == [
        f"{at:06d}" for at in range(1, 13)
    ]


class Killed(BaseException):
    """The driver died here."""


@pytest.mark.parametrize("write", range(4))
@pytest.mark.parametrize("before", [True, False])
def test_a_driver_killed_at_any_write_registers_the_same_looks_when_it_comes_again(tmp_path, write, before):
    both, store = [config(), config("first", 4)], Store(tmp_path)
    link, written = store.disk.link, []

    def dies(staged: Path, path: Path) -> None:
        if not (before and len(written) == write):
            link(staged, path)
        written.append(path)
        if len(written) == write + 1:
            raise Killed

    store.disk.link = dies
    with pytest.raises(Killed):
        gate(store, declared=4).open(both)
    again = Store(tmp_path)
    gate(again, declared=4).open(both)
    assert [look.config for look in recorded(again.disk)] == [one.config for one in both]
    assert Register(again.disk).price(Look("", "", "digits")) == 4


def test_a_store_misses_a_record_that_was_taken_away(store):
    gate(store).open([config()])
    assert store.verify().exit_code == 0
    (store.path / "plan" / "looks" / "000001.json").unlink()
    assert store.verify().exit_code == MISSING


def test_the_modes_of_a_config_are_in_its_record(store):
    gate(store).open([config()])
    [look] = recorded(store.disk)
    assert {"full", "no_align", "rescue"} <= set(look.modes)
