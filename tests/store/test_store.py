"""The store: one execution per key, nothing lost, nothing wrong in silence."""

import math
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from certvae.canonical import digest
from certvae.errors import ConfigFault, DeterminismFault, DiskFault, NumberFault, StoreFault
from certvae.spec.parts import Mlp
from certvae.store import audit, locks
from certvae.store.artifact import ARRAYS, FACTS, Artifact, Content
from certvae.store.folders import MANIFEST, Corrupt
from certvae.store.log import events
from certvae.store.selftest import ended, forked
from certvae.store.store import STARTS, Stage, Store, Workbench, stage
from tests.lock_files import busy


@stage(version=1)
def source(seed: int, size: int, *, bench: Workbench) -> Content:
    bench.report({"seed": seed})
    return Content({"x": np.random.default_rng(seed).standard_normal(size)}, {"seed": seed})


@stage(version=1)
def doubled(start: Artifact, *, bench: Workbench) -> Content:
    return Content({"x": start.arrays["x"] * 2}, {"from": start.facts["seed"]})


@stage(version=1)
def total(left: Artifact, right: Artifact, *, bench: Workbench) -> Content:
    return Content({}, {"sum": float((left.arrays["x"] + right.arrays["x"]).sum())})


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 5] ^= 64
    path.write_bytes(data)


def names(store: Store) -> list[str]:
    return [event["stage"] for event in store.executions()]


def starts(store: Store) -> list[dict[str, Any]]:
    return events(store.disk, STARTS)


class Gate:
    """Children wait at it until all of them are there and the parent opens it."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()

    def wait(self) -> None:
        os.close(self._writing)
        os.read(self._reading, 1)  # returns when nobody holds the other end any more

    def open(self) -> None:
        os.close(self._writing)


class TestStage:
    def test_bears_the_name_of_its_function(self) -> None:
        assert (source.name, source.version) == ("source", 1)
        assert source.inputs(1, size=2) == {"seed": 1, "size": 2}

    @pytest.mark.parametrize(("given", "named"), [((), {}), ((1, 2, 3), {}), ((1, 2), {"size": 3}), ((1,), {"x": 3})])
    def test_refuses_other_inputs(self, given: tuple, named: dict[str, int]) -> None:
        with pytest.raises(TypeError):
            source.inputs(*given, **named)

    @pytest.mark.parametrize(
        "make",
        [
            lambda seed: Content({}, {}),  # noqa: ARG005
            lambda seed, bench: Content({}, {}),  # noqa: ARG005
            lambda *seeds, bench: Content({}, {}),  # noqa: ARG005
            lambda seed=1, *, bench: Content({}, {}),  # noqa: ARG005
            lambda seed, *, bench, more: Content({}, {}),  # noqa: ARG005
            lambda seed, *, bench, **more: Content({}, {}),  # noqa: ARG005
        ],
    )
    def test_refuses_functions_whose_inputs_have_no_fixed_names(self, make: Any) -> None:
        with pytest.raises(TypeError, match=r"stage s must have the form \(.*\*, bench\)"):
            Stage("s", 1, make)


class TestKey:
    def test_depends_on_stage_version_inputs_and_environment_alone(self, store: Store, tmp_path: Path) -> None:
        key = store.key(source, 1, 2)
        assert len(key) == 64
        assert set(key) <= set("0123456789abcdef")
        assert store.key(source, size=2, seed=1) == key
        same = Store(tmp_path / "elsewhere", device="cuda:7", report=print, locks=False)
        assert same.key(source, 1, 2) == key
        others = [
            store.key(source, 2, 2),
            store.key(source, 1, 3),
            store.key(Stage("source", 2, source.make), 1, 2),
            store.key(Stage("other", 1, source.make), 1, 2),
            Store(tmp_path / "elsewhere", fingerprint={"torch": "2.13"}).key(source, 1, 2),
        ]
        assert len({key, *others}) == 6

    def test_is_the_digest_of_the_body(self, store: Store) -> None:
        body = store.body(source, 1, size=2)
        assert digest(body) == store.key(source, 1, 2)
        assert body["inputs"] == {"seed": 1, "size": 2}
        assert (body["stage"], body["version"], body["environment"]) == ("source", 1, {})

    def test_an_artifact_enters_by_its_content_and_a_spec_by_its_fields(self, store: Store, tmp_path: Path) -> None:
        here, there = store.call(source, 1, 2), Store(tmp_path / "elsewhere").call(source, 1, 2)
        assert here != there
        assert store.key(doubled, here) == store.key(doubled, there)
        widths = [store.key(source, Mlp(hidden=(width,)), 1) for width in (3, 3, 4)]
        assert widths[0] == widths[1] != widths[2]

    def test_f51_refuses_nan(self, store: Store) -> None:
        with pytest.raises(ConfigFault):
            store.key(source, math.nan, 1)

    def test_f30_f31_other_code_or_environment_recomputes_and_keeps(self, store: Store) -> None:
        first = store.call(source, 1, 2)
        store.call(Stage("source", 2, source.make), 1, 2)
        Store(store.path, fingerprint={"device": "another"}).call(source, 1, 2)
        assert len(store.executions("source")) == 3
        assert store.find(source, 1, 2) == first
        assert audit.status(store.path).older == 2


class TestCall:
    def test_computes_once(self, store: Store) -> None:
        assert store.find(source, 1, 5) is None
        first = store.call(source, 1, 5)
        assert store.call(source, 1, size=5) == store.find(source, 1, 5) == first
        assert Store(store.path).call(source, 1, 5) == first
        assert names(store) == ["source"]
        assert first.path == store.path / "obj" / store.key(source, 1, 5)

    def test_chains_by_artifacts(self, store: Store) -> None:
        drawn = store.call(source, 1, 5)
        twice = store.call(doubled, drawn)
        np.testing.assert_array_equal(twice.arrays["x"], drawn.arrays["x"] * 2)
        assert twice.facts == {"from": 1}
        assert names(store) == ["source", "doubled"]

    def test_says_how_long_things_took(self, store: Store) -> None:
        store.call(source, 1, 5)
        store.call(source, 2, 5)
        assert len(store.seconds("source")) == 2
        assert all(seconds >= 0 for seconds in store.seconds("source"))
        assert store.seconds("doubled") == []

    def test_of_other_inputs_or_on_another_device_it_is_not_counted(self, store: Store) -> None:
        store.call(source, 1, 5)
        assert len(store.seconds("source", lambda _: True)) == 1
        assert store.seconds("source", lambda _: False) == []
        assert Store(store.path, fingerprint={"device": "another"}).seconds("source", lambda _: True) == []

    def test_hands_the_workbench_to_the_stage(self, tmp_path: Path) -> None:
        seen: list[Workbench] = []
        told: list[Mapping[str, Any]] = []

        @stage(version=1)
        def look(*, bench: Workbench) -> Content:
            seen.append(bench)
            bench.report({"step": 1})
            return Content({}, {})

        Store(tmp_path, device="cuda:3", report=told.append, checkpoint_seconds=5.0).call(look)
        assert (seen[0].device, seen[0].checkpoint_seconds) == ("cuda:3", 5.0)
        assert told == [{"step": 1}]

    def test_a_stage_that_fails_leaves_nothing_and_is_tried_again(self, store: Store) -> None:
        attempts: list[int] = []

        @stage(version=1)
        def unlucky(*, bench: Workbench) -> Content:
            attempts.append(1)
            if len(attempts) == 1:
                raise NumberFault("loss became nan", "lower it", where="here", cause="learning rate")
            return Content({}, {})

        with pytest.raises(NumberFault):
            store.call(unlucky)
        assert store.find(unlucky) is None
        assert not busy(store.path, store.key(unlucky))
        store.call(unlucky)
        assert len(attempts) == 2
        assert names(store) == ["unlucky"]

    @pytest.mark.parametrize(
        ("content", "fault"),
        [
            (Content({"x": np.array([1.0, np.nan])}, {}), NumberFault),
            (Content({}, {"x": math.inf}), ConfigFault),
            (Content({"x": np.array(["text"])}, {}), TypeError),
        ],
    )
    def test_f34_a_result_that_cannot_be_used_is_not_stored(
        self, store: Store, content: Content, fault: type[Exception]
    ) -> None:
        @stage(version=1)
        def bad(*, bench: Workbench) -> Content:
            return content

        with pytest.raises(fault):
            store.call(bad)
        assert store.find(bad) is None
        assert store.verify().exit_code == 0

    def test_checkpoints_end_with_the_stage(self, store: Store) -> None:
        @stage(version=1)
        def saving(fail: bool, *, bench: Workbench) -> Content:
            latest = bench.checkpoints.latest()
            if latest is None:
                bench.checkpoints.save(1, Content({}, {}))
                raise KeyError
            return Content({}, {"resumed from": latest[0]})

        with pytest.raises(KeyError):
            store.call(saving, True)
        with pytest.raises(KeyError):
            store.call(saving, False)
        assert store.call(saving, True).facts == {"resumed from": 1}
        assert len(list((store.path / "ckpt").iterdir())) == 1

    def test_f19_a_full_disk_is_told_and_nothing_is_lost(self, store: Store) -> None:
        first = store.call(source, 1, 5)

        def too_much() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
            store.call(source, 2, 100_000)

        assert ended(forked(too_much)) == DiskFault.exit_code
        assert Store(store.path).verify().exit_code == 0
        assert store.find(source, 1, 5) == first
        assert store.call(source, 2, 100_000).arrays["x"].shape == (100_000,)


class TestFind:
    """Verified: manifest, listing, sizes, facts. Arrays when they are read."""

    @pytest.mark.parametrize("name", [MANIFEST, FACTS])
    def test_f23_a_changed_bit_is_absence(self, store: Store, name: str, caplog: pytest.LogCaptureFixture) -> None:
        artifact = store.call(source, 1, 5)
        flip(artifact.path / name)
        assert store.find(source, 1, 5) is None
        assert "moved to quarantine" in caplog.text
        assert store.call(source, 1, 5) == artifact
        assert names(store) == ["source"] * 2

    def test_does_not_read_arrays(self, store: Store) -> None:
        artifact = store.call(source, 1, 5)
        flip(artifact.path / ARRAYS)
        assert store.find(source, 1, 5) == artifact
        with pytest.raises(Corrupt):
            _ = artifact.arrays
        assert store.find(source, 1, 5) is None

    def test_f21_a_read_error_is_no_absence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        artifact = Store(tmp_path, test_store=True).call(source, 1, 5)
        monkeypatch.setenv("CERTVAE_FAIL_AT", f"read:{FACTS}:EIO")
        with pytest.raises(DiskFault, match="EIO"):
            Store(tmp_path).call(source, 1, 5)
        monkeypatch.delenv("CERTVAE_FAIL_AT")
        assert Store(tmp_path).find(source, 1, 5) == artifact


class TestHealing:
    """Mode 23: an input whose arrays went bad is computed again in the middle of the stage that reads it."""

    def chain(self, store: Store) -> tuple[Artifact, Artifact]:
        drawn = store.call(source, 1, 50)
        return drawn, store.call(doubled, drawn)

    def test_f23_an_input_is_made_again(self, store: Store) -> None:
        drawn, twice = self.chain(store)
        flip(drawn.path / ARRAYS)
        result = store.call(total, drawn, twice)
        assert result.facts == {"sum": float((drawn.arrays["x"] * 3).sum())}
        assert names(store) == ["source", "doubled", "source", "total"]

    def test_f23_so_are_the_inputs_of_an_input(self, store: Store) -> None:
        drawn, twice = self.chain(store)
        for artifact in (drawn, twice):
            flip(artifact.path / ARRAYS)
        result = store.call(total, drawn, twice)
        assert result.facts == {"sum": float((drawn.arrays["x"] * 3).sum())}
        assert store.verify().exit_code == 0

    def test_outside_of_stages_too(self, store: Store) -> None:
        drawn, _ = self.chain(store)
        wanted = drawn.arrays["x"]
        flip(drawn.path / ARRAYS)
        np.testing.assert_array_equal(store.healing(lambda: drawn.arrays["x"]), wanted)

    def test_an_artifact_of_another_process_is_left_to_its_next_run(self, store: Store) -> None:
        drawn, twice = self.chain(store)
        flip(drawn.path / ARRAYS)
        stranger = Store(store.path)
        with pytest.raises(Corrupt, match="run the same command again"):
            stranger.call(total, drawn, twice)
        assert not busy(stranger.path, stranger.key(total, drawn, twice))
        again, _ = self.chain(stranger)
        assert again == drawn

    def test_what_goes_bad_again_at_once_is_a_fault(self, store: Store) -> None:
        drawn, _ = self.chain(store)

        def read() -> None:
            flip(drawn.path / ARRAYS)
            _ = drawn.arrays

        with pytest.raises(Corrupt):
            store.healing(read)

    def test_f26_made_again_it_must_be_the_same(self, store: Store) -> None:
        values = iter([1.0, 2.0])

        @stage(version=1)
        def fickle(*, bench: Workbench) -> Content:
            return Content({"x": np.array(next(values))}, {})

        artifact = store.call(fickle)
        flip(artifact.path / ARRAYS)
        with pytest.raises(DeterminismFault, match=artifact.digest):
            store.healing(lambda: artifact.arrays)


class TestSeveralProcesses:
    def test_f25_one_execution_and_one_object(self, tmp_path: Path) -> None:
        """Eight processes ask for the same key at the same moment, fifty times."""
        together = multiprocessing.get_context("fork").Barrier(8)

        def run() -> None:
            store = Store(tmp_path)
            for seed in range(50):
                together.wait()
                store.call(source, seed, 10)

        children = [forked(run) for _ in range(8)]
        assert [ended(pid) for pid in children] == [0] * 8
        keys = [event["key"] for event in Store(tmp_path).executions()]
        assert len(keys) == len(set(keys)) == 50
        assert {path.name for path in (tmp_path / "obj").iterdir()} == set(keys)
        assert list((tmp_path / "lock").iterdir()) == list((tmp_path / "tmp").iterdir()) == []

    def test_f25_without_locks_one_object(self, tmp_path: Path) -> None:
        gate = Gate()

        @stage(version=1)
        def meeting(*, bench: Workbench) -> Content:
            gate.wait()
            return Content({"x": np.arange(3.0)}, {})

        children = [forked(lambda: Store(tmp_path / "store", locks=False).call(meeting)) for _ in range(8)]
        gate.open()
        assert [ended(pid) for pid in children] == [0] * 8
        store = Store(tmp_path / "store")
        assert len(store.executions()) == 8
        assert len(list((store.path / "obj").iterdir())) == 1
        assert store.verify().exit_code == 0

    def test_f26_hidden_nondeterminism_is_never_silent(self, tmp_path: Path) -> None:
        gate = Gate()

        @stage(version=1)
        def random_bytes(*, bench: Workbench) -> Content:
            gate.wait()
            return Content({"x": np.frombuffer(os.urandom(8), np.uint8)}, {})

        children = [forked(lambda: Store(tmp_path / "store", locks=False).call(random_bytes)) for _ in range(2)]
        gate.open()
        assert sorted(ended(pid) for pid in children) == [0, DeterminismFault.exit_code]
        store = Store(tmp_path / "store")
        assert len(list((store.path / "quarantine").iterdir())) == 1
        assert store.verify().exit_code == 0

    def test_f14_a_late_writer_is_harmless(self, tmp_path: Path) -> None:
        """A stopped process of an earlier run wakes up after another one has done its work."""
        gate = Gate()

        @stage(version=1)
        def slow(*, bench: Workbench) -> Content:
            bench.report({})
            return Content({"x": np.arange(3.0)}, {})

        zombie = forked(lambda: Store(tmp_path / "store", locks=False, report=lambda _: gate.wait()).call(slow))
        store = Store(tmp_path / "store", locks=False)
        while not starts(store):
            time.sleep(0.001)
        first = store.call(slow)
        inode = first.path.stat().st_ino
        gate.open()
        assert ended(zombie) == 0
        assert store.find(slow) == first
        assert first.path.stat().st_ino == inode
        assert len(store.executions()) == 2

    def test_f27_a_killed_holder_is_followed_at_once(self, tmp_path: Path) -> None:
        store = Store(tmp_path)

        @stage(version=1)
        def endless(*, bench: Workbench) -> Content:
            bench.report({})
            return Content({}, {})

        holder = forked(lambda: Store(tmp_path, report=lambda _: signal.pause()).call(endless))
        while not busy(store.path, store.key(endless)):
            time.sleep(0.001)
        assert store.find(endless) is None
        os.kill(holder, signal.SIGKILL)
        store.call(endless)
        assert ended(holder) == -signal.SIGKILL
        assert not busy(store.path, store.key(endless))

    def test_a_stopped_holder_is_passed_and_may_go_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody waits for ever for a process that somebody stopped; waking up, it finds its work done."""
        monkeypatch.setattr(locks, "IDLE", 0.2)
        gate = Gate()

        @stage(version=1)
        def slow(*, bench: Workbench) -> Content:
            bench.report({})
            return Content({"x": np.arange(3.0)}, {})

        holder = forked(lambda: Store(tmp_path, report=lambda _: gate.wait()).call(slow))
        store = Store(tmp_path)
        while not starts(store):
            time.sleep(0.001)
        os.kill(holder, signal.SIGSTOP)
        first = store.call(slow)
        os.kill(holder, signal.SIGCONT)
        gate.open()
        assert ended(holder) == 0
        assert store.find(slow) == first
        assert store.verify().exit_code == 0
        assert list((tmp_path / "quarantine").iterdir()) == []

    KILLED: ClassVar = [("start:source", 0, 0), ("after:source", 1, 0), ("before:row", 1, 0)]

    @pytest.mark.parametrize(("place", "objects", "rows"), KILLED)
    def test_f01_f02_f07_killed_between_things_nothing_is_done_twice(
        self, tmp_path: Path, place: str, objects: int, rows: int
    ) -> None:
        Store(tmp_path, test_store=True)

        def run() -> None:
            store = Store(tmp_path)
            store.put_row({"study": "s", "artifact": store.call(source, 1, 5).digest})

        def killed() -> None:
            os.environ["CERTVAE_KILL_AT"] = place
            run()

        assert ended(forked(killed)) == -signal.SIGKILL
        store = Store(tmp_path)
        assert len(list((tmp_path / "obj").iterdir())) == objects
        assert len(store.rows()) == rows
        run()
        assert len(starts(store)) == (1 if objects else 2)
        assert len(store.rows("s")) == 1


class TestRest:
    """The store speaks for the modules below it."""

    def test_rows_and_documents(self, store: Store) -> None:
        name = store.put_row({"study": "s", "margin": 0.5})
        assert store.rows("s") == store.rows() == [{"study": "s", "margin": 0.5}]
        assert (store.path / "rows" / "s" / f"{name}.json").exists()
        assert store.put_document("gate", "s", {"config": 1}) == {"config": 1}
        assert store.get_document("gate", "s") == {"config": 1}
        assert store.documents("gate") == {"s": {"config": 1}}
        with pytest.raises(StoreFault):
            store.put_document("gate", "s", {"config": 2})

    def test_looking_after_it(self, store: Store) -> None:
        artifact = store.call(source, 1, 5)
        assert store.verify().exit_code == 0
        assert audit.status(store.path).objects == {("source", 1): 1}
        assert audit.gc(store.path, older_than_days=-1) == [artifact.path]
        flip(artifact.path / ARRAYS)
        assert store.verify().exit_code == 1
        assert audit.repair(store.path).exit_code == 0
        assert store.find(source, 1, 5) is None
