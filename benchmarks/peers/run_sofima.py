"""SOFIMA (sofima), rigid steps: phase correlation of neighbours, springs, warped tiles.

Its elastic flow step, which would follow, is left out. The package index holds an empty wheel;
install it from its repository.
"""

import numpy as np
import tifffile
from job import Job
from sofima import stitch_rigid, warp

STRIDE = 20

job = Job("sofima")
rows, cols = job.grid
images = {(t.col, t.row): tifffile.imread(t.file) for t in job.tiles}
height, width = images[0, 0].shape
size = np.array([width, height])
nominal = {(t.col, t.row): (t.x_px, t.y_px) for t in job.tiles}


def overlaps(axis, size):
    """Three overlaps to try around the nominal one of neighbours along an axis (0: x)."""
    step = (1, 0) if axis == 0 else (0, 1)
    pitch = [
        nominal[x + step[0], y + step[1]][axis] - nominal[x, y][axis]
        for x, y in nominal
        if (x + step[0], y + step[1]) in nominal
    ]
    middle = round(size - np.median(pitch)) if pitch else size // 4
    return tuple(middle + extra for extra in (-15, 0, 15))


tried = overlaps(0, width), overlaps(1, height)
least = min(t[0] for t in tried) - 15
links = stitch_rigid.compute_coarse_offsets((rows, cols), images, tried, min_overlap=least)
mesh = stitch_rigid.optimize_coarse_mesh(*links)
places = {at: mesh[:, 0, at[1], at[0]] + np.array(at) * size for at in images}
first = np.min(list(places.values()), axis=0)
far = np.ceil(np.max(list(places.values()), axis=0) - first + size).astype(int)
grid = (2, 1, -(-height // STRIDE), -(-width // STRIDE))
maps = {
    at: np.broadcast_to((place - first - np.array(at) * size).reshape(2, 1, 1, 1), grid)
    for at, place in places.items()
}
mosaic, _ = warp.render_tiles(
    images, maps, stride=(STRIDE, STRIDE), margin=5, width=int(far[0]), height=int(far[1])
)
tifffile.imwrite(job.out / "mosaic.tif", mosaic)
job.finish((t, *places[t.col, t.row]) for t in job.tiles)
