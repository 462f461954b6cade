"""Heat maps as MaskTune and DaC cut images by them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter


def smoothed(maps: NDArray[Any], share: float) -> NDArray[np.float32]:
    """Means over squares whose width is a share of the images'.

    Args:
        maps: shape (n, height, width).
        share: 0 leaves the maps as they are.

    >>> smoothed(9 * np.eye(3)[None], 1.0)[0, 1].round(3).tolist()
    [3.0, 3.0, 3.0]
    """
    width = max(1, round(share * maps.shape[2]))
    found: NDArray[np.float32] = uniform_filter(maps.astype(np.float32), size=(0, width, width), mode="nearest")
    return found
