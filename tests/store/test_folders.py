"""Publishing: whole or absent, first wins, and not one changed bit passes."""

import errno
import hashlib
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from certvae.canonical import canonical_json, digest
from certvae.errors import DeterminismFault, DiskFault, StoreFault
from certvae.store import folders as module
from certvae.store.disk import Disk
from certvae.store.failpoints import Failpoints
from certvae.store.folders import (
    ATTEMPTS,
    MANIFEST,
    Cache,
    Corrupt,
    Folder,
    discard,
    folders,
    open_folder,
    publish,
    publishing,
    quarantine,
)
from certvae.store.selftest import ended, forked

BODY = {"stage": "s", "version": 1}
FILES = {"b.bin": bytes(range(256)), "a.json": b"{}"}


def opened(disk: Disk, path: Path) -> Folder:
    folder = open_folder(disk, path)
    assert folder is not None
    return folder


def forge(path: Path, manifest: object) -> None:
    """A manifest with any content and a right digest of itself."""
    rest = canonical_json(manifest)
    (path / MANIFEST).write_bytes(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)


class TestWhole:
    def test_gives_back_what_was_published(self, disk: Disk) -> None:
        published = publish(disk, "obj", BODY, FILES)
        folder = opened(disk, published.path)
        assert folder == published
        assert folder.path == disk.root / "obj" / digest(BODY)
        assert folder.body == BODY
        assert {name: folder.read(name) for name in folder.files} == FILES
        assert list((disk.root / "tmp").iterdir()) == []

    def test_modes_keep_others_out(self, disk: Disk) -> None:
        path = publish(disk, "obj", BODY, FILES).path
        assert path.stat().st_mode & 0o777 == 0o700
        assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o600}

    def test_the_content_digest_is_that_of_the_files_alone(self, disk: Disk) -> None:
        first = publish(disk, "obj", BODY, FILES)
        second = publish(disk, "obj", {**BODY, "version": 2}, dict(reversed(FILES.items())))
        other = publish(disk, "obj", {**BODY, "version": 3}, {**FILES, "a.json": b"[]"})
        assert first.digest == second.digest != other.digest

    def test_absent_is_none(self, disk: Disk) -> None:
        assert open_folder(disk, disk.root / "obj" / digest(BODY)) is None

    def test_folders_are_listed_in_order_without_corrupt_ones(self, disk: Disk) -> None:
        paths = sorted(publish(disk, "obj", {"version": version}, FILES).path for version in range(4))
        (paths[2] / "surplus").touch()
        assert [folder.path for folder in folders(disk, "obj")] == [paths[0], paths[1], paths[3]]

    def test_folders_that_go_while_they_are_listed_are_left_out(self, disk: Disk) -> None:
        paths = sorted(publish(disk, "obj", {"version": version}, FILES).path for version in range(3))
        found = folders(disk, "obj")
        first = next(found)
        discard(disk, paths[1])
        assert [first.path, *(folder.path for folder in found)] == [paths[0], paths[2]]

    def test_discard_leaves_nothing(self, disk: Disk) -> None:
        path = publish(disk, "obj", BODY, FILES).path
        discard(disk, path)
        discard(disk, path)
        assert [list((disk.root / name).iterdir()) for name in ("obj", "tmp", "quarantine")] == [[], [], []]


class TestLarge:
    """Folders that are written file by file: what is said of a published folder holds for them."""

    def write(self, disk: Disk, target: Path, array: np.ndarray) -> Folder:
        with publishing(disk, target, {"name": target.name}, "decode", array.nbytes) as draft:
            with draft.open("images.npy") as file:
                np.save(file, array)
            draft.write("facts.json", b"{}")
        return draft.folder

    @pytest.mark.parametrize("shape", [(0, 3), (), (7,), (300, 3, 32, 32)])
    def test_arrays_come_back(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        disk = Cache(tmp_path / "deep" / "cache")
        array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        folder = self.write(disk, disk.root / "digits-0123", array)
        assert opened(disk, folder.path).verify() == folder
        np.testing.assert_array_equal(np.load(folder.path / "images.npy"), array)
        assert folder.files["images.npy"][0] == (folder.path / "images.npy").stat().st_size
        assert [path.name for path in disk.root.iterdir()] == ["digits-0123"]

    def test_what_the_caller_raises_leaves_nothing(self, tmp_path: Path) -> None:
        def fail() -> None:
            with publishing(Cache(tmp_path), tmp_path / "x", {"name": "x"}) as draft, draft.open("images.npy") as file:
                file.write(b"half")
                (staged,) = tmp_path.iterdir()
                assert staged.name.startswith(".x.")
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert list(tmp_path.iterdir()) == []

    def test_what_the_dead_began_is_swept(self, tmp_path: Path) -> None:
        assert ended(forked(lambda: Cache(tmp_path).temporary("x").mkdir())) == 0
        assert len(list(tmp_path.iterdir())) == 1
        Cache(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_changed_byte_of_a_large_file_is_noticed(self, tmp_path: Path) -> None:
        disk = Cache(tmp_path)
        path = self.write(disk, tmp_path / "x", np.zeros(3 * 2**20, np.uint8)).path
        data = bytearray((path / "images.npy").read_bytes())
        data[-1] = 1
        (path / "images.npy").write_bytes(data)
        with pytest.raises(Corrupt, match=r"images\.npy has another SHA-256"):
            opened(disk, path).verify()
        quarantine(disk, path, "bad")
        assert opened(disk, self.write(disk, path, np.zeros(3, np.uint8)).path).verify()

    def test_under_another_name_it_is_corrupt(self, tmp_path: Path) -> None:
        disk = Cache(tmp_path)
        path = self.write(disk, tmp_path / "x", np.zeros(3)).path
        path.rename(tmp_path / "y")
        with pytest.raises(Corrupt, match="not the digest of its body"):
            open_folder(disk, tmp_path / "y")


class TestRace:
    def test_f25_a_lost_race_is_a_no_op(self, disk: Disk) -> None:
        first = publish(disk, "obj", BODY, FILES)
        inode = first.path.stat().st_ino
        assert publish(disk, "obj", BODY, FILES) == first
        assert first.path.stat().st_ino == inode
        assert list((disk.root / "tmp").iterdir()) == []

    def test_f25_eight_processes_publish_one_folder(self, disk: Disk) -> None:
        for version in range(10):
            reading, writing = os.pipe()

            def run(version: int = version, reading: int = reading, writing: int = writing) -> None:
                os.close(writing)
                os.read(reading, 1)  # all wait here until the parent closes the other end
                publish(disk, "obj", {"version": version}, FILES)

            children = [forked(run) for _ in range(8)]
            os.close(writing)
            assert [ended(pid) for pid in children] == [0] * 8
            os.close(reading)
        assert len(list(folders(disk, "obj"))) == 10
        assert list((disk.root / "tmp").iterdir()) == list((disk.root / "quarantine").iterdir()) == []

    def test_f26_other_bytes_under_one_key_are_a_fault_and_both_are_kept(self, disk: Disk) -> None:
        first = publish(disk, "obj", BODY, FILES)
        ours = Folder(disk, first.path, BODY, {"a.json": (1, hashlib.sha256(b"x").hexdigest())})
        with pytest.raises(DeterminismFault) as caught:
            publish(disk, "obj", BODY, {"a.json": b"x"})
        assert first.digest in str(caught.value)
        assert ours.digest in str(caught.value)
        assert opened(disk, first.path).verify() == first
        (kept,) = (disk.root / "quarantine").iterdir()
        assert (kept / "a.json").read_bytes() == b"x"

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda path: (path / "b.bin").write_bytes(bytes(256)),
            lambda path: (path / MANIFEST).unlink(),
            lambda path: [shutil.rmtree(path), path.write_text("a file")],
            lambda path: [shutil.rmtree(path), path.symlink_to("elsewhere")],
        ],
    )
    def test_f23_a_corrupt_winner_goes_to_quarantine(self, disk: Disk, spoil: Callable[[Path], object]) -> None:
        path = publish(disk, "obj", BODY, FILES).path
        spoil(path)
        publish(disk, "obj", BODY, FILES)
        opened(disk, path).verify()
        assert len(list((disk.root / "quarantine").iterdir())) == 1

    def test_a_winner_that_is_gone_again_is_no_obstacle(self, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(disk, "obj", BODY, FILES)
        look = open_folder

        def gone(disk: Disk, path: Path) -> Folder | None:
            shutil.rmtree(path)
            return look(disk, path)

        monkeypatch.setattr(module, "open_folder", gone)
        publish(disk, "obj", BODY, FILES)
        opened(disk, disk.root / "obj" / digest(BODY)).verify()

    def test_gives_up_when_something_keeps_spoiling_it(self, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
        target = publish(disk, "obj", BODY, FILES).path
        move = quarantine

        def spoil(disk: Disk, path: Path, reason: str) -> None:
            move(disk, path, reason)
            target.mkdir()
            (target / "junk").touch()

        (target / MANIFEST).unlink()
        monkeypatch.setattr(module, "quarantine", spoil)
        with pytest.raises(StoreFault, match=f"in {ATTEMPTS} attempts"):
            publish(disk, "obj", BODY, FILES)
        assert list((disk.root / "tmp").iterdir()) == []

    def test_published_while_it_is_opened_it_is_not_taken_for_corrupt(
        self, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A folder that appears between two calls of a reader was whole at every moment."""
        lexists = os.path.lexists

        def publish_now(path: Path) -> bool:
            publish(disk, "obj", BODY, FILES)
            return lexists(path)

        monkeypatch.setattr(os.path, "lexists", publish_now)
        opened(disk, disk.root / "obj" / digest(BODY)).verify()


class TestCorruption:
    """Mode 23 and 24: one bit, cut, empty, deleted, surplus, renamed, linked, forged."""

    @pytest.fixture
    def path(self, disk: Disk) -> Path:
        return publish(disk, "obj", BODY, FILES).path

    @pytest.mark.parametrize("name", [*FILES, MANIFEST])
    def test_f23_every_single_bit_is_noticed(self, disk: Disk, path: Path, name: str) -> None:
        data = (path / name).read_bytes()
        for bit in range(len(data) * 8):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            (path / name).write_bytes(changed)
            with pytest.raises(Corrupt):
                opened(disk, path).verify()

    @pytest.mark.parametrize("name", [*FILES, MANIFEST])
    def test_f24_every_cut_is_noticed(self, disk: Disk, path: Path, name: str) -> None:
        data = (path / name).read_bytes()
        for size in range(len(data)):
            (path / name).write_bytes(data[:size])
            with pytest.raises(Corrupt):
                opened(disk, path).verify()
        (path / name).write_bytes(data + b"x")
        with pytest.raises(Corrupt):
            opened(disk, path).verify()

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda path: (path / "a.json").unlink(), "missing or surplus: a.json"),
            (lambda path: (path / MANIFEST).unlink(), "MANIFEST is missing"),
            (lambda path: (path / "surplus").touch(), "missing or surplus: surplus"),
            (lambda path: (path / "surplus").mkdir(), "missing or surplus: surplus"),
            (lambda path: [(path / "a.json").unlink(), (path / "a.json").mkdir()], "a.json has None bytes"),
            (lambda path: [(path / "a.json").unlink(), (path / "a.json").symlink_to("b.bin")], "a.json has None bytes"),
            (lambda path: [(path / MANIFEST).unlink(), os.mkfifo(path / MANIFEST)], "MANIFEST is no regular file"),
            (lambda path: [path.rename(path.parent / "x"), path.symlink_to(path.parent / "x")], "it is a link"),
            (lambda path: forge(path, []), "MANIFEST has another form"),
            (lambda path: forge(path, {}), "MANIFEST has another form"),
            (lambda path: forge(path, {"schema": 1, "key": "k", "body": {}, "files": 1}), "MANIFEST has another form"),
            (lambda path: forge(path, {"schema": 1, "key": "k", "body": {}, "files": {"a": 1}}), "another form"),
            (
                lambda path: forge(path, {"schema": 1, "key": "k", "body": {}, "files": {}}),
                "not the digest of its body",
            ),
        ],
    )
    def test_f24_names_what_is_wrong(
        self, disk: Disk, path: Path, spoil: Callable[[Path], object], reason: str
    ) -> None:
        spoil(path)
        with pytest.raises(Corrupt, match=reason):
            open_folder(disk, path)

    def test_f24_a_good_folder_under_another_name_is_corrupt(self, disk: Disk, path: Path) -> None:
        path.rename(path.parent / ("0" * 64))
        with pytest.raises(Corrupt, match="not the digest of its body"):
            open_folder(disk, path.parent / ("0" * 64))

    def test_a_thousand_random_changes_give_no_other_error(self, disk: Disk, path: Path) -> None:
        chance = random.Random(5)
        originals = {name: (path / name).read_bytes() for name in (*FILES, MANIFEST)}
        for _ in range(1000):
            name = chance.choice(sorted(originals))
            data = bytearray(originals[name])
            start = chance.randrange(len(data) + 1)
            data[start : start + chance.randrange(40)] = chance.randbytes(chance.randrange(40))
            (path / name).write_bytes(data)
            if data == originals[name]:
                continue
            with pytest.raises(Corrupt):
                opened(disk, path).verify()
            (path / name).write_bytes(originals[name])

    def test_a_huge_manifest_is_refused_before_it_is_read(self, disk: Disk, path: Path) -> None:
        os.truncate(path / MANIFEST, 2**40)  # a hole: it takes no space
        with pytest.raises(Corrupt, match=f"has {2**40} bytes"):
            open_folder(disk, path)

    def test_another_schema_is_not_corrupt(self, disk: Disk, path: Path) -> None:
        manifest = json.loads((path / MANIFEST).read_bytes().partition(b"\n")[2])
        forge(path, {**manifest, "schema": 2})
        with pytest.raises(StoreFault, match="schema 2, this program reads schema 1") as caught:
            open_folder(disk, path)
        assert not isinstance(caught.value, Corrupt)

    def test_gone_while_it_is_opened_is_absent(self, disk: Disk, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        listing = os.scandir

        def late(folder: Path) -> object:
            folder.rename(disk.root / "tmp" / "away")
            return listing(folder)

        monkeypatch.setattr(os, "scandir", late)
        assert open_folder(disk, path) is None

    def test_corrupt_crosses_process_borders(self, tmp_path: Path) -> None:
        fault = Corrupt(tmp_path, "a reason")
        again = pickle.loads(pickle.dumps(fault))  # noqa: S301 - Ray pickles faults of workers
        assert (again.path, again.reason, str(again)) == (tmp_path, "a reason", str(fault))

    def test_two_readers_may_quarantine_at_once(self, disk: Disk, path: Path) -> None:
        quarantine(disk, path, "bad")
        quarantine(disk, path, "bad")
        assert len(list((disk.root / "quarantine").iterdir())) == 1


class TestRefusedIo:
    def steps(self, root: Path) -> int:
        disk = Disk(root)
        publish(disk, "obj", {"counted": True}, FILES)
        return disk.failpoints.steps

    @pytest.mark.parametrize("name", ["ENOSPC", "EIO", "EROFS", "EDQUOT"])
    @pytest.mark.parametrize("lasting", ["", "+"])
    def test_f19_f21_at_every_step(self, disk: Disk, name: str, lasting: str) -> None:
        kept = publish(disk, "obj", {"version": 0}, FILES)
        for step in range(1, self.steps(disk.root) + 1):
            failing = Disk(disk.root, Failpoints(fail_at=f"{step}{lasting}:{name}"))
            body = {"name": name, "step": step}
            with pytest.raises(DiskFault, match=f"stage s .*{name}: {os.strerror(getattr(errno, name))}"):
                publish(failing, "obj", body, FILES, "stage s")
            assert opened(disk, kept.path).verify() == kept
            publish(disk, "obj", body, FILES).verify()

    def test_a_read_error_is_no_corruption(self, disk: Disk) -> None:
        path = publish(disk, "obj", BODY, FILES).path
        for name in (MANIFEST, "a.json"):
            failing = Disk(disk.root, Failpoints(fail_at=f"read:{name}:EIO"))
            with pytest.raises(DiskFault, match="EIO"):
                opened(failing, path).verify()
        opened(disk, path).verify()

    def test_f29_a_rename_that_crosses_file_systems_is_told(self, disk: Disk) -> None:
        failing = Disk(disk.root, Failpoints(fail_at=f"rename:{digest(BODY)}:EXDEV"))
        with pytest.raises(StoreFault, match="different file systems") as caught:
            publish(failing, "obj", BODY, FILES)
        assert "tmp/ and the rest of the store" in str(caught.value)
        assert list((disk.root / "tmp").iterdir()) == []
