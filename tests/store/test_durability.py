"""A kill cannot show a missing fsync, a power cut can: the order of calls is what is promised."""

import os
from pathlib import Path

import pytest

from certvae.canonical import digest
from certvae.store.folders import publish, quarantine
from certvae.store.records import put_row

BODY, FILES = {"stage": "s"}, {"a.bin": b"first", "b.bin": b"second"}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was made durable or got its name, in order; files and folders by the first letters of their names."""
    found: list[str] = []
    sync, rename, link = os.fsync, Path.rename, os.link

    def synced(descriptor: int) -> None:
        found.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name.partition('.')[0][:8]}")
        sync(descriptor)

    def renamed(path: Path, to: Path) -> Path:
        found.append(f"rename to {to.parent.name}")
        return rename(path, to)

    def linked(path: Path, to: Path, **how: bool) -> None:
        found.append(f"link to {to.parent.name}")
        link(path, to, **how)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(os, "link", linked)
    return found


def test_every_byte_and_name_of_a_folder_is_synced_before_the_next_step_relies_on_it(disk, calls):
    publish(disk, "obj", BODY, FILES)
    files = ["sync a", "sync b", "sync MANIFEST"]
    assert calls == [*files, f"sync {digest(BODY)[:8]}", "rename to obj", "sync obj"]


def test_a_row_is_on_the_disk_before_it_has_its_name_and_the_name_is_before_it_is_shown(disk, calls):
    name = put_row(disk, {"study": "s", "x": 1})
    assert calls == ["sync rows", f"sync {name[:8]}", "link to s", "sync s"]


def test_a_folder_that_is_to_stay_has_a_name_that_stays(disk, calls):
    disk.make_folder(disk.root / "kept", exist_ok=True)
    disk.make_folder(disk.root / "tmp" / "passing")
    assert calls == [f"sync {disk.root.name[:8]}"]


def test_what_goes_to_quarantine_is_gone_from_where_it_was(disk, calls):
    folder = publish(disk, "obj", BODY, FILES)
    calls.clear()
    quarantine(disk, folder.path, "a test said so")
    assert calls == ["rename to quarantine", "sync obj"]
