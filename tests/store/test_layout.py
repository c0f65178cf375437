"""The folder of a store: made once, recognised, and refused when it is not safe."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certvae.errors import ConfigFault, DiskFault, StoreFault
from certvae.store import disk as scratch
from certvae.store import layout as module
from certvae.store.artifact import FACTS
from certvae.store.disk import Disk, sweep
from certvae.store.failpoints import Failpoints
from certvae.store.folders import Corrupt
from certvae.store.layout import (
    FOLDERS,
    STORE,
    TRUST,
    UNMADE,
    ask_root,
    open_root,
    read_identity,
    read_root,
    repair_identity,
)
from certvae.store.log import events
from certvae.store.process import owner
from certvae.store.sealed import seal
from certvae.store.selftest import draw, ended, forked, run_chain
from certvae.store.store import Store


def test_a_new_store_is_private(tmp_path: Path) -> None:
    disk, identity = open_root(tmp_path / "deep" / "store")
    assert {path.name for path in disk.root.iterdir()} == {*FOLDERS, STORE}
    assert disk.root.stat().st_mode & 0o777 == 0o700
    assert {(disk.root / name).stat().st_mode & 0o777 for name in FOLDERS} == {0o700}
    assert identity.layout == 1
    assert not identity.test_store


def test_it_keeps_its_identity(tmp_path: Path) -> None:
    _, first = open_root(tmp_path / "a")
    _, other = open_root(tmp_path / "b")
    assert open_root(tmp_path / "a")[1] == first
    assert first.id != other.id


def test_of_eight_processes_at_once_one_founds_it(tmp_path: Path) -> None:
    found = tmp_path / "found"
    found.mkdir()

    def run(number: int) -> None:
        (found / str(number)).write_text(open_root(tmp_path / "store")[1].id)

    children = [forked(lambda number=number: run(number)) for number in range(8)]
    assert [ended(pid) for pid in children] == [0] * 8
    assert len({path.read_text() for path in found.iterdir()}) == 1


@pytest.mark.parametrize("name", ["dir é 数据 🧪", "with space", "x" * 255])
def test_f55_any_name_will_do(tmp_path: Path, name: str) -> None:
    assert open_root(tmp_path / name)[0].root.name == name


def test_f55_a_linked_home_will_do(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert open_root(tmp_path / "link")[0].root == tmp_path / "real"


ODD = ["100%", "a?b=c#d", "with space", "数据 é 🧪", 'it\'s "quoted"', "$HOME", "-store", "a;b&c", "a\\b"]


@pytest.mark.parametrize("name", ODD)
def test_f55_a_whole_run_in_any_folder(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / name)
    run_chain(store, [0])
    assert store.verify().exit_code == 0
    assert [row["seed"] for row in store.rows("selftest")] == [0]


@pytest.mark.parametrize("name", ['it\'s 100% "odd" $HOME ; # 数据'])
def test_the_remedy_can_be_pasted_into_a_shell(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_root(tmp_path / name)
    (tmp_path / name / STORE).write_bytes(b"{}")
    with pytest.raises(StoreFault, match="is damaged") as caught:
        open_root(tmp_path / name)
    command = caught.value.remedy.removeprefix("run `").removesuffix("`")
    environment = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[2])}
    shell = subprocess.run(["sh", "-c", command], env=environment, check=False, capture_output=True)
    assert shell.returncode == 0, shell.stderr
    open_root(tmp_path / name)


def test_copied_and_moved_it_works_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "first")
    run_chain(store, [0])
    store.expect("selftest", {})
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    (tmp_path / "first").rename(tmp_path / "moved")
    for name in ("copy", "moved"):
        again = Store(tmp_path / name)
        rows = again.rows()
        run_chain(again, [0])
        assert again.rows() == rows
        assert len(rows) == 1
        assert len(again.executions()) == 3
        assert again.verify().exit_code == 0
    assert not (tmp_path / "first").exists()
    texts = [path.read_bytes() for path in (tmp_path / "moved").rglob("*") if path.is_file()]
    assert not [text for text in texts if str(tmp_path).encode() in text]


def test_views_and_logs_may_be_thrown_away(tmp_path: Path) -> None:
    """Before a run, and in the middle of one."""
    store = Store(tmp_path)
    run_chain(store, [0])
    for folder in ("views", "log"):
        shutil.rmtree(tmp_path / folder)
    run_chain(store, [1])
    shutil.rmtree(tmp_path / "log")
    run_chain(Store(tmp_path), [0, 1])
    assert len(store.rows()) == 2
    assert store.verify().exit_code == 0


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    open_root(tmp_path / "store")
    (tmp_path / "store").chmod(mode)
    with pytest.raises(StoreFault, match=f"mode {mode:04o}"):
        open_root(tmp_path / "store")
    monkeypatch.setenv(TRUST, "1")
    disk, _ = open_root(tmp_path / "store")
    (event,) = events(disk, "trusted")
    assert event["mode"].endswith(f"{mode:o}")


def test_the_remedy_makes_it_safe(tmp_path: Path) -> None:
    open_root(tmp_path / "a store")
    (tmp_path / "a store").chmod(0o777)
    with pytest.raises(StoreFault) as caught:
        open_root(tmp_path / "a store")
    subprocess.run(["sh", "-c", caught.value.remedy.split("`")[1]], check=True)
    open_root(tmp_path / "a store")


def test_f17_a_store_of_another_user_can_be_trusted_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that runs as root, a mounted share: nobody can change the owner there."""
    open_root(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(StoreFault, match=f"set {TRUST}=1"):
        open_root(tmp_path)
    monkeypatch.setenv(TRUST, "1")
    disk, _ = open_root(tmp_path)
    assert len(events(disk, "trusted")) == 1


def test_a_folder_that_others_can_read_is_not(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o755)
    disk, _ = open_root(tmp_path / "store")
    assert events(disk, "trusted") == []


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_root(tmp_path / "store")
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / "store").stat().st_uid + 1)
    with pytest.raises(StoreFault, match="must belong to this user"):
        open_root(tmp_path / "store")


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder of an ordinary user who cannot write it, outside the private folders of the user who runs the tests."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.chown(folder, 65_534, 65_534)
    yield folder
    shutil.rmtree(folder)


def test_f22_a_folder_that_cannot_be_written_is_refused_before_any_work(read_only_folder: Path) -> None:
    def as_ordinary_user() -> None:
        if os.geteuid() == 0:
            os.setuid(65_534)
        open_root(read_only_folder)

    assert ended(forked(as_ordinary_user)) == DiskFault.exit_code
    assert list(read_only_folder.iterdir()) == []


def test_a_store_that_cannot_be_written_can_be_read(read_only_folder: Path) -> None:
    """An archive that is mounted so: who asks how its studies stand moves nothing, and one bad row hides no other."""
    read_only_folder.chmod(0o700)
    os.chown(read_only_folder, os.geteuid(), -1)
    run_chain(Store(read_only_folder), [0, 1])
    store = Store(read_only_folder)
    damaged, key = next((read_only_folder / "rows").rglob("*.json")), store.key(draw, 0)
    damaged.write_bytes(b"{}")
    (store.path / "obj" / key / "MANIFEST").write_bytes(b"{}")
    facts = store.path / "obj" / store.key(draw, 1) / FACTS
    facts.write_bytes(facts.read_bytes()[::-1])
    for path in (read_only_folder, *read_only_folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
        if os.geteuid() == 0:
            os.chown(path, 65_534, 65_534)
    kept = {path: path.stat().st_mtime_ns for path in read_only_folder.rglob("*")}

    def as_ordinary_user() -> None:
        if os.geteuid() == 0:
            os.setuid(65_534)
        store = Store(read_only_folder, reading=True)
        assert len(store.rows()) == 1
        with pytest.raises(Corrupt, match="store repair"):
            store.artifact(key)
        assert store.find(draw, 0) is None
        found = store.artifact(store.key(draw, 1))
        with pytest.raises(Corrupt, match="store repair"):
            print(found and found.facts)

    try:
        assert ended(forked(as_ordinary_user)) == 0
        assert kept == {path: path.stat().st_mtime_ns for path in read_only_folder.rglob("*")}
    finally:
        for path in read_only_folder.rglob("*"):
            path.chmod(0o700)


IN_THE_WAY = [("file", "a file"), ("file/store", "a file"), ("link", "a link to itself")]


@pytest.mark.parametrize("opened", [open_root, ask_root])
@pytest.mark.parametrize(("name", "found"), IN_THE_WAY)
def test_f22_a_folder_that_cannot_be_made_is_told(tmp_path: Path, name: str, found: str, opened: Any) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(ConfigFault, match=f"must be a folder, and .* is {found}"):
        opened(tmp_path / name)
    (tmp_path / name.partition("/")[0]).rename(tmp_path / "moved away")
    opened(tmp_path / name)


def test_what_is_no_store_is_not_read_and_not_made_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StoreFault, match=f"wanted a store, found no {STORE}"):
            read_root(path)
        assert ask_root(path)[1] is UNMADE
    assert list(tmp_path.iterdir()) == []
    _, identity = open_root(tmp_path)
    assert read_root(tmp_path)[1] == ask_root(tmp_path)[1] == identity


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreFault, match=r"no store and not empty: it holds thesis\.tex"):
        open_root(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_store_that_was_half_made_is_finished(tmp_path: Path) -> None:
    open_root(tmp_path)
    (tmp_path / STORE).unlink()
    (tmp_path / "rows").rmdir()
    (tmp_path / "data").mkdir()
    disk, _ = open_root(tmp_path)
    assert {path.name for path in disk.root.iterdir()} == {*FOLDERS, STORE, "data"}


def test_a_damaged_identity_needs_repair(tmp_path: Path) -> None:
    disk, first = open_root(tmp_path)
    text = bytearray((tmp_path / STORE).read_bytes())
    text[10] ^= 1
    (tmp_path / STORE).write_bytes(text)
    with pytest.raises(StoreFault, match="repair --store") as caught:
        open_root(tmp_path)
    assert caught.value.exit_code == 5
    with pytest.raises(Corrupt):
        read_identity(disk)
    repair_identity(disk)
    assert open_root(tmp_path)[1].id != first.id


def test_f68_another_layout_is_told(tmp_path: Path) -> None:
    open_root(tmp_path)
    (tmp_path / STORE).write_bytes(seal({"layout": 2, "id": "x", "test_store": False}))
    with pytest.raises(StoreFault, match="store layout 2, this program reads layout 1"):
        open_root(tmp_path)


def test_f21_an_unreadable_identity_is_told(tmp_path: Path) -> None:
    open_root(tmp_path)
    with pytest.raises(DiskFault, match="EIO"):
        read_identity(Disk(tmp_path, Failpoints(fail_at=f"read:{STORE}:EIO")))


def test_results_are_never_made_a_test_store(tmp_path: Path) -> None:
    open_root(tmp_path / "results")
    with pytest.raises(StoreFault, match="must not be used as a test store"):
        open_root(tmp_path / "results", test_store=True)
    assert open_root(tmp_path / "test", test_store=True)[1].test_store
    assert open_root(tmp_path / "test")[1].test_store


def test_f29_folders_on_several_file_systems_are_refused(tmp_path: Path) -> None:
    shared_memory = Path("/dev/shm")  # noqa: S108 - any other file system will do
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is only one file system here")
    open_root(tmp_path)
    elsewhere = Path(tempfile.mkdtemp(dir=shared_memory))
    (tmp_path / "tmp").rmdir()
    (tmp_path / "tmp").symlink_to(elsewhere)
    try:
        with pytest.raises(StoreFault, match="different file systems"):
            open_root(tmp_path)
    finally:
        shutil.rmtree(elsewhere)


class TestSweep:
    """Mode 33: what dead processes left in tmp/ is removed at the next start."""

    def leave(self, root: Path, number: int) -> None:
        disk = Disk(root)

        def die() -> None:
            for index in range(number):
                path = disk.temporary("x.json")
                if index % 2:
                    path.mkdir()
                    (path / "file").touch()
                else:
                    path.touch()

        assert ended(forked(die)) == 0

    def test_f33_of_the_dead_everything_of_others_nothing(self, tmp_path: Path) -> None:
        disk, _ = open_root(tmp_path)
        self.leave(tmp_path, 200)
        mine = disk.temporary("mine")
        mine.touch()
        foreign = tmp_path / "tmp" / f"name.{'0' * 12}-1-1.{'0' * 32}"
        foreign.touch()
        odd = tmp_path / "tmp" / "odd"
        odd.touch()
        open_root(tmp_path)
        assert {*(tmp_path / "tmp").iterdir()} == {mine, foreign, odd}
        assert owner() in mine.name

    def test_a_faster_sweeper_does_no_harm(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        disk, _ = open_root(tmp_path)
        self.leave(tmp_path, 4)
        remove = scratch.remove

        def twice(path: Path) -> None:
            remove(path)
            remove(path)

        monkeypatch.setattr(scratch, "remove", twice)
        assert sweep(disk.root / "tmp") == 4
        assert sweep(disk.root / "tmp") == 0

    @pytest.mark.slow
    def test_f33_a_hundred_thousand(self, tmp_path: Path) -> None:
        disk, _ = open_root(tmp_path)
        self.leave(tmp_path, 100_000)
        assert sweep(disk.root / "tmp") == 100_000
