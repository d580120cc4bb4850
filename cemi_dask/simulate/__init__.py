"""A synthetic ingot with known truth: specimen, microscope, videos and tiles."""

from cemi_dask.simulate.bending import ScanField
from cemi_dask.simulate.film import GradientFilm
from cemi_dask.simulate.measurement import SimulatedIngot, simulate_tiles, simulate_videos
from cemi_dask.simulate.microscope import Microscope
from cemi_dask.simulate.options import SimulateOptions, gradient_film_options
from cemi_dask.simulate.recording import Recording
from cemi_dask.simulate.specimen import Gradient, Scene, Specimen
from cemi_dask.simulate.truth import compare_positions

__all__ = [
    "Gradient",
    "GradientFilm",
    "Microscope",
    "Recording",
    "ScanField",
    "Scene",
    "SimulateOptions",
    "SimulatedIngot",
    "Specimen",
    "compare_positions",
    "gradient_film_options",
    "simulate_tiles",
    "simulate_videos",
]
