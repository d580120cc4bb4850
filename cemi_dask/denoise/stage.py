"""The denoising stage: `DENOISERS`, and `denoise`, lazy, one task per frame."""

from __future__ import annotations

from typing import Any

from dask.base import tokenize

from cemi_dask.denoise.classical import Median, NonLocalMeans
from cemi_dask.denoise.method import Denoiser, Frame
from cemi_dask.denoise.transform import Dct, Fourier
from cemi_dask.errors import InputError
from cemi_dask.frameset import Frames
from cemi_dask.methods import Registry

DENOISERS: Registry[Denoiser] = Registry(
    "denoiser", Denoiser, (Fourier, Dct, NonLocalMeans, Median)
)


def denoise(frames: Frames, *, method: Denoiser | dict[str, Any] | str = "fourier") -> Frames:
    """Lazily denoised frames: same table, shape and dtype, one task ``denoise-...`` per frame.

    `method` is a denoiser, its name, or a mapping as in YAML. Raises ConfigError for an
    unknown method or option; a frame with NaN raises InputError, naming it, when computed.
    """
    cleaner = DENOISERS.parse(method)
    data = frames.data.rechunk({0: 1, 1: -1, 2: -1})
    # Which fields were given and which are defaults must not show in the name.
    name = f"denoise-{tokenize(data.name, type(cleaner), cleaner.model_dump())}"
    return frames.with_data(
        data.map_blocks(denoise_block, cleaner, dtype=data.dtype, meta=data._meta, name=name)
    )


def denoise_block(block: Frame, method: Denoiser, block_id: tuple[int, ...] | None = None) -> Frame:
    """A denoised block (n, y, x); an error names the frame by its place in the stack."""
    out = block.copy()
    for offset, frame in enumerate(block):
        try:
            out[offset] = method(frame)
        except InputError as error:
            number = offset + (block_id[0] if block_id else 0)
            raise InputError(f"Frame {number}: {error}") from error
    return out
