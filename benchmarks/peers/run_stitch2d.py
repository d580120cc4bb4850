"""stitch2d: SIFT features, tiles placed outwards from the middle one. It knows no positions."""

from job import Job
from stitch2d import StructuredMosaic

job = Job("stitch2d")
rows, cols = job.grid
ordered = sorted(job.tiles, key=lambda t: (t.row, t.col))
mosaic = StructuredMosaic([str(t.file) for t in ordered], dim=cols)
mosaic.align()
mosaic.smooth_seams()
mosaic.save(str(job.out / "mosaic.tif"))
placed = mosaic.params["coords"]
job.finish((ordered[k], x, y) for k, (y, x) in placed.items())
