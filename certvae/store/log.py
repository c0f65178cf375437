"""Logs of a store: one JSON line per event. They are labels and statistics, never truth: no result depends on them."""

import json
from collections.abc import Mapping
from typing import Any

from certvae.canonical import canonical_json
from certvae.store.disk import Disk, disk_faults

COMMANDS = "commands"
"""The log that holds the commands of studies."""


def note(disk: Disk, log: str, event: Mapping[str, Any]) -> None:
    """Appends one event to `log/<log>.jsonl`."""
    path = disk.root / "log" / f"{log}.jsonl"
    with disk_faults("log"):
        disk.make_folder(path.parent, exist_ok=True)  # somebody may have thrown the logs away
        disk.append(path, canonical_json(event))


def events(disk: Disk, log: str) -> list[dict[str, Any]]:
    """All events of one log in the order of writing; lines that a dying process or a full disk cut are left out."""
    path = disk.root / "log" / f"{log}.jsonl"
    with disk_faults("log"):
        lines = path.read_bytes().splitlines() if path.exists() else []
    return [event for event in map(_parsed, lines) if event is not None]


def commands(disk: Disk) -> dict[str, dict[str, Any]]:
    """Study -> its last command: `study` (a script or module) and `arguments`."""
    return {event["of"]: event for event in events(disk, COMMANDS)}


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
