"""Vectors as pictures: what is one pixel high is folded until it can be seen.

images  (n, C, H, W)  uint8; vectors are (n, 1, 1, d)
"""

import math

import numpy as np
from jaxtyping import UInt8


def folded(images: UInt8[np.ndarray, "n C H W"]) -> UInt8[np.ndarray, "n C h w"]:
    """Vectors as nearly square pictures, whose last line may end in white; images as they are."""
    count, channels, height, width = images.shape
    if height > 1:
        return images
    side = math.isqrt(width - 1) + 1
    lines = -(-width // side)
    found = np.full((count, channels, lines * side), 255, dtype=np.uint8)
    found[..., :width] = images[:, :, 0]
    return found.reshape(count, channels, lines, side)
