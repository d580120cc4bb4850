"""Denoised frames from noisy ones, classical methods, networks, and the interface of all."""

from cemi_dask.denoise.align_geometry import PairGeometry
from cemi_dask.denoise.alignment import Alignment, align_pair, fit_grey_levels
from cemi_dask.denoise.classical import Median, NonLocalMeans
from cemi_dask.denoise.lpips import UNAVAILABLE as LPIPS_UNAVAILABLE
from cemi_dask.denoise.lpips import Lpips
from cemi_dask.denoise.method import Denoiser
from cemi_dask.denoise.metrics import Measures, Ruler
from cemi_dask.denoise.network import Network
from cemi_dask.denoise.noise import NoiseModel, estimate_noise, estimate_noise_model
from cemi_dask.denoise.overlap import Overlap
from cemi_dask.denoise.stage import DENOISERS, denoise
from cemi_dask.denoise.transform import Dct, Fourier
from cemi_dask.denoise.video import Video

__all__ = [
    "DENOISERS",
    "LPIPS_UNAVAILABLE",
    "Alignment",
    "Dct",
    "Denoiser",
    "Fourier",
    "Lpips",
    "Measures",
    "Median",
    "Network",
    "NoiseModel",
    "NonLocalMeans",
    "Overlap",
    "PairGeometry",
    "Ruler",
    "Video",
    "align_pair",
    "denoise",
    "estimate_noise",
    "estimate_noise_model",
    "fit_grey_levels",
]
