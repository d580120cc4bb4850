"""Training of segmenting networks: labelled pictures as batches, losses, metrics, and the loop.

The modules that need torch are imported when they are used: `loop.fit` is the entry.
"""

from cemi_dask.segment.training.options import Augmentation, SegmentFit, SegmentLoss
from cemi_dask.segment.training.patches import Labelled, LabelledPatches

__all__ = ["Augmentation", "Labelled", "LabelledPatches", "SegmentFit", "SegmentLoss"]
