"""Tests whether certify rows can carry a claim about the population: leaks, repeats and near-duplicates.

It is done once per data set and kept beside its pixels.

A bound on certify rows holds for rows that neither training nor choices have seen, drawn one by one. So rows that lie
in two splits are counted (equal pixels), those that lie there almost (a perceptual hash, then the pixels themselves),
and those that are in certify more than once.
"""

import hashlib
import io
import json
from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Int64

from certvae.canonical import canonical_json, digest
from certvae.data.dataset import BLOCK, SPLITS, Dataset, Split
from certvae.preconditions import Preconditions, digests
from certvae.store.folders import Cache, Corrupt, discard, open_folder, publishing

VERSION = 2
"""Of what is counted and how; another one counts again."""
CELLS = 8  # an image is hashed as so many rows and columns of mean brightness
FLAT = 2 / 255  # neighbouring cells whose brightness differs by less are equal
ALIKE = 0.9  # share of the signs of two hashes that agree, from which on the pixels are compared
NEAR = 8 / 255  # root mean square difference of two images that are near-duplicates, in [0, 1] pixel space
HASHED = 128  # certify rows whose hashes are compared with all others at once
FACTS, UNSEEN, FIRST = "facts.json", "unseen.npy", "first.npy"


def preconditions(dataset: Dataset) -> Preconditions:
    """The test of a data set's certify rows: measured once, then read from the folder beside its pixels.

    Raises:
        DataFault: pixels are not what was decoded.
        DiskFault: the folder cannot be written.
    """
    cache = Cache(dataset.path.parent)
    body = {"name": f"preconditions-{digest([VERSION, dataset.digest])[:16]}", "version": VERSION}
    target = dataset.path.parent / body["name"]
    try:
        if (folder := open_folder(cache, target)) is not None:
            unseen, first = (np.load(io.BytesIO(folder.read(name))) for name in (UNSEEN, FIRST))
            return Preconditions(unseen, first, json.loads(folder.read(FACTS)))
    except Corrupt:
        discard(cache, target)
    found = measured(dataset)
    with publishing(cache, target, body, f"preconditions of {dataset.name}") as draft:
        for name, mask in ((UNSEEN, found.unseen), (FIRST, found.first)):
            with draft.open(name) as file:
                np.save(file, mask, allow_pickle=False)
        draft.write(FACTS, canonical_json(found.facts))
    return found


def measured(dataset: Dataset) -> Preconditions:
    """Tests the certify rows anew, by pixels. Every image is read once for its digest and once for its hash.

    Two more facts: `certify`, SHA-256 of the pixels in any order, since equal rows are one resource under any name;
    `near`, further rows that differ from a train or guard row by noise alone, None for images too small to hash.
    """
    rows: dict[Split, Int64[np.ndarray, " m"]] = {split: dataset.rows(split) for split in SPLITS}
    pixels = digests(dataset.images)
    found = Preconditions.of(**{split: pixels[rows[split]] for split in SPLITS})
    more = {
        "certify": hashlib.sha256(np.sort(pixels[rows["certify"]]).tobytes()).hexdigest(),
        "near": _near(dataset, rows["certify"][found.unseen], np.concatenate([rows["train"], rows["guard"]])),
    }
    return replace(found, facts=found.facts | more)


def _near(dataset: Dataset, rows: Int64[np.ndarray, " m"], others: Int64[np.ndarray, " k"]) -> int | None:
    """How many rows are nearly one of the others: the one whose hash is most alike is compared pixel by pixel."""
    if min(dataset.shape[1:]) < CELLS:
        return None
    hashes, theirs = _hashes(dataset, rows), _hashes(dataset, others)
    weights = np.abs(theirs).sum(axis=1)
    near = 0
    for first in range(0, len(rows), HASHED):
        block = hashes[first : first + HASHED]
        agreement = block @ theirs.T / np.maximum(np.maximum(np.abs(block).sum(axis=1)[:, None], weights), 1)
        best = agreement.argmax(axis=1)
        alike = np.flatnonzero(agreement[np.arange(len(block)), best] >= ALIKE)
        for place in alike:
            ours, other = (dataset.images[row].astype(np.float32) for row in (rows[first + place], others[best[place]]))
            near += bool(np.sqrt(np.square(ours - other).mean()) * dataset.scale <= NEAR)
    return near


def _hashes(dataset: Dataset, rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "m B"]:
    """Signs of the differences between neighbouring cells of mean brightness, -1, 0 or 1: across, then down."""
    height, width = dataset.shape[1:]
    across, down = (np.arange(CELLS) * side // CELLS for side in (width, height))
    areas = np.outer(np.diff(down, append=height), np.diff(across, append=width))
    found = []
    for first in range(0, len(rows), BLOCK):
        grey = dataset.images[rows[first : first + BLOCK]].mean(axis=1, dtype=np.float32) * np.float32(dataset.scale)
        cells = np.add.reduceat(np.add.reduceat(grey, down, axis=1), across, axis=2) / areas
        steps = np.concatenate([np.diff(cells, axis=axis).reshape(len(cells), -1) for axis in (2, 1)], axis=1)
        found.append((np.sign(steps) * (np.abs(steps) >= FLAT)).astype(np.float32))
    return np.concatenate(found) if found else np.empty((0, 2 * CELLS * (CELLS - 1)), np.float32)
