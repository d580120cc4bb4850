"""Denoised frames from noisy ones, frame by frame: classical methods and the interface of all."""

from cemi_dask.denoise.classical import Median, NonLocalMeans
from cemi_dask.denoise.method import Denoiser
from cemi_dask.denoise.network import Network
from cemi_dask.denoise.noise import NoiseModel, estimate_noise, estimate_noise_model
from cemi_dask.denoise.stage import DENOISERS, denoise
from cemi_dask.denoise.transform import Dct, Fourier
from cemi_dask.denoise.video import Video

__all__ = [
    "DENOISERS",
    "Dct",
    "Denoiser",
    "Fourier",
    "Median",
    "Network",
    "NoiseModel",
    "NonLocalMeans",
    "Video",
    "denoise",
    "estimate_noise",
    "estimate_noise_model",
]
