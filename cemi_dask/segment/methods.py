"""The methods that find lamellar regions: `SEGMENTERS`."""

from __future__ import annotations

from cemi_dask.methods import Registry
from cemi_dask.segment.labels import Segmenter
from cemi_dask.segment.lamellar import Bandpass, Coherence
from cemi_dask.segment.network import Network

SEGMENTERS: Registry[Segmenter] = Registry("segmenter", Segmenter, (Coherence, Bandpass, Network))
