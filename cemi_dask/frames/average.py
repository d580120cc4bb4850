"""Further looks at the same place, aligned and averaged onto the frame taken: less noise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError
from cemi_dask.frames.align import Alignment, align, prepare_fixed
from cemi_dask.frames.filters import NOISE_BLOCK_PX
from cemi_dask.frames.robust import Layer, common, part_of, robust_mean
from cemi_dask.resample import MARGIN_PX, shift_frame, shift_rows, shift_taps

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

COPY_PX = 0.1  # a copy lies where its original does
COPY_SHARE = 0.5  # two looks that differ by less than so much of their noise share that noise
MAX_ERROR_PX = 0.2  # standard error of a displacement: more would blur 5 px lamellae by 2 %
MAX_GAIN = 2.0
BORDER_SHARE = 0.25  # of the noise: more error than that at a picture's border is not let in
GREY_CELL_PX = 64  # parts whose mean grey levels are compared


@dataclass(frozen=True)
class LookPlace:
    """A recorded picture and where it lies against a frame: position minus position, px.

    As the pictures show it: between two pictures of one shear s, dx is the difference of
    the positions less s * dy. `shear` is the picture's less the frame's.
    """

    number: int
    dx_px: float
    dy_px: float
    shear: float = 0.0


@dataclass(frozen=True)
class Averaged:
    """A frame with its further looks averaged in.

    `image` (y, x) in the taken frame's dtype; `looks` pictures averaged, the taken one
    included; `cover_min`, `cover_median` pictures per pixel; `noise_before`, `noise_after`
    standard deviation of the noise in grey levels, of the taken frame and of `image`, both
    from how the looks scatter (NaN without a second look); `aligned` the places of the looks
    used, as measured; `rejected` (number, reason) of the others; `number` the taken picture's.
    """

    image: npt.NDArray[Any]
    looks: int
    cover_min: int
    cover_median: float
    noise_before: float
    noise_after: float
    aligned: tuple[tuple[int, Alignment], ...]
    rejected: tuple[tuple[int, str], ...]
    number: int = -1

    @property
    def gain(self) -> float:
        """By what factor the noise is lower than in the taken frame; 1 where nothing was added."""
        return self.noise_before / self.noise_after if self.looks > 1 else 1.0

    def with_rejected(self, number: int, more: Sequence[tuple[int, str]]) -> Averaged:
        """The same with the taken picture's number, and further pictures that are not in it."""
        return replace(self, number=number, rejected=tuple(sorted([*self.rejected, *more])))


def average_looks(
    taken: npt.NDArray[Any],
    looks: Iterable[npt.NDArray[Any]],
    *,
    places: Sequence[LookPlace],
) -> Averaged:
    """The frame `taken` (y, x) with other recorded pictures of its place averaged into it.

    `looks` are pictures of the same shape, `places` says where each lies (good to about 2 px).
    Each is aligned (`align`), resampled once onto the frame's pixels, which themselves are
    never interpolated, and matched in contrast, brightness and shading. Per pixel a robust
    mean follows: deviations from a trimmed mean are clipped at 2.5 sigma of the noise and
    dropped beyond 4.5 (one step of a redescending M-estimator: Hampel et al., Robust Statistics,
    1986, ch. 2.6). Looks that do not match, are blurred, torn, or the same picture again are
    left out whole. Interpolation at sharp edges (PSF sigma 0.6 px) leaves an error of about 1 of
    255 grey levels: frames whose noise is below 2 gain nothing. The order of `looks` does not
    matter. Grey types: uint8, uint16, float32.
    Raises InputError for pictures that differ in shape or type or are not finite.
    """
    _check(taken)
    frame = taken.astype(np.float32)
    fixed = prepare_fixed(frame)
    tolerance = BORDER_SHARE * fixed.noise / max(float(frame[::4, ::4].std()), 1e-12)
    layers: list[Layer] = []
    aligned, rejected = [], []
    given = sorted(zip(places, looks, strict=True), key=lambda pair: pair[0].number)
    for place, look in given:
        _check(look, like=taken)
        picture = look.astype(np.float32)
        found = align(fixed, picture, (place.dx_px, place.dy_px), shear=place.shear)
        layer = found if isinstance(found, str) else _layer(frame, picture, found, tolerance)
        if not isinstance(layer, str) and _is_copy(frame, layers, layer, fixed.noise):
            layer = "the same picture again"
        if isinstance(layer, str) or isinstance(found, str):
            rejected.append((place.number, str(layer)))
            continue
        layers.append(layer)
        aligned.append((place.number, found))
    mean, cover, noise = robust_mean(frame, layers)
    return Averaged(
        _as_type(mean, taken.dtype) if layers else taken.copy(),
        1 + len(layers),
        int(cover.min()),
        float(np.median(cover)),
        *noise,
        tuple(aligned),
        tuple(rejected),
    )


def _check(picture: npt.NDArray[Any], like: npt.NDArray[Any] | None = None) -> None:
    if picture.ndim != 2 or picture.dtype not in (np.uint8, np.uint16, np.float32):
        raise InputError(
            f"A picture to average must be (y, x) of uint8, uint16 or float32, not {picture.dtype} "
            f"of shape {picture.shape}. Convert it first."
        )
    if min(picture.shape) < NOISE_BLOCK_PX:
        raise InputError(
            f"A picture of {picture.shape} px is too small to be averaged: at least "
            f"{NOISE_BLOCK_PX} x {NOISE_BLOCK_PX} px. Check the crop, or use frames.average: none."
        )
    if like is not None and (picture.shape, picture.dtype) != (like.shape, like.dtype):
        raise InputError(
            f"A picture of {picture.shape} px {picture.dtype} cannot be averaged into a frame of "
            f"{like.shape} px {like.dtype}. Give pictures of one recording, cropped alike."
        )
    if picture.dtype.kind == "f" and not np.isfinite(picture).all():
        raise InputError("A picture to average holds NaN or infinite pixels: leave it out.")


def _layer(frame: F32, picture: F32, place: Alignment, tolerance: float) -> Layer | str:
    """The picture resampled and grey-matched, or why it must not be used."""
    if place.sigma_px > MAX_ERROR_PX:
        return f"cannot be placed: its displacement is uncertain by {place.sigma_px:.2f} px"
    if not 1 / MAX_GAIN < place.gain < MAX_GAIN:
        return f"contrast differs {1 / place.gain:.2g} times"
    values, box = _resampled(picture, place, tolerance=tolerance)
    return Layer(_matched(frame[box], values, place.gain), box, (place.dx_px, place.dy_px))


def _resampled(
    picture: F32, place: Alignment, *, tolerance: float = 0.0
) -> tuple[F32, tuple[slice, slice]]:
    """A picture's values on the frame's pixels, float32, and the (y, x) slices they fill.

    Pixels made partly of what lies beyond the picture's border (mirrored) are left out where
    that part, as a share of the structure there, is more than `tolerance`.
    """
    height, width = picture.shape
    right, down = round(place.dx_px), round(place.dy_px)
    rest_x, rest_y = place.dx_px - right, place.dy_px - down
    inset_x, inset_y = _inset_px(rest_x, tolerance), _inset_px(rest_y, tolerance)
    if place.shear == 0:
        moved = shift_frame(picture, rest_x, rest_y)
    else:
        rows = np.arange(height, dtype=np.float64) - (height - 1) / 2
        moved = shift_rows(shift_frame(picture, 0.0, rest_y), rest_x + place.shear * rows)
        inset_x = MARGIN_PX + int(np.ceil(np.abs(place.shear * rows).max()))
    top, bottom = max(0, down + inset_y), min(height, height + down - inset_y)
    left, right_end = max(0, right + inset_x), min(width, width + right - inset_x)
    box = slice(top, bottom), slice(left, right_end)
    return moved[top - down : bottom - down, left - right : right_end - right], box


def _inset_px(fraction: float, tolerance: float) -> int:
    """How far from a border the taps that reach beyond it weigh less than `tolerance`, px."""
    weights = shift_taps(fraction)
    beyond = [
        max(
            np.sum(weights[: MARGIN_PX - k] ** 2),
            np.sum(weights[MARGIN_PX + 1 + k :] ** 2),
        )
        for k in range(MARGIN_PX + 1)
    ]
    return int(np.argmax(np.sqrt(beyond) <= tolerance))


def _matched(frame: F32, values: F32, gain: float) -> F32:
    """``gain * values + offset``, the offset a paraboloid that follows the frame's shading.

    Vignetting stays with the screen while the specimen moves on, so one offset for all of
    the overlap would leave steps at its border. Fitted to the means of parts, twice, the
    second time without parts that stand out.
    """
    height, width = values.shape
    cells = max(3, round(width / GREY_CELL_PX)), max(3, round(height / GREY_CELL_PX))
    parts = [cv2.resize(v, cells, interpolation=cv2.INTER_AREA) for v in (frame, values)]
    off = np.asarray(parts[0] - np.float32(gain) * parts[1], np.float64)
    across, down = _powers(cells[0]), _powers(cells[1])
    powers = [(i, j) for i in range(3) for j in range(3 - i)]
    design = np.stack([np.outer(down[i], across[j]).ravel() for i, j in powers], axis=1)
    target, kept = off.ravel(), np.ones(off.size, bool)
    terms = np.zeros(len(powers))
    for _ in range(2):
        terms = np.linalg.lstsq(design[kept], target[kept], rcond=None)[0]
        miss = np.abs(target - design @ terms)
        kept = miss <= 4 * np.median(miss) + 1e-6
    square = np.zeros((3, 3))
    for (i, j), term in zip(powers, terms, strict=True):
        square[i, j] = term
    field = (_powers(height).T @ square @ _powers(width)).astype(np.float32)
    field += np.float32(gain) * values
    return field


def _powers(count: int) -> F64:
    """1, u, u^2 (3, count) of the middles of `count` equal parts of -1..1."""
    u = (2 * np.arange(count) + 1.0) / count - 1
    return np.stack([np.ones(count), u, u * u])


def _is_copy(frame: F32, layers: Sequence[Layer], new: Layer, noise: float) -> bool:
    """True where a look repeats the noise of the frame or of another look, pixel by pixel.

    A screen recorded faster than the microscope scans shows one scan several times.
    """
    limit = COPY_SHARE * 0.6745 * np.sqrt(2) * noise
    whole = slice(0, frame.shape[0]), slice(0, frame.shape[1])
    for other in (Layer(frame, whole, (0.0, 0.0)), *layers):
        if np.abs(np.subtract(new.move_px, other.move_px)).max() > COPY_PX:
            continue
        rows, cols = (common(a, b) for a, b in zip(new.box, other.box, strict=True))
        sample = slice(rows.start, rows.stop, 8), slice(cols.start, cols.stop, 8)
        apart = np.abs(part_of(new, sample) - part_of(other, sample))
        if float(np.median(apart)) < limit:
            return True
    return False


def _as_type(mean: F32, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Grey levels rounded and kept within the limits of an integer type."""
    if dtype.kind == "f":
        return mean.astype(dtype)
    top = np.iinfo(dtype).max
    return np.clip(np.rint(mean), 0, top).astype(dtype)
