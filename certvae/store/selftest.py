"""Tests the store's crash safety: kills at every durable I/O step, and at random, then compares all bytes.

A chain of three small stages (with checkpoints) and a row per cell runs in children of this process, forked after all
imports, so that kills fall into stages and writes and not into start-up. Whatever is killed, running the same again
must give the same table byte for byte, keep every published object, and start no finished stage again.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from certvae.canonical import digest, stage_seed
from certvae.errors import Fault
from certvae.store.artifact import Artifact, Content
from certvae.store.disk import Disk
from certvae.store.failpoints import KILL_AT
from certvae.store.log import events
from certvae.store.store import OBJECTS, STARTS, Store, Workbench, stage

STUDY = "selftest"
STEPS = 3
WORKERS = 2
CELLS = 4


@stage(version=1)
def draw(seed: int, *, bench: Workbench) -> Content:
    """Random numbers from a seed."""
    generator = np.random.default_rng(stage_seed(seed, "init"))
    bench.report({"seed": seed})
    return Content({"x": generator.standard_normal((16, 4)), "order": generator.permutation(16)}, {"seed": seed})


@stage(version=1)
def walk(drawn: Artifact, steps: int, seed: int, *, bench: Workbench) -> Content:
    """A random walk that saves a checkpoint after each step, and continues from the last one."""
    latest = bench.checkpoints.latest()
    done, x = (latest[0], latest[1].arrays["x"]) if latest else (0, drawn.arrays["x"])
    for step in range(done, steps):
        x = np.tanh(x + np.random.default_rng([stage_seed(seed, "noise"), step]).standard_normal(x.shape))
        if step + 1 < steps:
            bench.checkpoints.save(step + 1, Content({"x": x}, {}))
        bench.report({"step": step + 1})
    return Content({"x": x}, {"steps": steps})


@stage(version=1)
def summarise(drawn: Artifact, walked: Artifact, *, bench: Workbench) -> Content:
    """Facts that depend on every bit of both inputs."""
    bench.report({"steps": walked.facts["steps"]})
    x, order = walked.arrays["x"], drawn.arrays["order"]
    return Content({"last": x[order]}, {"sum": float(x[order].sum()), "steps": walked.facts["steps"]})


@dataclass
class Tally:
    """What was done to the store and what came of it."""

    kills: int = 0
    points: int = 0
    extra: int = 0
    """Executions that started and were not published: the work that kills cost."""
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"VIOLATION {violation}" for violation in self.violations]
        done = f"{self.points} kill points, {self.kills} random kills, {self.extra} executions lost"
        return "\n".join([*lines, f"{done}, {len(self.violations)} violations"])


def run_chain(store: Store, seeds: list[int]) -> None:
    """All cells: three stages and a row each."""
    for seed in seeds:
        drawn = store.call(draw, seed)
        walked = store.call(walk, drawn, STEPS, seed)
        found = store.call(summarise, drawn, walked)
        row = {"study": STUDY, "seed": seed, "artifact": found.digest, "key_found": found.key, **found.facts}
        store.put_row(store.with_program(row))


def table_digest(store: Store) -> str:
    """Digest of all rows in plan order: the order of seeds."""
    return digest(sorted(store.rows(STUDY), key=lambda row: row["seed"]))


def forked(action: Callable[[], object]) -> int:
    """Runs an action in a child of this process and returns its id; a fault gives its own exit code, any error 1."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        action()
        code = 0
    except Fault as fault:
        print(fault, file=sys.stderr)
        code = fault.exit_code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> int:
    """Waits for a child; its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def worker(folder: Path, seeds: list[int], variables: Mapping[str, str] | None = None, *, locks: bool = True) -> int:
    """A child that runs the chain in a test store, with failpoints as the variables say."""

    def work() -> None:
        os.environ.update(variables or {})
        run_chain(Store(folder, test_store=True, locks=locks), seeds)

    return forked(work)


def kill_everywhere(folder: Path, tally: Tally, *, locks: bool = True) -> None:
    """One fresh store per durable I/O step of a run of one cell: die before that step, run again, compare."""
    wanted, _ = _undisturbed(folder / "undisturbed", [0])
    for step in range(1, sys.maxsize):
        place = folder / f"step-{step}"
        if ended(worker(place, [0], {KILL_AT: str(step)}, locks=locks)) == 0:
            break
        tally.points += 1
        finished, started = published(place), len(starts(place))
        code = ended(worker(place, [0], locks=locks))
        again = [key for key in starts(place)[started:] if key in finished]
        found = [f"finished stage {key} was started again" for key in again]
        _settle(place, f"step {step}", [*found, *_complaints(place, wanted, [code], locks=locks)], tally)
    if not tally.violations:
        shutil.rmtree(folder)


def kill_at_random(folder: Path, kills: int, seed: int, tally: Tally, *, locks: bool = True) -> None:
    """Workers that share one store, one of them killed after a random time, again and again; a new store when done."""
    chance, seeds = random.Random(seed), list(range(CELLS))  # noqa: S311 - only when to kill
    wanted, seconds = _undisturbed(folder / "undisturbed", seeds)
    while tally.kills < kills:
        place = folder / f"from-{tally.kills}"
        workers = [worker(place, seeds, locks=locks) for _ in range(WORKERS)]
        codes = []
        while tally.kills < kills and not codes:
            time.sleep(chance.uniform(0, seconds))
            code = _killed(workers.pop(chance.randrange(WORKERS)))
            if code == -signal.SIGKILL:
                tally.kills += 1
                workers.append(worker(place, seeds, locks=locks))
            else:
                codes.append(code)
        codes += [ended(pid) for pid in workers]
        _settle(place, f"{tally.kills} kills", _complaints(place, wanted, codes, locks=locks), tally)
    if not tally.violations:
        shutil.rmtree(folder)


def selftest(kills: int, seed: int, *, locks: bool = True) -> Tally:
    """Both tests in a temporary folder, of which is kept what shows a violation."""
    tally = Tally()
    folder = Path(tempfile.mkdtemp(prefix="certvae-selftest-"))
    kill_everywhere(folder / "everywhere", tally, locks=locks)
    kill_at_random(folder / "random", kills, seed, tally, locks=locks)
    if not tally.violations:
        folder.rmdir()
    return tally


def _undisturbed(folder: Path, seeds: list[int]) -> tuple[str, float]:
    """Table digest of a run that nobody kills, and how long it took in seconds."""
    folder.parent.mkdir(exist_ok=True)
    began = time.monotonic()
    code = ended(worker(folder, seeds))
    seconds = time.monotonic() - began
    if code:
        raise RuntimeError(f"the undisturbed run must end with exit code 0, got {code}")
    return table_digest(Store(folder)), seconds


def _killed(pid: int) -> int:
    """Kills a child of ours that nobody has waited for yet, so the id is still its own; how it ended."""
    os.kill(pid, signal.SIGKILL)
    return ended(pid)


def _complaints(folder: Path, wanted: str, codes: list[int], *, locks: bool) -> list[str]:
    """Everything that must hold after the last run; results are asked from the store, not from our own log."""
    store = Store(folder)
    report, table = store.verify(), table_digest(store)
    complaints = [f"a worker ended with exit code {code}" for code in codes if code]
    if report.exit_code:
        complaints.append(str(report))
    if table != wanted:
        complaints.append(f"table {table} instead of {wanted}")
    if any(any((folder / name).iterdir()) for name in ("tmp", "ckpt")):
        complaints.append("something was left in tmp/ or ckpt/")
    runs = Counter(event["key"] for event in store.executions())
    return complaints + [f"{key} was published {count} times" for key, count in runs.items() if locks and count > 1]


def _settle(folder: Path, name: str, complaints: list[str], tally: Tally) -> None:
    tally.extra += len(starts(folder)) - len(published(folder))
    tally.violations += [f"{name} in {folder}: {complaint}" for complaint in complaints]
    if not complaints:
        shutil.rmtree(folder)


def published(folder: Path) -> set[str]:
    """Keys of the objects of a store."""
    return {path.name for path in (folder / OBJECTS).glob("*")}


def starts(folder: Path) -> list[str]:
    """Keys of the stages that were begun on a store, in order; one for each time."""
    return [event["key"] for event in events(Disk(folder), STARTS)]
