"""Looking after a store: everything wrong is found, nothing right is touched."""

import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certvae.errors import DiskFault, StoreFault
from certvae.store.artifact import ARRAYS, Content
from certvae.store.audit import CORRUPT, FOREIGN, MISSING, UNREADABLE, gc, repair, status, verify
from certvae.store.checkpoints import Checkpoints
from certvae.store.folders import Cache, discard, publishing
from certvae.store.layout import STORE
from certvae.store.sealed import seal
from certvae.store.selftest import draw, run_chain, summarise, walk
from certvae.store.store import Stage, Store, audit

UNASKABLE = "x" * 300
"""A name that no file system takes: it refuses to look for it."""
OLD = -1.0  # days: everything is older than that


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    run_chain(store, [0])
    store.put_document("plan", "cells", {"seeds": [0]})
    Checkpoints(store.disk, "0" * 64).save(1, Content({"x": np.ones(3)}, {}))
    return store


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


Going = Callable[[str, str], None]


@pytest.fixture
def going(store: Store, monkeypatch: pytest.MonkeyPatch) -> Going:
    """Lets a fresh folder in a folder of the store go at the moment when a call of `os` would look at it."""

    def arm(call: str, folder: str) -> None:
        (store.path / folder / "fleeting.a-host.x" / "inner").mkdir(parents=True)
        calls = ("stat", "lstat") if call == "stat" else (call,)  # `Path.lstat` asks either, as Python's version will
        real = {name: getattr(os, name) for name in calls}

        def late(name: str, path: Any = ".", *args: Any, **named: Any) -> Any:
            if isinstance(path, str | Path) and Path(path).name.startswith("fleeting"):
                for patched in calls:
                    monkeypatch.setattr(os, patched, real[patched])
                shutil.rmtree(path)
            return real[name](path, *args, **named)

        for name in calls:
            monkeypatch.setattr(os, name, functools.partial(late, name))

    return arm


class TestVerify:
    def test_a_good_store(self, store: Store) -> None:
        report = verify(store.path)
        assert report.exit_code == 0
        assert str(report) == f"{report.verified} entries verified, 0 findings"
        assert report.verified == 1 + 1 + 3 + 1 + 1 + 1  # root, identity, objects, checkpoint, document, row

    @pytest.mark.parametrize(
        ("spoil", "code"),
        [
            (lambda root: (only(root / "ckpt") / ARRAYS).write_bytes(b""), CORRUPT),
            (lambda root: (root / "obj" / "surplus").touch(), CORRUPT),
            (lambda root: (root / "obj" / "surplus").mkdir(), CORRUPT),
            (lambda root: (root / "rows" / "stray.json").touch(), CORRUPT),
            (lambda root: only(root / "plan" / "plan").write_bytes(b"{}"), CORRUPT),
            (lambda root: only(root / "rows" / "selftest").write_bytes(b"{}"), CORRUPT),
            (lambda root: (root / STORE).write_bytes(b"{}"), CORRUPT),
            (lambda root: (root / STORE).unlink(), FOREIGN),
            (lambda root: (root / STORE).write_bytes(seal({"layout": 9})), FOREIGN),
            (lambda root: only(root / "rows" / "selftest").chmod(0o666), FOREIGN),
            (lambda root: (only(root / "ckpt") / ARRAYS).chmod(0o620), FOREIGN),
            (lambda root: root.chmod(0o777), FOREIGN),
        ],
    )
    def test_f23_f24_each_finding_has_its_bit(self, store: Store, spoil: Callable[[Path], object], code: int) -> None:
        spoil(store.path)
        report = verify(store.path)
        assert report.exit_code == code
        assert len(report.findings) == 1
        assert str(report.findings[0].path) in str(report)

    def test_bits_add_up(self, store: Store) -> None:
        (store.path / "obj" / "surplus").touch()
        only(store.path / "rows" / "selftest").chmod(0o666)
        assert verify(store.path).exit_code == CORRUPT | FOREIGN

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_what_cannot_be_read_is_told(self, store: Store) -> None:
        only(store.path / "rows" / "selftest").chmod(0)
        assert verify(store.path).exit_code == UNREADABLE

    def test_f21_a_read_error_is_told(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        read = os.read

        def failing(descriptor: int, size: int) -> bytes:
            if "/obj/" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
                raise OSError(5, "Input/output error")
            return read(descriptor, size)

        monkeypatch.setattr(os, "read", failing)
        report = verify(store.path)
        assert report.exit_code == UNREADABLE
        assert len(report.findings) == 3

    def test_somebody_elses_entry_is_told(self, store: Store) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can give files away")
        os.chown(only(store.path / "plan" / "plan"), 65_534, 65_534)
        assert verify(store.path).exit_code == FOREIGN

    def test_what_is_no_store_is_told(self, tmp_path: Path) -> None:
        assert verify(tmp_path).exit_code == FOREIGN
        assert verify(tmp_path / "absent").exit_code & FOREIGN

    @pytest.mark.parametrize("look", [verify, repair, status, Store.existing])
    def test_a_place_that_cannot_be_asked_is_no_absent_store(self, tmp_path: Path, look: Callable[[Path], Any]) -> None:
        """Up to Python 3.13 that was called a bug of ours, and from then on a folder without a store."""
        with pytest.raises(DiskFault, match="path too long"):
            look(tmp_path / UNASKABLE)

    def test_what_a_sweep_takes_away_meanwhile_is_no_finding(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        discard(store.disk, only(store.path / "ckpt"))
        gone = store.path / "ckpt" / ("0" * 64)
        monkeypatch.setattr(audit, "_entries", lambda root: [root, root / STORE, gone])
        assert verify(store.path).exit_code == 0

    def test_changes_nothing(self, store: Store) -> None:
        (store.path / "obj" / "surplus").touch()
        before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*")}
        verify(store.path)
        assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*")} == before


class TestMissing:
    """What was there, was listed, and is gone: a deletion leaves no damaged entry behind."""

    @pytest.fixture
    def listed(self, store: Store) -> Store:
        store.put_document("gate", "selftest", {"configs": ["c"]})
        store.expect("selftest", {"gate": ["selftest"], "nothing": ["absent"]})
        assert verify(store.path).exit_code == 0
        return store

    @pytest.mark.parametrize("place", ["gate", "rows"])
    def test_a_deletion_is_seen(self, listed: Store, place: str) -> None:
        folder = listed.path / ("plan/gate" if place == "gate" else "rows/selftest")
        path = only(folder)
        path.unlink()
        report = verify(listed.path)
        assert report.exit_code == MISSING
        assert f"{path}: it is gone; run study selftest again" in str(report)

    def test_so_is_that_of_a_whole_folder(self, listed: Store) -> None:
        shutil.rmtree(listed.path / "rows" / "selftest")
        assert verify(listed.path).exit_code == MISSING

    def test_repair_does_not_hide_it_and_a_copy_brings_it_back(self, listed: Store, tmp_path: Path) -> None:
        path = only(listed.path / "plan" / "gate")
        path.rename(tmp_path / "copy")
        assert repair(listed.path).exit_code == verify(listed.path).exit_code == MISSING
        (tmp_path / "copy").rename(path)
        assert verify(listed.path).exit_code == 0

    def test_the_next_run_makes_it_again(self, listed: Store) -> None:
        rows = listed.rows()
        only(listed.path / "rows" / "selftest").unlink()
        assert repair(listed.path).exit_code == MISSING
        run_chain(Store(listed.path), [0])
        assert verify(listed.path).exit_code == 0
        assert listed.rows() == rows

    def test_a_damaged_row_that_repair_moved_away_is_missed_until_then(self, listed: Store) -> None:
        only(listed.path / "rows" / "selftest").write_bytes(b"{}")
        assert repair(listed.path).exit_code == MISSING
        run_chain(Store(listed.path), [0])
        assert verify(listed.path).exit_code == 0

    def test_a_list_holds_what_is_new(self, listed: Store) -> None:
        listed.expect("selftest", {"gate": ["selftest"]})
        run_chain(listed, [1])
        listed.expect("selftest", {})
        lists = listed.documents("expected").values()
        assert sorted(len(body["places"]) for body in lists) == [1, 2]

    def test_a_damaged_list_is_found_as_such(self, listed: Store) -> None:
        only(listed.path / "plan" / "expected").write_bytes(b"{}")
        assert verify(listed.path).exit_code == CORRUPT
        assert repair(listed.path).exit_code == 0


class TestData:
    """Decoded data sets lie in the store, and are verified as all of it is."""

    @pytest.fixture
    def decoded(self, store: Store) -> Path:
        return self.decode(store)

    def decode(self, store: Store) -> Path:
        target = store.path / "data" / "digits-0123"
        with publishing(Cache(target.parent), target, {"name": target.name}) as draft, draft.open("images.npy") as file:
            np.save(file, np.arange(10_000))
        return target

    def test_are_verified(self, store: Store, decoded: Path) -> None:
        before = verify(store.path)
        assert before.exit_code == 0
        data = bytearray((decoded / "images.npy").read_bytes())
        data[5000] ^= 1
        (decoded / "images.npy").write_bytes(data)
        report = verify(store.path)
        assert report.exit_code == CORRUPT
        assert "images.npy has another SHA-256" in str(report)

    def test_go_to_quarantine_and_are_decoded_again(self, store: Store, decoded: Path) -> None:
        (decoded / "images.npy").unlink()
        assert repair(store.path).exit_code == 0
        assert not decoded.exists()
        self.decode(store)
        assert verify(store.path).exit_code == 0

    def test_what_is_being_decoded_is_no_finding(self, store: Store, decoded: Path) -> None:
        Cache(decoded.parent).temporary("digits-4567").mkdir()
        assert verify(store.path).exit_code == 0


class TestRepair:
    def test_the_next_run_makes_it_again(self, store: Store) -> None:
        rows = store.rows()
        shutil.rmtree(store.path / "obj" / store.key(draw, 0))
        for folder in (store.path / "obj").iterdir():
            (folder / ARRAYS).write_bytes(b"")
        only(store.path / "rows" / "selftest").write_bytes(b"{}")
        (store.path / STORE).write_bytes(b"{}")
        assert repair(store.path).exit_code == 0
        assert len(list((store.path / "quarantine").iterdir())) == 4
        again = Store(store.path)
        run_chain(again, [0])
        assert again.rows() == rows
        assert again.identity.id != store.identity.id

    def test_what_is_no_corruption_stays(self, store: Store) -> None:
        only(store.path / "rows" / "selftest").chmod(0o666)
        assert repair(store.path).exit_code == FOREIGN
        assert len(store.rows()) == 1

    def test_of_no_store_nothing_is_moved(self, tmp_path: Path) -> None:
        (tmp_path / "obj").mkdir()
        (tmp_path / "obj" / "mine").touch()
        with pytest.raises(StoreFault, match=r"no STORE\.json"):
            repair(tmp_path)
        assert (tmp_path / "obj" / "mine").exists()


class TestStatus:
    def test_f30_counts_by_stage_and_version(self, store: Store) -> None:
        store.call(Stage("draw", 2, draw.make), 0)
        found = status(store.path)
        assert found.objects == {("draw", 1): 1, ("draw", 2): 1, ("walk", 1): 1, ("summarise", 1): 1}
        assert found.rows == {"selftest": 1}
        assert found.entries == {"ckpt": 1, "plan": 1, "quarantine": 0, "tmp": 0}
        assert found.older == 1
        assert found.size > 1000
        assert "1 results from older code, not used" in str(found)
        assert "1 rows of selftest" in str(found)

    def test_says_nothing_of_older_code_where_there_is_none(self, store: Store) -> None:
        assert status(store.path).older == 0
        assert "older" not in str(status(store.path))

    def test_of_no_store_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(StoreFault, match=r"no STORE\.json"):
            status(tmp_path)

    @pytest.mark.parametrize("call", ["stat", "scandir"])
    def test_files_and_folders_may_go_while_they_are_counted(self, store: Store, call: str, going: Going) -> None:
        wanted = status(store.path).size
        going(call, "tmp")
        assert wanted <= status(store.path).size <= wanted + 100_000


class TestGc:
    """Mode 32: only what nothing refers to, only what is old, and only when told so."""

    def test_f32_what_a_row_names_stays_with_all_its_inputs(self, store: Store) -> None:
        unused = store.call(draw, 7).path
        checkpoint = only(store.path / "ckpt")
        leftover = store.path / "tmp" / "of.another-host.x"
        leftover.mkdir()
        wanted = [unused, checkpoint, leftover]
        assert gc(store.path, older_than_days=OLD) == wanted
        assert all(path.exists() for path in wanted)
        assert gc(store.path, dry_run=False, older_than_days=OLD) == wanted
        assert not any(path.exists() for path in wanted)
        assert gc(store.path, older_than_days=OLD) == []
        assert len(list((store.path / "obj").iterdir())) == 3
        assert verify(store.path).exit_code == 0

    def test_what_goes_meanwhile_is_not_named(self, store: Store, going: Going) -> None:
        going("stat", "tmp")
        assert gc(store.path, older_than_days=OLD) == [only(store.path / "ckpt")]
        assert not list((store.path / "tmp").iterdir())

    def test_a_row_that_takes_the_place_of_another_meanwhile_keeps_what_it_names(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        [old], read = store.rows(), Path.read_bytes
        shutil.rmtree(store.path / "plan" / "plan")

        def replaced(path: Path) -> bytes:
            if path.exists() and len(store.rows()) == 1:
                store.replace_row(old, {**old, "more": 1})
            return read(path)

        monkeypatch.setattr(Path, "read_bytes", replaced)
        found = gc(store.path, older_than_days=OLD)
        assert [row["more"] for row in store.rows()] == [1]
        assert found == [only(store.path / "ckpt")]

    def test_scratch_of_a_process_that_runs_stays_however_old(self, store: Store) -> None:
        mine = store.disk.temporary("mine")
        mine.touch()
        os.utime(mine, (0, 0))
        assert mine not in gc(store.path, dry_run=False, older_than_days=OLD)
        assert mine.exists()

    def test_so_does_that_of_one_elsewhere_who_has_touched_any_of_it(self, store: Store) -> None:
        names = ("probe.host-1-1.x", "tune.host-1-1.x", "nobodys", "probe.host-2-2.x")
        probe, scratch, *left = (store.path / "tmp" / name for name in names)
        for path in (probe, scratch, *left):
            path.touch()
            os.utime(path, (0, 0))
        os.utime(probe)
        assert gc(store.path, dry_run=False) == left
        assert probe.exists()
        assert scratch.exists()

    def test_without_rows_nothing_is_referred_to(self, store: Store) -> None:
        shutil.rmtree(store.path / "rows" / "selftest")
        assert len(gc(store.path, older_than_days=OLD)) == 4

    def test_a_key_that_is_named_keeps_its_inputs_and_its_checkpoints(self, store: Store) -> None:
        shutil.rmtree(store.path / "rows" / "selftest")
        drawn = store.call(draw, 0)
        walked = store.call(walk, drawn, 3, 0)
        store.put_document("plan", "keep", {"artifact": walked.key, "begun": "0" * 64})
        found = gc(store.path, dry_run=False, older_than_days=OLD)
        assert found == [store.path / "obj" / store.key(summarise, drawn, walked)]
        assert len(list((store.path / "ckpt").iterdir())) == 1

    def test_f32_what_is_young_stays(self, store: Store) -> None:
        """A sweep that runs now may not have written its rows yet."""
        store.call(draw, 7)
        assert gc(store.path, dry_run=False) == []

    def test_a_document_keeps_what_it_names(self, store: Store) -> None:
        unused = store.call(draw, 7)
        store.put_document("plan", "keep", {"artifact": unused.digest})
        assert unused.path not in gc(store.path, older_than_days=OLD)

    def test_of_no_store_nothing_is_removed(self, tmp_path: Path) -> None:
        (tmp_path / "tmp").mkdir()
        (tmp_path / "tmp" / "mine").touch()
        with pytest.raises(StoreFault):
            gc(tmp_path, dry_run=False, older_than_days=OLD)
        assert (tmp_path / "tmp" / "mine").exists()
