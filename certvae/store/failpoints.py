"""Failpoints: die, or be refused by the operating system, at one chosen durable I/O step of a store.

    CERTVAE_KILL_AT=17                SIGKILL to this process just before step 17
    CERTVAE_KILL_AT=after:warm_up     SIGKILL at a named place
    CERTVAE_FAIL_AT=17:ENOSPC         step 17 fails with that errno; 17+:ENOSPC lets all later steps fail too
    CERTVAE_FAIL_AT=read:facts.json:EIO   every pass through the named place fails

A write counts as two steps, the second in its middle, so that files cut in half are met as well. Failing the n-th I/O
for every n is how SQLite tests itself. Failpoints act only in a store that STORE.json marks as a test store.
"""

import errno
import os
import signal
from collections.abc import Mapping

from certvae.errors import ConfigFault

KILL_AT = "CERTVAE_KILL_AT"
FAIL_AT = "CERTVAE_FAIL_AT"


class Failpoints:
    """Counts the durable I/O steps of one open store and acts at the chosen one.

    Args:
        kill_at: number of a step, or name of a step or place; empty for never.
        fail_at: `<number>:<errno>`, `<number>+:<errno>` or `<name>:<errno>`; empty for never.

    Raises:
        ConfigFault: when `fail_at` does not end in the name of an errno.
    """

    def __init__(self, kill_at: str = "", fail_at: str = ""):
        self.steps = 0
        self._kill_at = kill_at
        self._fail_at, _, self._errno = fail_at.rpartition(":")
        if fail_at and (not self._fail_at or not hasattr(errno, self._errno)):
            raise ConfigFault(
                f"{FAIL_AT} must be <step>:<errno>, got {fail_at!r}",
                f"write it as {FAIL_AT}=17:ENOSPC",
                where="environment",
                cause="the part behind the last colon names no errno",
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Failpoints":
        """Failpoints as the two variables ask for; none when they are absent."""
        return cls(environment.get(KILL_AT, ""), environment.get(FAIL_AT, ""))

    def step(self, name: str) -> None:
        """Passes one durable I/O step; the first one has the number 1.

        Raises:
            OSError: with the chosen errno, at the chosen step.
        """
        self.steps += 1
        self._act(name, str(self.steps))

    def place(self, name: str) -> None:
        """Passes a named place that is not counted, such as the start of a stage."""
        self._act(name, name)

    def _act(self, name: str, number: str) -> None:
        if self._kill_at in (name, number):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fail_at in (name, number) or self._fails_from(number):
            code = getattr(errno, self._errno)
            raise OSError(code, os.strerror(code))

    def _fails_from(self, number: str) -> bool:
        first = self._fail_at.removesuffix("+")
        return first != self._fail_at and first.isdigit() and number.isdigit() and int(number) >= int(first)
