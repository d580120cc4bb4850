"""The denoising stage: `DENOISERS`, and `denoise`, lazy, block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dask.base import tokenize

from cemi_dask.denoise.classical import Median, NonLocalMeans
from cemi_dask.denoise.method import Denoiser, Frame
from cemi_dask.denoise.network import Network
from cemi_dask.denoise.transform import Dct, Fourier
from cemi_dask.denoise.video import Video
from cemi_dask.frameset import Frames
from cemi_dask.methods import Registry

DENOISERS: Registry[Denoiser] = Registry(
    "denoiser", Denoiser, (Network, Video, Fourier, Dct, NonLocalMeans, Median)
)


def denoise(frames: Frames, *, method: Denoiser | dict[str, Any] | str = "fourier") -> Frames:
    """Lazily denoised frames: same table, shape and dtype.

    One task ``denoise-...`` per frame, or per as many as the method takes at once. `method`
    is a denoiser, its name, or a mapping as in YAML. Raises ConfigError for an unknown
    method or option; a frame with NaN raises InputError, naming it, when computed.
    """
    cleaner = DENOISERS.parse(method).located(Path.cwd())
    cleaner.refuse_untrained()
    data = frames.data.rechunk({0: cleaner.frames_at_once, 1: -1, 2: -1})
    # Which fields were given and which are defaults must not show in the name.
    parts = data.name, type(cleaner), cleaner.model_dump(), cleaner.fingerprint()
    name = f"denoise-{tokenize(*parts)}"
    return frames.with_data(
        data.map_blocks(denoise_block, cleaner, dtype=data.dtype, meta=data._meta, name=name)
    )


def denoise_block(
    block: Frame, method: Denoiser, block_info: dict[Any, Any] | None = None
) -> Frame:
    """A denoised block (n, y, x); an error names the frame by its place in the stack."""
    first = block_info[0]["array-location"][0][0] if block_info else 0
    return method.clean_block(block, first)
