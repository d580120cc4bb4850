"""ASHLAR (ashlar): whitened phase correlation, spanning tree, feathered mosaic in memory.

Frames this noisy want its option filter_sigma; without it tiles are off by several pixels.
"""

import numpy as np
import skimage.io
import tifffile
from ashlar import reg
from job import Job

job = Job("ashlar")


class Metadata(reg.Metadata):
    """Stage positions of the job's tiles, one pixel taken as one micrometre."""

    _num_images = len(job.tiles)
    num_channels = 1
    pixel_size = 1.0
    pixel_dtype = np.dtype(np.uint8)

    def tile_position(self, i):
        """Corner (y, x) of a tile."""
        return np.array([job.tiles[i].y_px, job.tiles[i].x_px])

    def tile_size(self, i):
        """Height and width; all tiles are alike."""
        return SHAPE


class Reader(reg.Reader):
    """The job's tiles from their files."""

    metadata = Metadata()

    def read(self, series, c):
        """Pixels of a tile."""
        return skimage.io.imread(job.tiles[series].file)


SHAPE = np.array(skimage.io.imread(job.tiles[0].file).shape)
aligner = reg.EdgeAligner(Reader(), max_shift=30, filter_sigma=3, do_make_thumbnail=False)
aligner.run()
mosaic = reg.Mosaic(aligner, aligner.mosaic_shape)
tifffile.imwrite(job.out / "mosaic.tif", mosaic.assemble_channel(0))
job.finish((t, x, y) for t, (y, x) in zip(job.tiles, aligner.positions, strict=True))
