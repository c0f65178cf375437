"""A search as an Optuna journal that grows while it runs: `optuna-dashboard` shows it live. A view, never read by us.

Trials bear the numbers of configs, real times, the goal's metrics and its constraints; the journal is begun anew with
every run. When a config began and ended is noted in the store's log, so that a search that goes on keeps its times.
"""

import contextlib
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import Trial

from certvae.engine.propose import Proposal, finished, rebuilt
from certvae.spec.goal import Goal
from certvae.spec.judged import Judged
from certvae.spec.noise import Noise
from certvae.store.log import events, note
from certvae.store.store import Store

NAME = "optuna.log"
TIMES = "trials"
"""The log of a store that says when configs began and ended."""


class Journal:
    """Writes one study.

    Args:
        folder: where views of the study lie.
    """

    def __init__(self, folder: Path, store: Store, study: str, goal: Goal):
        for earlier in folder.glob(f"{NAME}*"):  # the lock of a killed run too
            earlier.unlink(missing_ok=True)
        self.path = folder / NAME
        self._store, self._name, self._goal = store, study, goal
        # Its other kind of lock is a link, which the file systems of some servers and of notebooks in a cloud lack.
        file = JournalFileBackend(str(self.path), JournalFileOpenLock(str(self.path)))
        self._study = rebuilt([], [], goal, storage=JournalStorage(file), name=study)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names(list(goal.metrics))
        self._running: dict[int, Trial] = {}
        self._judged: list[Judged] = []
        known = [event for event in events(store.disk, TIMES) if event.get("study") == study]
        self._times = {(event["number"], event["what"]): event["time"] for event in known}

    def asked(self, proposal: Proposal) -> None:
        """Shows a config as running; it began now or in an earlier run."""
        self._time(proposal.number, "began")
        with contextlib.suppress(Exception):  # a view may fall behind, whatever becomes of its file; the search goes on
            self._study.enqueue_trial(proposal.params, user_attrs={"config_number": proposal.number})
            self._running[proposal.number] = self._study.ask(fixed_distributions=proposal.distributions)

    def judged(self, proposal: Proposal, judged: Judged) -> None:
        """Shows a config as ended; one that ended in an earlier run was never running in this one."""
        self._judged.append(judged)
        ended = finished(proposal, judged, self._goal, Noise.of(self._judged))
        began_at, ended_at = (self._time(proposal.number, what) for what in ("began", "ended"))
        with contextlib.suppress(Exception):
            if (trial := self._running.pop(proposal.number, None)) is None:
                ended.datetime_start, ended.datetime_complete = began_at, ended_at
                self._study.add_trial(ended)
                return
            for name, violation in ended.constraints.items():
                trial.set_constraint(name, violation)
            trial.set_user_attr("config", judged.config)
            self._study.tell(trial, ended.values, state=ended.state)

    def _time(self, number: int, what: str) -> datetime:
        """When that was, as the store's log says; now, where it says nothing."""
        if (number, what) not in self._times:
            self._times[number, what] = datetime.now(UTC).isoformat()
            event: dict[str, Any] = {"study": self._name, "number": number, "what": what}
            note(self._store.disk, TIMES, {**event, "time": self._times[number, what]})
        return datetime.fromisoformat(self._times[number, what])
