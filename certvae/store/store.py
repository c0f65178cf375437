"""The content-addressed store: a stage is a pure function with a version, its result is named by what went in.

    key = SHA-256 of canonical {schema, stage, version, inputs, environment}       obj/<key>/ = arrays, facts, MANIFEST

Whole or absent, immutable, verified on every read. Kill any process at any time and run the same again: what was
published is found, the rest is computed. Locks only save work; no decision is taken from a clock.

    @stage(version=1)
    def doubled(number: float, *, bench: Workbench) -> Content:
        return Content({}, {"number": 2 * number})

    Store(Path("store")).call(doubled, 21.0).facts["number"]  # 42.0: computed once, read for ever
"""

import contextlib
import inspect
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import certvae.store.audit as audit
import certvae.store.records as records
from certvae.canonical import SCHEMA, digest, plain
from certvae.store.artifact import Artifact, Content, read_facts, refuse_non_finite
from certvae.store.checkpoints import Checkpoints, forget_finished
from certvae.store.folders import Corrupt, Folder, discard, give_up, open_folder, other_bytes, publish, quarantine
from certvae.store.layout import UNMADE, ask_root, check_made, open_root, read_root
from certvae.store.locks import KeyLocks
from certvae.store.log import events, note
from certvae.store.process import owner
from certvae.store.program import PROGRAM, UNKNOWN, is_stale, joined, program_digest

__all__ = ["Artifact", "Checkpoints", "Content", "Corrupt", "Stage", "Store", "Workbench", "stage"]

OBJECTS = "obj"
EXECUTIONS = "executions"
TIMED, LOOKED = 64, 1024
"""Executions of a stage that say how long the next one takes, and how many are looked at to find them."""
STARTS = "starts"
Report = Callable[[Mapping[str, Any]], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Workbench:
    """What a stage is handed besides its inputs; nothing of it can change a number, so it is no part of the key."""

    device: str
    report: Report
    checkpoints: Checkpoints
    checkpoint_seconds: float = 30.0
    """At least so many seconds lie between two checkpoints."""


@dataclass(frozen=True)
class Stage:
    """A pure function with a version: `make(*inputs, bench=...) -> Content`.

    The names of its parameters name the inputs in the key, so a stage is given only what it reads. Numbers that change
    need a new version; a refactoring does not.
    """

    name: str
    version: int
    make: Callable[..., Content]

    def __post_init__(self) -> None:
        parameters = self._signature.parameters.values()
        named = [parameter for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
        if [p.name for p in parameters if p not in named] != ["bench"] or any(p.default is not p.empty for p in named):
            raise TypeError(f"stage {self.name} must have the form ({', '.join(p.name for p in named)}, *, bench)")

    @cached_property
    def _signature(self) -> inspect.Signature:
        """Asked for with every step of every cell."""
        return inspect.signature(self.make)

    def inputs(self, *given: Any, **named: Any) -> dict[str, Any]:
        """{parameter: value} of one call.

        Raises:
            TypeError: when inputs are missing, surplus, or given twice.
        """
        bound = self._signature.bind(*given, **named, bench=None).arguments
        return {name: value for name, value in bound.items() if name != "bench"}


def stage(version: int) -> Callable[[Callable[..., Content]], Stage]:
    """Turns a function into a Stage that bears the function's name."""

    def named(make: Callable[..., Content]) -> Stage:
        return Stage(make.__name__, version, make)

    return named


@dataclass(frozen=True)
class _Request:
    """One call of a stage: all that is needed to make its artifact, now or again."""

    stage: Stage
    inputs: dict[str, Any]
    body: dict[str, Any]
    key: str


class Store:
    """A folder of results. One object per process and folder; any number of processes share a folder.

    Args:
        path: the folder; made with mode 0700 when it is not there.
        fingerprint: the environment that can change a number: part of every key.
        device: handed to stages, such as `cuda:0`; the fingerprint names its model.
        report: handed to stages for progress.
        checkpoint_seconds: handed to stages.
        locks: False computes a key twice rather than wait; results are the same.
        program: digest of the text that computes, where more than certvae does: see `program_digest`.
        recompute: make again what another text of the program had a part in. Let nothing else run meanwhile.
        make: False makes no folder where there is none: an empty store that can be asked and not written to.
        reading: write nothing, in a store that is there, and perhaps cannot be written; what is corrupt is left out.
        test_store: make a store in which failpoints act.

    Raises:
        DiskFault: the folder cannot be made or written.
        StoreFault: it is no store, of another layout, damaged, or not safe.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        fingerprint: Mapping[str, Any] | None = None,
        device: str = "cpu",
        report: Report | None = None,
        checkpoint_seconds: float = 30.0,
        locks: bool = True,
        program: str | None = None,
        recompute: bool = False,
        make: bool = True,
        reading: bool = False,
        test_store: bool = False,
    ):
        if reading:
            self.disk, self.identity = read_root(Path(path))
        elif make:
            self.disk, self.identity = open_root(Path(path), test_store=test_store)
        else:
            self.disk, self.identity = ask_root(Path(path))
        self.path = self.disk.root
        self.program = program or program_digest()
        if self.is_made and not reading:
            forget_finished(self.disk)
        self._environment = plain(fingerprint or {})
        self._device, self._report, self._seconds = device, report or _silent, checkpoint_seconds
        self._locks = KeyLocks(self.disk, enabled=locks)
        self._asked: dict[str, _Request] = {}
        self._digests: dict[str, str] = {}
        self._programs: dict[str, set[str]] = {}
        self.recompute = recompute

    @property
    def is_made(self) -> bool:
        """Whether there is a store in its folder; where it was opened to be asked, there may be none yet."""
        return self.identity is not UNMADE

    @classmethod
    def existing(cls, path: Path | str, *, reading: bool = False) -> Self:
        """The store of a folder that is one. Raises StoreFault where there is none, and makes none."""
        root = Path(os.path.realpath(path))
        check_made(root)
        return cls(root, reading=reading)

    def key(self, stage: Stage, *inputs: Any, **named: Any) -> str:
        """The key of a call, 64 hexadecimal digits; it exists whether or not the call was ever made."""
        return self._request(stage, inputs, named).key

    def body(self, stage: Stage, *inputs: Any, **named: Any) -> dict[str, Any]:
        """All that names the artifact of a call: its key is the digest of this."""
        return self._request(stage, inputs, named).body

    def find(self, stage: Stage, *inputs: Any, **named: Any) -> Artifact | None:
        """The artifact if it was published. Manifest, sizes and facts are verified; arrays when they are read.

        Raises:
            DiskFault: it could not be read; that is no reason to compute it again.
        """
        return self._find(self._request(stage, inputs, named))

    def artifact(self, key: str) -> Artifact | None:
        """What was published under a key that a row names; None when it is not there.

        Raises:
            Corrupt: it is not what was published; it was moved to quarantine, unless the store is only read.
            DiskFault: it could not be read.
        """
        path = self.path / OBJECTS / key
        try:
            folder = open_folder(self.disk, path)
        except Corrupt as corrupt:
            give_up(self.disk, corrupt)
        return folder and self._opened(folder.body["stage"], key, folder)

    def call(self, stage: Stage, *inputs: Any, **named: Any) -> Artifact:
        """The artifact, made now if it was not there. Whoever asks for the same key meanwhile waits for it.

        Raises:
            DeterminismFault: the same key was published with other bytes.
            NumberFault: the result holds NaN or infinities.
            DiskFault: it could not be written; nothing published before is lost.
        """
        request = self._request(stage, inputs, named)
        found = self._find(request)
        if found is not None:
            return found
        with self._locks.hold(request.key, f"stage {stage.name}"):
            return self._find(request) or self._execute(request)

    def healing(self, action: Callable[[], T]) -> T:
        """Runs an action; when it meets a corrupt artifact of this store, makes that again and then runs it again.

        Raises:
            Corrupt: the artifact came from another process, or is corrupt again.
            DeterminismFault: made again, it is another one.
        """
        healed: set[str] = set()
        while True:
            try:
                return action()
            except Corrupt as corrupt:
                key = corrupt.path.name
                if key in healed or key not in self._digests:
                    raise
                healed.add(key)
                quarantine(self.disk, corrupt.path, corrupt.reason)
                self._make_again(self._asked[key])

    def put_row(self, row: Mapping[str, Any]) -> str:
        """Publishes one line of a table as `rows/<study>/<digest>.json`, returns the digest; see `records.put_row`."""
        return records.put_row(self.disk, row)

    def with_program(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with a field `program`: who had a part in it, by this text and the objects that its `key_*` name."""
        made_from = (self._made_by(key) for name, key in row.items() if name.startswith("key_"))
        return {**row, PROGRAM: joined({self.program}.union(*made_from))}

    def is_stale(self, row: Mapping[str, Any]) -> bool:
        """True for a row that another text of the program made, or had a part in, or that does not say."""
        return is_stale(row, self.program)

    def replace_row(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
        """Publishes a row in the place of one that it was made again from; see `records.replace_row`."""
        return records.replace_row(self.disk, old, new)

    def expect(self, study: str, documents: Mapping[str, Iterable[str]]) -> None:
        """Lets `verify` miss the rows that a study has now, and documents by kind; see `records.expect`."""
        records.expect(self.disk, study, documents)

    def rows(self, study: str | None = None) -> list[dict[str, Any]]:
        """All verified rows in a fixed order; corrupt ones are moved away, to be built from objects again."""
        return records.rows(self.disk, study)

    def put_document(self, kind: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Publishes a decision once as `plan/<kind>/<name>.json`; see `records.put_document`."""
        return records.put_document(self.disk, kind, name, body)

    def get_document(self, kind: str, name: str) -> dict[str, Any] | None:
        """A verified document, or None."""
        return records.get_document(self.disk, kind, name)

    def documents(self, kind: str) -> dict[str, dict[str, Any]]:
        """All verified documents of one kind, by name."""
        return records.documents(self.disk, kind)

    def executions(self, stage: str | None = None) -> list[dict[str, Any]]:
        """{stage, key, seconds, owner} of every execution that ended with a published object."""
        return [event for event in events(self.disk, EXECUTIONS) if stage in (None, event.get("stage"))]

    def environment(self, key: str) -> dict[str, Any] | None:
        """What an object was made in, as its key has it; None where it is not there, or not whole."""
        body = self._body(key)
        return body and body["environment"]

    def seconds(self, stage: str, alike: Callable[[Mapping[str, Any]], bool] | None = None) -> list[float]:
        """How long the executions of a stage took; where asked, the last ones on this device and with such inputs."""
        events = self.executions(stage)
        if alike is not None:
            made = ((event, self._body(event["key"])) for event in itertools.islice(reversed(events), LOOKED))
            found = (event for event, body in made if body and self._is_here(body) and alike(body["inputs"]))
            events = [*itertools.islice(found, TIMED)]
        return [float(event["seconds"]) for event in events]

    def _is_here(self, body: Mapping[str, Any]) -> bool:
        return body["environment"].get("device") == self._environment.get("device")

    def _body(self, key: str) -> dict[str, Any] | None:
        """All that names an object; None where it is not there, or not whole."""
        try:
            folder = open_folder(self.disk, self.path / OBJECTS / key)
        except Corrupt:
            return None
        return folder and folder.body

    def verify(self) -> audit.Report:
        """Reads and verifies every byte; changes nothing."""
        return audit.verify(self.path)

    def _request(self, stage: Stage, inputs: tuple, named: dict[str, Any]) -> _Request:
        given = stage.inputs(*inputs, **named)
        body = {
            "schema": SCHEMA,
            "stage": stage.name,
            "version": stage.version,
            "inputs": plain(given),
            "environment": self._environment,
        }
        request = _Request(stage, given, body, digest(body))
        self._asked[request.key] = request
        return request

    def _find(self, request: _Request) -> Artifact | None:
        path = self.path / OBJECTS / request.key
        try:
            folder = open_folder(self.disk, path)
            if folder is None:
                return None
            read_facts(folder)
        except Corrupt as corrupt:
            quarantine(self.disk, path, corrupt.reason)
            return None
        if self.recompute and set(folder.programs) != {self.program}:
            return None
        return self._artifact(request, folder)

    def _execute(self, request: _Request) -> Artifact:
        name, key = request.stage.name, request.key
        log = {"stage": name, "key": key, "owner": owner()}
        label = f"stage {name}"
        checkpoints = Checkpoints(self.disk, key, label, {self.program})
        bench = Workbench(self._device, self._report, checkpoints, self._seconds)
        note(self.disk, STARTS, log)
        self.disk.failpoints.place(f"start:{name}")
        if self.recompute:
            checkpoints.forget_others()
        began = time.monotonic()
        content = self.healing(lambda: request.stage.make(**request.inputs, bench=bench))
        refuse_non_finite(name, content.arrays)
        if self.recompute:
            discard(self.disk, self.path / OBJECTS / key)
        read = (given.programs or (UNKNOWN,) for given in _artifacts(request.inputs))
        programs = checkpoints.programs.union(*read)
        folder = publish(self.disk, OBJECTS, request.body, content.files(), label, programs)
        note(self.disk, EXECUTIONS, {**log, "seconds": time.monotonic() - began})
        self.disk.failpoints.place(f"after:{name}")
        checkpoints.forget()
        return self._artifact(request, folder)

    def _make_again(self, request: _Request) -> None:
        """Computes an artifact whose bytes went bad; the digest that later keys hold must come out again."""
        wanted = self._digests[request.key]
        found = self.call(request.stage, **request.inputs)
        if found.digest != wanted:
            raise other_bytes(found.path, wanted, found.digest)

    def _artifact(self, request: _Request, folder: Folder) -> Artifact:
        self._digests[request.key] = folder.digest
        self._programs[request.key] = set(folder.programs or (UNKNOWN,))
        return self._opened(request.stage.name, request.key, folder)

    def _opened(self, stage: str, key: str, folder: Folder) -> Artifact:
        return Artifact(stage, key, folder.digest, folder.path, folder.programs, self.disk.reading)

    def _made_by(self, key: str) -> set[str]:
        if key not in self._programs:
            with contextlib.suppress(Corrupt):
                folder = open_folder(self.disk, self.path / OBJECTS / key)
                self._programs[key] = set((folder and folder.programs) or (UNKNOWN,))
        return self._programs.get(key, {UNKNOWN})


def _artifacts(value: Any) -> Iterator[Artifact]:
    """Every artifact in the inputs of a stage, however deep."""
    match value:
        case Artifact():
            yield value
        case Mapping():
            yield from (found for item in value.values() for found in _artifacts(item))
        case list() | tuple():
            yield from (found for item in value for found in _artifacts(item))
        case _ if is_dataclass(value) and not isinstance(value, type):
            yield from (found for field in fields(value) for found in _artifacts(getattr(value, field.name)))


def _silent(progress: Mapping[str, Any]) -> None:
    """Reports of progress go nowhere unless somebody listens."""
