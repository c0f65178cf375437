"""Which text of the program made a result: an edit is seen, whether or not anybody thought of a version."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import certvae
from certvae.canonical import digest
from certvae.store.artifact import Artifact, Content
from certvae.store.failpoints import Failpoints
from certvae.store.program import is_stale, program_digest
from certvae.store.records import REPLACED
from certvae.store.selftest import ended, forked
from certvae.store.store import Stage, Store, Workbench

OLD, NEW = "a" * 64, "b" * 64


def drawn(scale: float) -> Stage:
    """A stage as it is before and after somebody edits it and forgets the version."""

    def draw(seed: int, *, bench: Workbench) -> Content:
        return Content({"x": scale * np.random.default_rng(seed).standard_normal(4)}, {"scale": scale})

    return Stage("draw", 1, draw)


def total(given: Artifact, more: Any, *, bench: Workbench) -> Content:
    return Content({}, {"sum": float(given.arrays["x"].sum())})


TOTAL = Stage("total", 1, total)


def run(store: Store, scale: float, wrap: Any = lambda given: given) -> dict[str, Any]:
    found = store.call(TOTAL, store.call(drawn(scale), 0), wrap(0))
    return store.with_program({"study": "s", "seed": 0, "key_judged": found.key, **found.facts})


class TestDigest:
    @pytest.fixture
    def copy(self, tmp_path: Path) -> Path:
        """The program in another place."""
        source = Path(certvae.__file__).parent
        shutil.copytree(source, tmp_path / "copy" / "certvae", ignore=shutil.ignore_patterns("__pycache__"))
        return tmp_path / "copy"

    def of(self, root: Path) -> str:
        code = "from certvae.store import program_digest; print(program_digest(), end='')"
        environment = {"PYTHONPATH": str(root), "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True).stdout

    def test_depends_on_the_text_and_not_on_where_it_lies(self, copy: Path) -> None:
        assert self.of(copy) == program_digest()
        path = copy / "certvae" / "training" / "losses.py"
        path.write_text(path.read_text() + "\n_FACTOR = 3\n")
        assert self.of(copy) != program_digest()

    def test_a_users_own_files_are_part_of_it(self, tmp_path: Path) -> None:
        (tmp_path / "here").mkdir()
        (tmp_path / "there").mkdir()
        for folder in ("here", "there"):
            (tmp_path / folder / "mine.py").write_text("scale = 1\n")
        here, there = (program_digest(tmp_path / folder / "mine.py") for folder in ("here", "there"))
        assert here == there != program_digest()
        program_digest.cache_clear()
        (tmp_path / "there" / "mine.py").write_text("scale = 3\n")
        assert program_digest(tmp_path / "there" / "mine.py") != here


class TestStale:
    def test_what_one_program_made_says_so(self, tmp_path: Path) -> None:
        store = Store(tmp_path)
        row = run(store, 1.0)
        assert row["program"] == store.program == program_digest()
        assert not store.is_stale(row)
        assert row == run(Store(tmp_path), 1.0) == run(Store(tmp_path / "again"), 1.0)

    def test_a_row_of_another_program_is_stale_and_keeps_its_key(self, tmp_path: Path) -> None:
        before = run(Store(tmp_path, program=OLD), 1.0)
        store = Store(tmp_path, program=NEW)
        assert store.is_stale(before)
        assert not is_stale(before, OLD)
        assert store.is_stale({"study": "s"})
        assert store.key(drawn(3.0), 0) == Store(tmp_path, program=OLD).key(drawn(1.0), 0)

    def test_a_part_of_another_program_is_enough(self, tmp_path: Path) -> None:
        """The run was killed after its first stage, the program was edited, and the run went on."""
        Store(tmp_path, program=OLD).call(drawn(1.0), 0)
        for wrap in (lambda given: given, lambda given: [{"deep": given}]):
            store = Store(tmp_path, program=NEW)
            row = run(store, 3.0, wrap)
            assert row["program"] == f"{OLD}+{NEW}"
            assert store.is_stale(row)
            assert (
                Store(tmp_path, program=NEW).with_program({"key_judged": row["key_judged"]})["program"]
                == row["program"]
            )

    def test_progress_of_another_program_is_enough(self, tmp_path: Path) -> None:
        def train(stop: bool, *, bench: Workbench) -> Content:
            if bench.checkpoints.latest() is None:
                bench.checkpoints.save(1, Content({}, {}))
                raise KeyError
            return Content({}, {})

        stage = Stage("train", 1, train)
        with pytest.raises(KeyError):
            Store(tmp_path, program=OLD).call(stage, True)
        assert Store(tmp_path, program=NEW).call(stage, True).programs == (OLD, NEW)

    def test_an_object_that_does_not_say_is_of_an_unknown_program(self, tmp_path: Path) -> None:
        store = Store(tmp_path, program=NEW)
        assert store.with_program({"key_trained": "0" * 64})["program"] == f"{NEW}+unknown"

    def test_no_content_depends_on_it(self, tmp_path: Path) -> None:
        stores = [Store(tmp_path / program[0], program=program) for program in (OLD, NEW)]
        first, second = (store.call(drawn(1.0), 0) for store in stores)
        assert (first.key, first.digest) == (second.key, second.digest)
        assert first.programs != second.programs


class TestRecompute:
    def test_everything_that_another_program_had_a_part_in_is_made_again(self, tmp_path: Path) -> None:
        old = run(Store(tmp_path, program=OLD), 1.0)
        again = Store(tmp_path, program=NEW, recompute=True)
        new = run(again, 3.0)
        assert new["sum"] == pytest.approx(3 * old["sum"])
        assert new["program"] == NEW
        assert again.verify().exit_code == 0
        run(Store(tmp_path, program=NEW, recompute=True), 3.0)
        assert len(again.executions()) == 4  # twice before and after the edit, and no more

    def test_without_it_nothing_is(self, tmp_path: Path) -> None:
        old = run(Store(tmp_path, program=OLD), 1.0)
        assert run(Store(tmp_path, program=NEW), 3.0)["sum"] == old["sum"]

    def test_progress_of_another_program_is_not_used(self, tmp_path: Path) -> None:
        seen: list[int] = []

        def train(value: float, *, bench: Workbench) -> Content:
            latest = bench.checkpoints.latest()
            seen.append(0 if latest is None else latest[0])
            bench.checkpoints.save(1 + seen[-1], Content({"x": np.array(len(seen))}, {}))
            if len(seen) < 3:
                raise KeyError
            return Content({}, {})

        stage = Stage("train", 1, train)
        with pytest.raises(KeyError):
            Store(tmp_path, program=OLD).call(stage, 1.0)
        for _ in range(2):
            store = Store(tmp_path, program=NEW, recompute=True)
            try:
                assert store.call(stage, 1.0).programs == (NEW,)
            except KeyError:
                continue
        assert seen == [0, 0, 1]

    def test_a_row_takes_the_place_of_the_one_it_was_made_again_from(self, tmp_path: Path) -> None:
        store = Store(tmp_path)
        old, new = {"study": "s", "x": 1, "program": OLD}, {"study": "s", "x": 3, "program": NEW}
        store.put_row(old)
        store.expect("s", {})
        name = store.replace_row(old, new)
        assert store.rows() == store.rows("s") == [new]
        assert name == digest(new)
        assert list(store.documents(REPLACED)) == [digest(old)]
        assert store.verify().exit_code == 0  # it is not missed
        store.replace_row(new, new)
        assert store.rows() == [new]

    def test_and_may_be_what_it_was_before_once_more(self, tmp_path: Path) -> None:
        """The edit is taken back."""
        store = Store(tmp_path)
        old, new = {"study": "s", "x": 1}, {"study": "s", "x": 3}
        store.put_row(old)
        store.replace_row(old, new)
        store.replace_row(new, old)
        assert store.rows() == [old]
        assert store.verify().exit_code == 0

    def test_killed_between_the_two_there_is_none_and_the_new_one_is_made(self, tmp_path: Path) -> None:
        store = Store(tmp_path, test_store=True)
        old, new = {"study": "s", "x": 1}, {"study": "s", "x": 3}
        store.put_row(old)
        store.expect("s", {})
        killing = Store(tmp_path)
        killing.disk.failpoints = Failpoints("before:row")
        assert ended(forked(lambda: killing.replace_row(old, new))) == -signal.SIGKILL
        assert store.rows() == []
        assert store.verify().exit_code == 0
        store.put_row(new)
        assert store.rows() == [new]
