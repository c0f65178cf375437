"""Drafts of the dead go, all others stay."""

import os
import subprocess
import sys
from pathlib import Path

from certvae.store.disk import draft_of, remove, remove_dead_drafts

MAKE = (
    "import sys; from pathlib import Path; from certvae.store.disk import draft_of; draft_of(Path(sys.argv[1])).mkdir()"
)


def test_a_draft_is_a_hidden_sibling_with_a_name_of_its_own(tmp_path):
    target = tmp_path / "cifar-10-python.tar.gz"
    drafts = {draft_of(target) for _ in range(10)}
    assert len(drafts) == 10
    assert {draft.parent for draft in drafts} == {tmp_path}
    assert all(draft.name.startswith(".cifar-10-python.tar.gz.") for draft in drafts)


def test_only_drafts_of_dead_processes_and_of_this_target_are_removed(tmp_path):
    target, other = tmp_path / "a.tar.gz", tmp_path / "a.tar"
    subprocess.run([sys.executable, "-c", MAKE, str(target)], check=True)
    subprocess.run([sys.executable, "-c", MAKE, str(other)], check=True)
    mine = draft_of(target)
    mine.write_bytes(b"being written")
    target.write_bytes(b"whole")
    elsewhere = Path(f"{tmp_path}/.a.tar.gz.0123456789ab-{os.getpid()}-1.0123")
    elsewhere.write_bytes(b"of another host")
    remove_dead_drafts(target)
    left = {path.name for path in tmp_path.iterdir()}
    assert {mine.name, target.name, elsewhere.name} < left
    assert len(left) == 4
    assert sum(name.startswith(".a.tar.") and not name.startswith(".a.tar.gz.") for name in left) == 1


def test_removing_what_is_not_there_is_nothing(tmp_path):
    remove(tmp_path / "nothing")
    (tmp_path / "deep/er").mkdir(parents=True)
    remove(tmp_path / "deep")
    assert list(tmp_path.iterdir()) == []
