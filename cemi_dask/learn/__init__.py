"""What all networks share: weights with a model card, devices, and the training loop.

`weights` and `devices` import torch when they need it; `loop`, `state` and `ranks` import it at
once, so they are imported late.
"""

from cemi_dask.learn.batches import Batches
from cemi_dask.learn.options import RateOptions, TrainingOptions

__all__ = ["Batches", "RateOptions", "TrainingOptions"]
