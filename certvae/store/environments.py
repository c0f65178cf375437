"""The machines that rows were made on, as tables for a reader: a log beside the rows, which hold a digest of theirs."""

from typing import Any

from certvae import fingerprint
from certvae.store.disk import Disk
from certvae.store.log import events, note

ENVIRONMENTS = "environments"


def remember(disk: Disk, environment: str) -> None:
    """Notes what this machine consists of, unless that is noted already.

    Args:
        environment: the digest that rows made here bear.
    """
    table = fingerprint.table()
    if table not in of(disk, environment):
        note(disk, ENVIRONMENTS, {"environment": environment, "table": table})


def of(disk: Disk, environment: str) -> list[dict[str, str]]:
    """The tables of all machines that made rows with this digest; none where the log is gone."""
    found: list[dict[str, Any]] = [
        event["table"] for event in events(disk, ENVIRONMENTS) if event["environment"] == environment
    ]
    return [table for number, table in enumerate(found) if table not in found[:number]]
