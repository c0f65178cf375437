"""Checkpoints of one running stage: published like results, so a kill between two of them loses at most one interval.

The folder `ckpt/<digest of {stage_key, step}>` holds one. The one before is removed only after the new one is
published, all of them after the stage's object is.
"""

from certvae.artifact import Content, read_content
from certvae.disk import Disk
from certvae.publish import Corrupt, Folder, discard, folders, publish, quarantine

PARENT = "ckpt"


class Checkpoints:
    """Progress of the stage with one key. What is saved must make the rest of the stage give the same bytes."""

    def __init__(self, disk: Disk, key: str, label: str = ""):
        self._disk, self._key, self._label = disk, key, label

    def latest(self) -> tuple[int, Content] | None:
        """The last (step, content) that can be read and verified; None when the stage must start at its beginning."""
        for folder in sorted(self._mine(), key=_step, reverse=True):
            try:
                return _step(folder), read_content(folder)
            except Corrupt as corrupt:
                quarantine(self._disk, folder.path, corrupt.reason)
        return None

    def save(self, step: int, content: Content) -> None:
        """Publishes progress after `step`, then removes earlier ones.

        Raises:
            DeterminismFault: this step was saved before with other bytes.
            DiskFault: it could not be written; earlier ones are kept.
        """
        body = {"stage_key": self._key, "step": step}
        publish(self._disk, PARENT, body, content.files(), f"checkpoint {step} of {self._label}")
        self._remove([folder for folder in self._mine() if _step(folder) < step])

    def forget(self) -> None:
        """Removes all of them: the stage is done."""
        self._remove(self._mine())

    def _mine(self) -> list[Folder]:
        return [folder for folder in folders(self._disk, PARENT) if folder.body.get("stage_key") == self._key]

    def _remove(self, old: list[Folder]) -> None:
        for folder in old:
            discard(self._disk, folder.path)


def forget_finished(disk: Disk) -> None:
    """Removes checkpoints of stages whose object is there: their process died just after publishing it."""
    for folder in folders(disk, PARENT):
        if (disk.root / "obj" / folder.body["stage_key"]).exists():
            discard(disk, folder.path)


def _step(folder: Folder) -> int:
    return folder.body["step"]
