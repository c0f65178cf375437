"""What `certvae verify` does: read, recompute from pixels, compare, and refuse with the reason.

Nothing that a bundle says of itself is believed but what stands in `TRUST`, and the result says so.
"""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from certvae.errors import BundleFault
from certvae.verifier.bundle import Bundle, Computed, computed, opened, pixels
from certvae.verifier.folder import REMEDY, well_formed
from certvae.verifier.programs import CHUNK

TOLERANCE = 1e-6  # nats, and of probabilities: both sides are float64, whose sums differ between machines by 1e-12
ALONE = 8  # rows that are also read by themselves
WIDTH = 96  # characters of a line
TRUST = (
    "what a bundle cannot show: that teacher and network were made without the certify rows, that the reference row is "
    "the mean over train rows, that nobody looked at these rows more often than it says, that no seed was picked"
)
Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Verified:
    """A bundle whose every claim came out again."""

    bundle: Bundle
    found: Computed

    def __str__(self) -> str:
        about, words = self.bundle.record["about"], self.found.words
        made = ", ".join(f"{name} {_shown(about[name])}" for name in ("study", "mode", "seed", "data") if name in about)
        return "\n".join(
            [
                f"verified from pixels; by its own account {made}",
                str(self.found.certificate),
                "  " + "; ".join(f"{question} {word or 'not asked'}" for question, word in words.items()),
                *(f"  {line}" for line in textwrap.wrap(TRUST, WIDTH)),
                f"bundle {self.bundle.name}",
            ]
        )


def verify(folder: Path, images: np.ndarray | None = None) -> Verified:
    """Recomputes a bundle from its pixels.

    Args:
        images: the certify images, for a bundle that holds their digests alone.

    Raises:
        BundleFault: the bundle is refused; the fault says why.
    """
    bundle = opened(folder)
    with well_formed("rows.safetensors"):
        images = pixels(bundle, images)
        check_rows_alone(bundle, images)
    found = computed(bundle, images)
    with well_formed("record.json"):
        _compare(bundle, found)
    return Verified(bundle, found)


def check_rows_alone(bundle: Bundle, images: np.ndarray) -> None:
    """Some rows alone, and in another order among others, must get what they get in the batch.

    Raises:
        BundleFault: they do not.
    """
    images = images[:CHUNK]
    chosen = np.unique(np.linspace(0, len(images) - 1, ALONE).astype(int))

    def outputs(rows: np.ndarray) -> np.ndarray:
        return np.concatenate(list(bundle.read(rows).values()), axis=1)

    together, turned = outputs(images)[chosen], outputs(images[chosen[::-1]])[::-1]
    alone = np.concatenate([outputs(images[[row]]) for row in chosen])
    if not all(np.allclose(other, together, rtol=TOLERANCE, atol=TOLERANCE) for other in (turned, alone)):
        raise BundleFault(
            "rows get other numbers alone, or in another order, than among the others",
            "do not use it: an operation across rows can tell images apart without the latent",
            where="network.json",
        )


def _compare(bundle: Bundle, found: Computed) -> None:
    record, settings = bundle.record, bundle.settings
    if not isinstance(record["about"], Mapping):
        raise TypeError("about is no object")
    if settings["shared_rows"] != found.shared_rows:
        raise _refused(
            f"{found.shared_rows} certify images are among those that teacher and network were made on, and the record "
            f"says {settings['shared_rows']}"
        )
    teacher, recorded = found.pairs.teacher, bundle.rows["teacher"]
    if teacher.shape != recorded.shape or not np.allclose(teacher, recorded, rtol=0, atol=TOLERANCE):
        raise _refused("teacher rows are not those that the teacher of the bundle gives for its images")
    for name in sorted(record["claim"].keys() | found.claim.keys()):
        said, is_ = record["claim"].get(name, "nothing"), found.claim.get(name, "nothing")
        if not _same(said, is_):
            raise _refused(f"{_shown(name)} is {_shown(said)} in the record and {_shown(is_)} from pixels")
    for question, word in found.words.items():
        if record["words"].get(question) != word:
            raise _refused(f"{question} is {record['words'].get(question)!r} in the record and {word!r} from pixels")


def _same(said: Any, found: Any) -> bool:
    if isinstance(said, float) and isinstance(found, float):
        return abs(said - found) <= TOLERANCE * max(1.0, abs(found))
    return type(said) is type(found) and said == found


def _shown(value: Any) -> str:
    """Without codes that a foreign text could send to a terminal."""
    text = f"{value:.6f}" if isinstance(value, float) else str(value)
    return text if text.isprintable() else ascii(text)


def _refused(what: str) -> BundleFault:
    return BundleFault(what, REMEDY, where="record.json")
