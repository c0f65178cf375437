"""The bar of the store: every kill point, random kills, refused I/O at every step, and every kind of corruption.

Whatever is done to it, running the same again gives the same table byte for byte.
"""

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from certvae.errors import DiskFault
from certvae.store import audit
from certvae.store import selftest as module
from certvae.store.artifact import ARRAYS
from certvae.store.failpoints import FAIL_AT
from certvae.store.folders import discard
from certvae.store.layout import STORE
from certvae.store.selftest import (
    STEPS,
    Tally,
    draw,
    ended,
    forked,
    kill_at_random,
    kill_everywhere,
    run_chain,
    summarise,
    table_digest,
    walk,
    worker,
)
from certvae.store.store import Store

REFUSALS = ["ENOSPC", "EIO", "EROFS", "EDQUOT"]


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: a killed process loses nothing that fsync would have saved."""
    shared = Path("/dev/shm")  # noqa: S108 - only a faster place for a private folder
    folder = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def store(memory: Path) -> Store:
    store = Store(memory / "store", test_store=True)
    run_chain(store, [0])
    return store


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class TestKills:
    """In a process of its own: forking one that has loaded every library of the tests is slow."""

    def run(self, folder: Path, *command: str) -> str:
        environment = {**os.environ, "TMPDIR": str(folder)}
        run = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, env=environment)
        assert (run.returncode, list(folder.iterdir())) == (0, []), run.stdout + run.stderr
        return run.stdout

    @pytest.mark.parametrize("locks", [True, False])
    def test_f03_f05_f06_at_every_durable_step_and_at_random(self, memory: Path, locks: bool) -> None:
        call = f"selftest(20, {random.randrange(2**32)}, locks={locks})"
        said = self.run(memory, "-c", f"from certvae.store.selftest import selftest; print({call})")
        told = re.fullmatch(r"(\d+) kill points, 20 random kills, (\d+) executions lost, 0 violations\n", said)
        assert told is not None, said
        points, lost = map(int, told.groups())
        assert points > 100
        assert lost <= points + 20 or not locks

    @pytest.mark.slow
    def test_f03_f05_two_hundred_at_random(self, tmp_path: Path) -> None:
        assert "200 random kills" in self.run(tmp_path, "-m", "certvae", "selftest")


class TestRefusedIo:
    @pytest.mark.parametrize("fail_at", ["ENOSPC", "+ENOSPC", *REFUSALS[1:]])
    def test_f19_f21_at_every_durable_step(
        self, memory: Path, store: Store, monkeypatch: pytest.MonkeyPatch, fail_at: str
    ) -> None:
        """`+`: the disk stays full."""
        lasting, name = "+" if fail_at[0] == "+" else "", fail_at.lstrip("+")
        wanted, refused = table_digest(store), 0
        for step in range(1, 1000):
            place = memory / f"step-{step}"
            shutil.rmtree(memory / f"step-{step - 1}", ignore_errors=True)
            monkeypatch.setenv(FAIL_AT, f"{step}{lasting}:{name}")
            try:
                failing = Store(place, test_store=True)
                run_chain(failing, [0])
                if failing.disk.failpoints.steps < step:
                    break
            except DiskFault as fault:
                refused += 1
                told = str(fault)
                assert re.match(rf"E-DISK: .* \| .*{re.escape(str(place))}.* \| {name}: .* \| .*run the same", told)
            published = {path.name for path in (place / "obj").glob("*")}
            monkeypatch.delenv(FAIL_AT)
            again = Store(place, test_store=True)
            assert again.verify().exit_code == 0
            assert {path.name for path in (place / "obj").iterdir()} == published
            run_chain(again, [0])
            assert table_digest(again) == wanted
        assert refused > 100


class TestCorruption:
    def files(self, store: Store) -> list[Path]:
        truth = [store.path / name for name in ("obj", "rows")]
        return [store.path / STORE, *sorted(path for folder in truth for path in folder.rglob("*") if path.is_file())]

    def damaged(self, store: Store) -> Iterator[tuple[Path, bytes]]:
        """20 changed bits and 4 cuts of every file, one at a time; each is put in place before it is given."""
        chance = random.Random(11)
        for index in range(len(self.files(store))):
            for change in range(24):
                path = self.files(store)[index]
                data = path.read_bytes()
                bit, cut = chance.randrange(len(data) * 8), [0, 1, len(data) // 2, len(data) - 1][change % 4]
                path.write_bytes(flipped(data, bit) if change < 20 else data[:cut])
                yield path, data

    def test_f23_f24_is_found_and_repaired(self, store: Store) -> None:
        wanted, changes = table_digest(store), 0
        for path, data in self.damaged(store):
            changes += 1
            report = store.verify()
            assert report.exit_code == 1, path
            assert len(report.findings) == 1
            assert audit.repair(store.path).exit_code == 0
            run_chain(Store(store.path), [0])
            assert table_digest(store) == wanted
            assert path.name == STORE or path.read_bytes() == data
        assert changes == 24 * (1 + 3 * 3 + 1)
        assert store.verify().exit_code == 0

    def test_f23_f24_heals_in_the_middle_of_a_run(self, store: Store) -> None:
        """Nobody looked: the stage that reads the bytes meets them, the store makes them again, the run goes on."""
        wanted, changes = table_digest(store), 0
        drawn = store.call(draw, 0)
        walked = store.call(walk, drawn, STEPS, 0)
        last = store.path / "obj" / store.key(summarise, drawn, walked)
        for path, data in self.damaged(store):
            if path.name == STORE:
                audit.repair(store.path)
                continue
            changes += 1
            unread = path == last / ARRAYS and path.stat().st_size == len(data)
            if path.parent in (drawn.path, walked.path):
                discard(store.disk, last)
            again = Store(store.path)
            run_chain(again, [0])
            assert table_digest(again) == wanted
            assert again.verify().exit_code == (1 if unread else 0)
            audit.repair(again.path)
            run_chain(again, [0])
        assert changes == 24 * (3 * 3 + 1)
        assert store.verify().exit_code == 0


class TestTheTestItself:
    """A checker that cannot fail proves nothing."""

    def test_notices_hidden_nondeterminism(self, memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def of_this_process(seed: int, purpose: str) -> int:
            return os.getpid()

        monkeypatch.setattr(module, "stage_seed", of_this_process)
        tally = Tally()
        kill_at_random(memory / "random", 1, 0, tally)
        assert any(" instead of " in violation for violation in tally.violations)
        assert (memory / "random").exists()

    @pytest.mark.slow
    def test_notices_work_done_twice(self, memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def nothing(store: Store, request: object) -> None:
            """A store that finds nothing."""

        monkeypatch.setattr(Store, "_find", nothing)
        tally = Tally()
        kill_everywhere(memory / "everywhere", tally)
        assert any("was started again" in violation for violation in tally.violations)
        assert any("was published 2 times" in violation for violation in tally.violations)
        assert (memory / "everywhere").exists()

    def test_notices_another_table(self, memory: Path) -> None:
        store = Store(memory / "store")
        run_chain(store, [1])
        (memory / "store" / "tmp" / "left").touch()
        complaints = module._complaints(memory / "store", "0" * 64, [3], locks=True)
        assert [complaint.split()[0] for complaint in complaints] == ["a", "table", "something"]

    def test_an_undisturbed_run_must_succeed(self, memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(FAIL_AT, "40:ENOSPC")
        with pytest.raises(RuntimeError, match="must end with exit code 0, got 4"):
            module._undisturbed(memory / "store", [0])

    def test_a_child_says_how_it_ended(self, capfd: pytest.CaptureFixture[str], memory: Path) -> None:
        def fail() -> None:
            raise KeyError("odd")

        assert ended(forked(fail)) == 1
        assert "KeyError: 'odd'" in capfd.readouterr().err
        assert ended(worker(memory / "full", [0], {FAIL_AT: "40:ENOSPC"})) == DiskFault.exit_code
        assert "E-DISK" in capfd.readouterr().err
