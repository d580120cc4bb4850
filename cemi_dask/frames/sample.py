"""One recorded picture, as small as a figure needs: what the crop is shown on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.frames.prepare import sample_pictures
from cemi_dask.frames.sources import Source

SAMPLE_PX = 1024  # the longest side


def sample_png(sources: Sequence[Source]) -> bytes | None:
    """A picture from the middle of the input before cropping, as an 8-bit grey PNG.

    Its longest side has at most 1024 px; pictures that are not 8-bit are stretched to their
    darkest and brightest 0.1 %. None where the middle source holds nothing readable.
    """
    pictures = sample_pictures([sources[len(sources) // 2]], 1)
    if not pictures:
        return None
    done, png = cv2.imencode(".png", _small(_grey(pictures[0])))
    assert done  # noqa: S101 - any 8-bit array becomes a PNG
    return bytes(png.tobytes())


def _grey(picture: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if picture.dtype == np.uint8:
        return picture
    low, high = np.nanpercentile(picture, (0.1, 99.9))
    scaled = (picture.astype(np.float32) - low) * (255 / max(float(high - low), 1e-9))
    return np.asarray(np.clip(np.rint(np.nan_to_num(scaled)), 0, 255), np.uint8)


def _small(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    factor = SAMPLE_PX / max(picture.shape)
    if factor >= 1:
        return picture
    height, width = (max(1, round(factor * size)) for size in picture.shape)
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
