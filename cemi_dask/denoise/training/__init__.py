"""Training of denoising networks: data as batches, degradation, losses, and the loop.

The modules that need torch are imported when they are used: `loop.fit` is the entry.
"""

from cemi_dask.denoise.training.batches import Batch, Batches
from cemi_dask.denoise.training.options import FitOptions, LossOptions

__all__ = ["Batch", "Batches", "FitOptions", "LossOptions"]
