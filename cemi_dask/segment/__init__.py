"""Label pictures out of mosaics: phases and lamellar regions, block by block."""

from cemi_dask.segment.labels import Labeller, PhaseMethod, Segmenter
from cemi_dask.segment.lamellar import Bandpass, Coherence
from cemi_dask.segment.lazy import segment
from cemi_dask.segment.methods import SEGMENTERS
from cemi_dask.segment.network import Network
from cemi_dask.segment.phases import PHASES, Bradley, Level, otsu_level

__all__ = [
    "PHASES",
    "SEGMENTERS",
    "Bandpass",
    "Bradley",
    "Coherence",
    "Labeller",
    "Level",
    "Network",
    "PhaseMethod",
    "Segmenter",
    "otsu_level",
    "segment",
]
