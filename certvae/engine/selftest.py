"""Tests crash safety through the real command: a short study on real Ray is struck at random moments, and resumed.

Whatever happens to it, the same command must end with the same table and rows byte for byte, start no finished stage
again, and tell its shell a documented code. `certvae.store.selftest` tries the store alone, at every I/O step.
"""

import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from certvae.cluster.served import Served
from certvae.cluster.strikes import CODES, STRIKES, Running, Strike
from certvae.engine.study import Study
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Description, Mlp
from certvae.spec.presets import rescue
from certvae.spec.rescue import Rescue
from certvae.store import audit
from certvae.store.layout import VIEWS
from certvae.store.records import ROWS
from certvae.store.selftest import published, starts
from certvae.terminal import number_of

ROOT = Path(__file__).parents[2]
MOST_RERUNS = 50
CALM = frozenset({0})
"""How a run must end that nobody disturbs."""
DELAY = (0.0, 2.0)  # seconds after a stage has begun: stages take about as long
FIXED = {"CERTVAE_DATA": "", "OMP_NUM_THREADS": "1"}
HEAD = "| struck | times | exit codes | violations | stages half done | finished, begun again | gone after, s |"
Results = dict[str, bytes]
"""The final table and every row, by place in the store."""


def small(data: str | Description) -> CellSpec:
    """A chain of digits that takes seconds."""
    cell = rescue(data)
    protocol, training = cell.protocol, replace(cell.training, epochs=4)
    if not isinstance(protocol, Rescue):
        raise TypeError(f"the preset of a rescue chain gives one, got {type(protocol).__name__}")
    return replace(
        cell,
        data=replace(cell.data, limit=400, certify_limit=100),
        model=replace(cell.model, encoder=Mlp(hidden=(64,), latent=16)),
        protocol=replace(
            protocol,
            controls=(),
            warm_up=replace(protocol.warm_up, training=training),
            teacher=replace(protocol.teacher, initialisations=1, covariance=("diag",), whitening=(0,)),
        ),
        training=training,
    )


STUDY = Study(name="selftest", about=__doc__ or "", data="digits", preset=small, seeds=(0, 1))


@dataclass
class Outcomes:
    """What one kind of strike did."""

    codes: Counter[int | None] = field(default_factory=Counter)
    extra: int = 0
    """Executions that were begun in a run that was struck, and left nothing."""
    again: int = 0
    """Finished stages that were begun again."""
    slowest: float = 0.0
    """Seconds until the last process of a run was gone, after its driver was."""

    violations: int = 0

    def add(self, code: int | None, *, extra: int, again: int, slowest: float, violations: int) -> None:
        """One more run that was struck."""
        self.codes[code] += 1
        self.extra += extra
        self.again += again
        self.slowest = max(self.slowest, slowest)
        self.violations += violations


@dataclass
class Tally:
    """What was done to a study and what came of it."""

    strikes: dict[Strike, Outcomes] = field(default_factory=dict)
    stores: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def landed(self) -> int:
        """How many strikes hit a running study."""
        return sum(one.codes.total() for one in self.strikes.values())

    @property
    def table(self) -> str:
        """One line per kind of strike, as Markdown."""
        lines = [HEAD, "|---|---|---|---|---|---|---|"]
        for strike, one in sorted(self.strikes.items()):
            codes = ", ".join(f"{code} x {count}" for code, count in sorted(one.codes.items(), key=str))
            counts = (one.codes.total(), codes, one.violations, one.extra, one.again, f"{one.slowest:.0f}")
            lines.append(f"| {strike} | {' | '.join(map(str, counts))} |")
        return "\n".join(lines)

    def __str__(self) -> str:
        lines = [f"VIOLATION {violation}" for violation in self.violations]
        struck = f"{number_of(self.landed, 'strike')} on {number_of(self.stores, 'study', 'studies')}"
        return "\n".join([*lines, f"{struck}, {number_of(len(self.violations), 'violation')}"])


def selftest(kills: int, seed: int) -> Tally:
    """Strikes studies in a temporary folder until so many strikes have hit; what shows a violation is kept.

    Args:
        kills: how many strikes, each kind as often as the others.
        seed: of their moments.

    Raises:
        RuntimeError: the study does not even end when nobody disturbs it.
    """
    folder = Path(tempfile.mkdtemp(prefix="certvae-selftest-"))
    with _started(calm := folder / "undisturbed") as run:
        code, said = run.end()
    if code:
        raise RuntimeError(f"the undisturbed study must end with exit code 0, got {code}: {said}")
    trial = _Trial(results(calm), len(starts(calm)), kills, random.Random(seed))  # noqa: S311 - only when
    tally = trial.tally
    print(f"undisturbed: {trial.stages} stages, {len(trial.wanted) - 1} rows")
    while tally.landed < kills and not tally.violations:
        store = folder / f"struck-{tally.landed}"
        tally.violations += [f"{store}: {one}" for one in trial.study(store)]
        tally.stores += 1
        if not tally.violations:
            shutil.rmtree(store)
    if not tally.violations:
        shutil.rmtree(folder)
    return tally


@dataclass
class _Trial:
    """Studies that are struck, and what must come of them.

    Args:
        wanted: what an undisturbed study left.
        stages: how many it began.
    """

    wanted: Results
    stages: int
    kills: int
    chance: random.Random
    tally: Tally = field(default_factory=Tally)

    def study(self, store: Path) -> list[str]:
        """Runs one study again and again until it ends by itself; what is wrong with it."""
        for _ in range(MOST_RERUNS):
            code, found = self._attempt(store)
            if found:
                return found
            if code == 0:
                return _compared(store, self.wanted)
        return [f"it did not end in {MOST_RERUNS} runs"]

    def _attempt(self, store: Path) -> tuple[int | None, list[str]]:
        """One run, struck if there are strikes left: its exit code, and what was wrong."""
        strike = STRIKES[self.tally.landed % len(STRIKES)]
        shown, finished, started = _rows(store), published(store), len(starts(store))
        begins = started + self.chance.randrange(max(1, self.stages - len(finished)))
        moment = _Moment(store, begins, self.chance.uniform(*DELAY))
        strikes, served = self.tally.landed < self.kills, store.with_suffix(".mlflow")
        needed = Served(served) if strikes and strike == "mlflow" else nullcontext()
        with needed as server, _started(store, server) as run:
            hit = strikes and run.struck(strike, moment, self.chance)
            code, said = run.end()
            left, slowest = run.left()
        begun = starts(store)[started:]
        again = [key for key in begun if key in finished]
        found = [
            *_complaints(code, said, left, CODES[strike] if hit else CALM),
            *(f"{name} was shown as done and is another now" for name, _ in shown.items() - _rows(store).items()),
            *(f"finished stage {key} was begun again" for key in again),
            *(_healed(store, served) if server else []),
        ]
        if hit:
            outcomes, extra = self.tally.strikes.setdefault(strike, Outcomes()), len(set(begun) - published(store))
            outcomes.add(code, extra=extra, again=len(again), slowest=slowest, violations=len(found))
            print(f"{self.tally.landed} of {self.kills}: {strike}, exit code {code}, {len(begun)} stages begun")
        return code, [f"after {strike if hit else 'nothing'}: {one}" for one in found]


class _Moment:
    """A random moment that does not depend on how busy the machine is: after so many stages have begun, and a bit.

    Args:
        begun: so many starts of stages in the log of the store.
        delay: seconds after that.
    """

    def __init__(self, store: Path, begun: int, delay: float):
        self._store, self._begun, self._delay = store, begun, delay
        self._since: float | None = None

    def __call__(self) -> bool:
        if self._since is None and len(starts(self._store)) >= self._begun:
            self._since = time.monotonic()
        return self._since is not None and time.monotonic() >= self._since + self._delay


def results(store: Path) -> Results:
    """All that must come out again, byte for byte."""
    paths = [*(store / ROWS).glob("*/*.json"), *(store / VIEWS).glob("*/table.csv")]
    return {str(path.relative_to(store)): path.read_bytes() for path in paths}


def _compared(store: Path, wanted: Results) -> list[str]:
    found, report = results(store), audit.verify(store)
    names = sorted(dict(found.items() ^ wanted.items()))
    return [f"other bytes than undisturbed: {', '.join(names[:3])}"] * bool(names) + [str(report)] * report.exit_code


def _complaints(code: int | None, said: str, left: int, allowed: frozenset[int]) -> list[str]:
    """What a run must not do, whatever befell it."""
    ended = "it hung" if code is None else f"exit code {code}, not {' or '.join(map(str, sorted(allowed)))}"
    return [
        *([] if code in allowed else [f"{ended}: {said[-2000:]}"]),
        *([f"a traceback: {said[-2000:]}"] if "Traceback (most recent call last)" in said else []),
        *([f"{number_of(left, 'process', 'processes')} outlived it"] if left else []),
    ]


def _healed(store: Path, served: Path) -> list[str]:
    """What is wrong with MLflow once its server is back, and was told of the store again."""
    with Served(served) as server, _running(["ledger", "--store", str(store)], server) as run:
        code, said = run.end()
    return [f"MLflow did not take what it had missed: {complaint}" for complaint in _complaints(code, said, 0, CALM)]


def _started(store: Path, server: Served | None = None) -> Running:
    return _running(["run", f"{__name__}:STUDY", "--store", str(store)], server)


def _running(words: list[str], server: Served | None) -> Running:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    told = {**FIXED, "PYTHONPATH": path, "MLFLOW_TRACKING_URI": server.uri if server else ""}
    return Running([sys.executable, "-m", "certvae", *words], told, server)


def _rows(store: Path) -> Results:
    return {place: data for place, data in results(store).items() if place.startswith(ROWS)}
