"""m2stitch: MIST's method in Python. It gives whole pixels and makes no mosaic: tiles are pasted.

Each tile's mean is subtracted first: with it, the program refuses every pair of such tiles.
"""

import m2stitch
import numpy as np
import tifffile
from job import Job

job = Job("m2stitch")
tiles = [tifffile.imread(t.file) for t in job.tiles]
grid, _ = m2stitch.stitch_images(
    np.stack([t - t.mean() for t in tiles]),
    rows=[t.row for t in job.tiles],
    cols=[t.col for t in job.tiles],
    position_initial_guess=np.array([[t.y_px, t.x_px] for t in job.tiles]),
    row_col_transpose=False,
)
corners = grid[["y_pos", "x_pos"]].to_numpy()
corners = corners - corners.min(axis=0)
height, width = tiles[0].shape
shape = corners.max(axis=0).astype(int) + np.array([height, width])
mosaic = np.zeros(shape, tiles[0].dtype)
for (y, x), tile in zip(corners.astype(int), tiles, strict=True):
    mosaic[y : y + height, x : x + width] = tile
tifffile.imwrite(job.out / "mosaic.tif", mosaic)
job.finish((t, x, y) for t, (y, x) in zip(job.tiles, corners, strict=True))
