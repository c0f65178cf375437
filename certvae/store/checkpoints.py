"""Keeps the progress of a stage that is not done, as folders below `ckpt/`: whoever comes next goes on from there."""

from collections.abc import Iterable

from certvae.store.artifact import Content, read_content
from certvae.store.disk import Disk
from certvae.store.folders import Corrupt, Folder, discard, folders, publish, quarantine
from certvae.store.program import UNKNOWN

PARENT = "ckpt"


class Checkpoints:
    """Saves and finds the progress of one stage; from it, the rest of the stage must give the same bytes."""

    def __init__(self, disk: Disk, key: str, label: str = "", programs: Iterable[str] = ()):
        self._disk, self._key, self._label = disk, key, label
        self.programs = set(programs)
        """Who has had a part in the progress so far."""

    def latest(self) -> tuple[int, Content] | None:
        """The last (step, content) that can be read and verified; None when the stage must start at its beginning."""
        for folder in sorted(self._mine(), key=_step, reverse=True):
            try:
                content = read_content(folder)
                self.programs |= set(folder.programs or (UNKNOWN,))
                return _step(folder), content
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
        publish(self._disk, PARENT, body, content.files(), f"checkpoint {step} of {self._label}", self.programs)
        self._remove([folder for folder in self._mine() if _step(folder) < step])

    def forget(self) -> None:
        """Removes all of them: the stage is done."""
        self._remove(self._mine())

    def forget_others(self) -> None:
        """Removes those that another text of the program had a part in."""
        self._remove([folder for folder in self._mine() if set(folder.programs) != self.programs])

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
