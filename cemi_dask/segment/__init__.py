"""Label pictures out of mosaics: phases and lamellar regions, block by block."""

from cemi_dask.segment.labels import Labeller, PhaseMethod, Segmenter
from cemi_dask.segment.lamellar import Bandpass, Coherence
from cemi_dask.segment.lazy import segment
from cemi_dask.segment.methods import SEGMENTERS
from cemi_dask.segment.network import Network
from cemi_dask.segment.phases import PHASES, Bradley, Level, Levels, Mixture, Otsu, Sauvola

__all__ = [
    "PHASES",
    "SEGMENTERS",
    "Bandpass",
    "Bradley",
    "Coherence",
    "Labeller",
    "Level",
    "Levels",
    "Mixture",
    "Network",
    "Otsu",
    "PhaseMethod",
    "Sauvola",
    "Segmenter",
    "segment",
]
