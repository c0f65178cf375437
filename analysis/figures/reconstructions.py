"""Originals above their reconstructions, one line per mode."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.image import imsave

from certvae.pictures import folded
from certvae.spec.modes import rank

from ..load import Pictures
from .drawing import canvas, drawn, titled

INCH = 0.85  # side of one picture
GAP = 0.08  # between pictures, as a share of their side
MIDDLE = "0.48"  # a grey that can be read on white and on black


@drawn
def reconstruction_grid(pictures: Sequence[Pictures], tau: float) -> Figure:
    """The kept rows of one seed: the originals, then what each mode made of them.

    Args:
        pictures: of one seed and split, one per mode, from `load.pictures`.
        tau: nats, for the caption; no picture depends on it.
    """
    first = pictures[0]
    lines = _lines(pictures)
    count, _, height, width = lines[0][1].shape
    figure = canvas(1.1 + INCH * count, 0.9 + INCH * len(lines))
    axes = figure.subplots()
    axes.imshow(contact_sheet([images for _, images in lines]))
    step = height + _gap(height)
    axes.set_yticks([height / 2 - 0.5 + step * line for line in range(len(lines))], [name for name, _ in lines])
    axes.set_xticks([])
    axes.tick_params(length=0, colors=MIDDLE)
    axes.spines[:].set_visible(False)
    axes.grid(False)
    folds = "" if height == first.originals.shape[2] else f" · vectors are folded into lines of {width}"
    shown = f"split {first.split} · n = {count} inputs, seed {first.seed}{folds}"
    caption = f"{shown} · tau = {tau:.2f} nats does not enter"
    return titled(figure, f"Reconstructions of seed {first.seed}", caption)


def photographs(pictures: Sequence[Pictures]) -> tuple[tuple[str, bytes], ...]:
    """The same lines for a page: (label, PNG in the pictures' own pixels)."""
    return tuple((label, _png(contact_sheet([images]))) for label, images in _lines(pictures))


def contact_sheet(lines: Sequence[UInt8[np.ndarray, "n C H W"]]) -> UInt8[np.ndarray, "rows columns 4"]:
    """Lines of pictures as one RGBA picture with transparent gaps; one channel is shown as grey."""
    count, _, height, width = lines[0].shape
    gap = _gap(height)
    sheet = np.zeros((len(lines) * (height + gap) - gap, count * (width + gap) - gap, 4), dtype=np.uint8)
    for line, images in enumerate(lines):
        for column, image in enumerate(images):
            top, left = line * (height + gap), column * (width + gap)
            sheet[top : top + height, left : left + width, :3] = image.transpose(1, 2, 0)
            sheet[top : top + height, left : left + width, 3] = 255
    return sheet


def _lines(pictures: Sequence[Pictures]) -> list[tuple[str, np.ndarray]]:
    made = sorted(pictures, key=lambda one: rank(one.mode))
    found = [("original", pictures[0].originals), *((one.mode, one.reconstructions) for one in made)]
    return [(label, folded(images)) for label, images in found]


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    imsave(out, pixels, format="png", metadata={"Software": None})
    return out.getvalue()


def _gap(height: int) -> int:
    return max(1, round(GAP * height))
