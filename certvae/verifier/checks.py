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
from certvae.preconditions import warnings
from certvae.verifier.bundle import Bundle, Computed, computed, opened, pixels
from certvae.verifier.folder import REMEDY, well_formed
from certvae.verifier.programs import CHUNK

TOLERANCE = 1e-6  # nats, and of probabilities: both sides are float64, whose sums differ between machines by 1e-12
ALONE = 8  # rows that are also read by themselves
WIDTH = 96  # characters of a line
TRUST = (
    "what a bundle cannot show: that teacher and network were made without the certify rows, that the reference row is "
    "the mean over train rows, that nobody looked at these rows more often than it says, that it was picked among no "
    "more claims than it says"
)
Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Verified:
    """A bundle whose every claim came out again.

    compared  labels or views that the teacher reads were compared with those of the data set
    """

    bundle: Bundle
    found: Computed
    compared: bool = False

    def __str__(self) -> str:
        about, words = self.bundle.record["about"], self.found.words
        made = ", ".join(f"{name} {_shown(about[name])}" for name in ("study", "mode", "seed", "data") if name in about)
        return "\n".join(
            [
                f"verified from {self._rests_on}; by its own account {made}",
                str(self.found.certificate),
                *(f"  {line}" for line in warnings(self.found.rows.facts, self.found.certificate.classes)),
                f"  {self._shared}",
                "  " + "; ".join(f"{question} {word or 'not asked'}" for question, word in words.items()),
                *(f"  {line}" for line in textwrap.wrap(TRUST + self._believed, WIDTH)),
                f"bundle {self.bundle.name}",
            ]
        )

    @property
    def _stated(self) -> str:
        return self.bundle.teacher.stated(self.bundle.rows)

    @property
    def _rests_on(self) -> str:
        match self._stated, self.compared:
            case "", _:
                return "pixels"
            case name, True:
                return f"pixels and the {name} of the data set"
            case name, _:
                return f"{name} that the bundle states, and pixels"

    @property
    def _believed(self) -> str:
        return f", that the {self._stated} are those of these images" if self._stated and not self.compared else ""

    @property
    def _shared(self) -> str:
        delta, claims = self.bundle.settings["delta"], self.bundle.settings["claims"]
        return f"the {claims} claims of its config share {delta:g} equally: all such bounds hold together"


def verify(folder: Path, images: np.ndarray | None = None, stated: np.ndarray | None = None) -> Verified:
    """Recomputes a bundle from its pixels.

    Args:
        images: the certify images, for a bundle that holds their digests alone.
        stated: labels or views of the data set, for a bundle whose teacher reads them.

    Raises:
        NoBundle: it is none of this version, or images are missing.
        BundleFault: the bundle is refused; the fault says why.
    """
    bundle = opened(folder)
    with well_formed("rows.safetensors"):
        images = pixels(bundle, images)
        check_rows_alone(bundle, images)
        name = bundle.teacher.stated(bundle.rows)
        if stated is not None and name and not np.array_equal(bundle.rows[name], stated):
            raise _refused(f"{name} are not those of the data set")
    found = computed(bundle, images)
    with well_formed("record.json"):
        _compare(bundle, found)
    return Verified(bundle, found, compared=stated is not None)


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
    if settings["shared_rows"] != (leaked := found.rows.facts["leaked"]):
        raise _refused(
            f"{leaked} certify images are among those that teacher and network were made on, and the record "
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
