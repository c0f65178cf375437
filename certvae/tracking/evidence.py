"""What the ledger reads of a store besides rows: curves, teachers, pictures. Verified; absent when corrupt."""

import functools
import io
import json
from typing import Any

import numpy as np
from PIL import Image

from certvae.pictures import folded
from certvae.store.artifact import ARRAYS, read_arrays, read_facts
from certvae.store.folders import Corrupt, Folder, open_folder
from certvae.store.log import events
from certvae.store.store import EXECUTIONS, OBJECTS, Store

CURVES = "curves"  # the log in which live curves are kept, for cells that never publish theirs
CANDIDATES = 20  # rows of a teacher report; all of them stay in the object
PICTURE = 64  # pixels that a picture is enlarged to, at least


class Evidence:
    """Objects of one store by key; an object that is not there, or is not what was published, is empty."""

    def __init__(self, store: Store):
        self._disk = store.disk
        self._facts = functools.lru_cache(maxsize=64)(self._read_facts)
        self._seconds = {event["key"]: float(event["seconds"]) for event in events(store.disk, EXECUTIONS)}

    def facts(self, key: str | None) -> dict[str, Any]:
        """The facts of an object."""
        return self._facts(key) if key else {}

    def seconds(self, key: str | None) -> float:
        """How long an object took, 0 when nobody noted it."""
        return self._seconds.get(key or "", 0.0)

    def begun_steps(self, cell: str) -> list[str]:
        """Steps of a cell whose training was reported while it ran."""
        return list(self._begun.get(cell, {}))

    def begun_curve(self, cell: str, step: str) -> list[dict[str, Any]]:
        """The curve that was reported while a step ran, as far as it came: all there is of a network that diverged."""
        return list(self._begun.get(cell, {}).get(step, {}).values())

    def checkpoint(self, key: str | None) -> dict[str, bytes]:
        """`checkpoint.json`, which says where in the store the weights lie: they are not copied."""
        folder = self._folder(key)
        if folder is None:
            return {}
        size, sha = folder.files[ARRAYS]
        return _as_json("checkpoint.json", {"file": f"{OBJECTS}/{key}/{ARRAYS}", "bytes": size, "sha256": sha})

    def teacher_report(self, key: str | None) -> dict[str, bytes]:
        """`teacher.json`: what was chosen, its quality, and the best candidates."""
        facts = self.facts(key)
        candidates = sorted(facts.get("candidates", ()), key=lambda candidate: -candidate.get("score", -np.inf))
        told = {"object": f"{OBJECTS}/{key}", **facts, "candidates": candidates[:CANDIDATES]}
        return _as_json("teacher.json", {**told, "candidates_tried": len(candidates)}) if facts else {}

    def reconstructions(self, key: str | None) -> dict[str, bytes]:
        """`reconstructions.png`: images above, what the decoder makes of them below."""
        folder = self._folder(key)
        try:
            arrays = read_arrays(folder) if folder else {}
        except Corrupt:
            return {}
        if not {"originals", "reconstructions"} <= arrays.keys():
            return {}
        return {"reconstructions.png": _grid(*(folded(arrays[name]) for name in ("originals", "reconstructions")))}

    @functools.cached_property
    def _begun(self) -> dict[str, dict[str, dict[int, dict[str, Any]]]]:
        """{cell: {step: {epoch: point}}}. An epoch heard again forgets what an earlier attempt said after it."""
        heard: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
        for event in events(self._disk, CURVES):
            curve = heard.setdefault(event["cell"], {}).setdefault(event["step"], {})
            epoch = event["point"]["epoch"]
            for later in [known for known in curve if known >= epoch]:
                del curve[later]
            curve[epoch] = event["point"]
        return heard

    def _read_facts(self, key: str) -> dict[str, Any]:
        folder = self._folder(key)
        try:
            return read_facts(folder) if folder else {}
        except Corrupt:
            return {}

    def _folder(self, key: str | None) -> Folder | None:
        try:
            return open_folder(self._disk, self._disk.root / OBJECTS / key) if key else None
        except Corrupt:
            return None


def _as_json(name: str, value: Any) -> dict[str, bytes]:
    return {name: json.dumps(value, sort_keys=True).encode()}


def _grid(*rows: np.ndarray) -> bytes:
    """PNG of rows of images (n, C, H, W), uint8: one row below the other, small images enlarged without smoothing."""
    strips = [np.concatenate(list(row), axis=2) for row in rows]
    pixels = np.moveaxis(np.concatenate(strips, axis=1), 0, 2)
    picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
    scale = -(-PICTURE // rows[0].shape[2])
    out = io.BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(out, "PNG")
    return out.getvalue()
