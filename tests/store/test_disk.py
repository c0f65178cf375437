"""Durable I/O: nothing is overwritten or followed, and what the system refuses is told in four parts."""

import contextlib
import errno
import functools
import os
import resource
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certvae.errors import DiskFault
from certvae.store.disk import Disk, disk_fault, disk_faults, put_view
from certvae.store.failpoints import Failpoints
from certvae.store.selftest import ended, forked, run_chain
from certvae.store.store import Store


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    (tmp_path / "tmp").mkdir()
    return Disk(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where this user may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "certvae-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class TestWrite:
    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 1000])
    def test_writes_all_bytes_for_this_user_only(self, disk: Disk, data: bytes) -> None:
        disk.write(disk.root / "file", data)
        assert (disk.root / "file").read_bytes() == data
        assert (disk.root / "file").stat().st_mode & 0o777 == 0o600

    def test_never_overwrites(self, disk: Disk) -> None:
        disk.write(disk.root / "file", b"first")
        with pytest.raises(FileExistsError):
            disk.write(disk.root / "file", b"second")
        assert (disk.root / "file").read_bytes() == b"first"

    def test_never_follows_a_link(self, disk: Disk) -> None:
        (disk.root / "file").symlink_to(disk.root / "elsewhere")
        with pytest.raises(FileExistsError):
            disk.write(disk.root / "file", b"data")
        assert not (disk.root / "elsewhere").exists()

    def test_goes_on_after_a_short_write(self, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
        write = os.write
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
        disk.write(disk.root / "file", b"0123456789")
        assert (disk.root / "file").read_bytes() == b"0123456789"

    @pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
    def test_every_step_can_fail_and_names_the_file(self, tmp_path: Path, step: int) -> None:
        descriptors = open_descriptors()
        with pytest.raises(OSError, match="file") as caught:
            Disk(tmp_path, Failpoints(fail_at=f"{step}:EIO")).write(tmp_path / "file", b"0123")
        assert caught.value.filename == str(tmp_path / "file")
        if step < 5:  # a refused close is the one call after which the descriptor is ours no more
            assert open_descriptors() == descriptors

    def test_the_second_write_step_is_in_the_middle(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="file"):
            Disk(tmp_path, Failpoints(fail_at="3:ENOSPC")).write(tmp_path / "file", b"0123")
        assert (tmp_path / "file").read_bytes() == b"01"


class TestRead:
    def test_reads_up_to_the_limit(self, disk: Disk) -> None:
        (disk.root / "file").write_bytes(b"0123")
        assert disk.read(disk.root / "file", 4) == b"0123"
        with pytest.raises(ValueError, match="has 4 bytes instead of 3"):
            disk.read(disk.root / "file", 3)

    @pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/")])
    def test_reads_regular_files_only(self, disk: Disk, make: Callable[[Path], None]) -> None:
        make(disk.root / "thing")
        with pytest.raises(ValueError, match="no regular file"):
            disk.read(disk.root / "thing", 10)

    def test_below_a_file_is_nothing(self, disk: Disk) -> None:
        (disk.root / "file").touch()
        with pytest.raises(ValueError, match="no regular file"):
            disk.read(disk.root / "file" / "inner", 10)

    def test_absent_is_not_unreadable(self, tmp_path: Path) -> None:
        disk = Disk(tmp_path, Failpoints(fail_at="read:file:EIO"))
        with pytest.raises(FileNotFoundError):
            disk.read(tmp_path / "absent", 10)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            disk.read(tmp_path / "file", 10)


class TestClear:
    def test_removes_files_folders_and_links(self, disk: Disk) -> None:
        (disk.root / "folder" / "inner").mkdir(parents=True)
        (disk.root / "file").touch()
        (disk.root / "link").symlink_to(disk.root / "tmp")
        for name in ("folder", "file", "link", "absent"):
            disk.clear(disk.root / name)
        assert [path.name for path in disk.root.iterdir()] == ["tmp"]

    def test_what_cannot_be_removed_is_no_fault(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        Disk(tmp_path, Failpoints(fail_at="1:EROFS")).clear(tmp_path / "file")
        assert (tmp_path / "file").exists()


def test_a_link_never_overwrites_and_a_folder_never_replaces_a_full_one(disk: Disk) -> None:
    for name in ("first", "second"):
        (disk.root / name).write_text(name)
        (disk.root / f"{name} folder").mkdir()
        (disk.root / f"{name} folder" / name).touch()
    with pytest.raises(FileExistsError):
        disk.link(disk.root / "second", disk.root / "first")
    with pytest.raises(OSError, match="Directory not empty"):
        disk.rename(disk.root / "second folder", disk.root / "first folder")
    assert (disk.root / "first").read_text() == "first"


def test_a_file_system_that_syncs_no_folder_is_used(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disks of Windows and some servers say that the argument is invalid: no store could be made there."""
    sync = os.fsync

    def refuse(descriptor: int, code: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", functools.partial(refuse, code=errno.EINVAL))
    disk.make_folder(disk.root / "made", exist_ok=True)
    monkeypatch.setattr(os, "fsync", functools.partial(refuse, code=errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        disk.sync_folder(disk.root)


def test_lines_of_several_processes_do_not_mix(disk: Disk) -> None:
    lines = [str(digit).encode() * 3000 for digit in range(4)]
    children = [forked(lambda line=line: [disk.append(disk.root / "log", line) for _ in range(50)]) for line in lines]
    assert [ended(pid) for pid in children] == [0] * 4
    assert sorted((disk.root / "log").read_bytes().splitlines()) == sorted(lines * 50)


class TestViews:
    """What can be made again ends no run."""

    def test_is_written_over_what_was_there(self, tmp_path: Path) -> None:
        assert put_view(tmp_path / "deep" / "note.txt", b"first")
        assert put_view(tmp_path / "deep" / "note.txt", b"second")
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["note.txt"]
        assert (tmp_path / "deep" / "note.txt").read_bytes() == b"second"

    def test_f19_on_a_full_disk_one_line_says_so(self, small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert put_view(small_disk / "note.txt", b"first")
        assert not put_view(small_disk / "note.txt", bytes(2**21))
        (told,) = caplog.messages
        assert told.startswith("E-DISK: disk full on ")
        assert (small_disk / "note.txt").read_bytes() == b"first"
        assert [path.name for path in small_disk.iterdir()] == ["note.txt"]


class TestFullDisk:
    def test_f19_in_the_middle_of_a_run_there_is_one_fault_and_no_traceback(
        self, small_disk: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """A real file system that is full, at every place where it can become so."""
        wanted = [row["sum"] for row in self.undisturbed(small_disk)]
        place, ballast = small_disk / "store", small_disk / "ballast"
        refused = 0
        for free in range(0, 60, 4):
            Store(place)
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            os.truncate(ballast, max(0, ballast.stat().st_size - free * 4096))
            code = ended(forked(lambda: run_chain(Store(place), [0])))
            told = capfd.readouterr().err
            refused += code != 0
            assert code in (0, DiskFault.exit_code)
            assert "Traceback" not in told
            assert told.count("E-DISK: disk full on ") == (1 if code else 0), told
            ballast.unlink()
            store = Store(place)
            assert store.verify().exit_code == 0
            run_chain(store, [0])
            assert [row["sum"] for row in store.rows()] == wanted
            shutil.rmtree(place)
        assert 2 < refused < 15

    def undisturbed(self, folder: Path) -> list[dict[str, Any]]:
        store = Store(folder / "undisturbed")
        run_chain(store, [0])
        rows = store.rows()
        shutil.rmtree(store.path)
        return rows


class TestFaults:
    @pytest.mark.parametrize(
        "name", ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO", "EFBIG", "ENOTTY", "EMFILE"]
    )
    def test_f21_names_errno_path_and_what_to_do(self, tmp_path: Path, name: str) -> None:
        code = getattr(errno, name)
        fault = disk_fault(OSError(code, os.strerror(code), str(tmp_path / "absent" / "file")), "stage full")
        assert str(fault).startswith("E-DISK: ")
        assert fault.exit_code == 4
        for part in (
            name,
            os.strerror(code),
            str(tmp_path / "absent" / "file"),
            "stage full",
            "GB free",
            "run the same",
        ):
            assert part in str(fault) or (part == "run the same" and code in (errno.EACCES, errno.EPERM))

    @pytest.mark.parametrize("name", ["EPERM", "EOPNOTSUPP", "ENOSYS"])
    def test_a_disk_without_hard_links_is_told_as_one_and_another_serves(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """FAT and FUSE said EPERM, and the folder was to be made writable, which it was."""
        code, linked = getattr(errno, name), os.link

        def link(source: Path, target: Path, **how: bool) -> None:
            if target.is_relative_to(tmp_path / "fat"):
                raise OSError(code, os.strerror(code))
            linked(source, target, **how)

        monkeypatch.setattr(os, "link", link)
        with pytest.raises(DiskFault, match=rf"no hard links on .*STORE.json .*: {os.strerror(code)} \|") as told:
            Store(tmp_path / "fat")
        assert "choose another --store, on a disk that has them" in told.value.remedy
        assert "run the same" not in told.value.remedy
        run_chain(Store(tmp_path / "another"), [0])

    def test_a_path_that_is_too_long_is_told_and_a_shorter_one_serves(self, tmp_path: Path) -> None:
        with pytest.raises(DiskFault, match=r"path too long .* ENAMETOOLONG: .* choose another --store.* shorter path"):
            Store(tmp_path / ("x" * 300))
        run_chain(Store(tmp_path / "x"), [0])

    def test_too_many_open_files_are_told_and_raising_the_limit_helps(self, tmp_path: Path) -> None:
        def work() -> None:
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            os.close(next_one := os.dup(0))
            resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, limits[1]))
            with pytest.raises(DiskFault, match=r"too many open files .* raise the limit \(ulimit -n\), then run"):
                Store(tmp_path / "store")
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            run_chain(Store(tmp_path / "store"), [0])

        assert ended(forked(work)) == 0

    def test_f19_says_how_much_is_needed(self, tmp_path: Path) -> None:
        with (
            pytest.raises(DiskFault, match=r"disk full on .* GB free, need 1\.3 GB\)"),
            disk_faults("s", 1_300_000_000),
        ):
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    def test_an_error_without_path_or_number_is_told_too(self) -> None:
        assert "unknown errno" in str(disk_fault(OSError("odd")))

    def test_a_disk_too_sick_to_be_asked_is_told_too(self, tmp_path: Path) -> None:
        name = "x" * 300  # no file system takes such a name: stat refuses it with ENAMETOOLONG
        fault = disk_fault(OSError(errno.EIO, "Input/output error", str(tmp_path / name)))
        assert "GB free" not in str(fault)
        assert "input/output error" in str(fault)

    def test_other_errors_pass(self) -> None:
        with pytest.raises(KeyError), disk_faults():
            raise KeyError

    def test_f19_a_limit_of_the_kernel_is_told(self, tmp_path: Path) -> None:
        """RLIMIT_FSIZE stands for a full disk: it needs no root and no file system of its own."""

        def write() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
            with disk_faults():
                Disk(tmp_path).write(tmp_path / "file", bytes(5000))

        assert ended(forked(write)) == DiskFault.exit_code
        assert (tmp_path / "file").stat().st_size == 1000
