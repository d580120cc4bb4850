"""ITKMontage (itk-montage): phase correlation, least squares over all pairs, linear resampling."""

import itk
from job import Job

job = Job("itk-montage")
rows, cols = job.grid
grey, floating = itk.Image[itk.UC, 2], itk.Image[itk.F, 2]
montage = itk.TileMontage[floating, itk.F].New()
merge = itk.TileMergeImageFilter[grey, itk.D, itk.LinearInterpolateImageFunction[grey, itk.D]].New()
for step in (montage, merge):
    step.SetMontageSize([cols, rows])
for tile in job.tiles:
    index = tile.row * cols + tile.col
    for step, kind in ((montage, itk.F), (merge, itk.UC)):
        image = itk.imread(str(tile.file), kind)
        image.SetSpacing([1.0, 1.0])
        image.SetOrigin([tile.x_px, tile.y_px])
        step.SetInputTile(index, image)
montage.Update()
places = []
for tile in job.tiles:
    shift = montage.GetOutputTransform([tile.col, tile.row])
    merge.SetTileTransform([tile.col, tile.row], shift)
    offset = shift.GetOffset()
    places.append((tile, tile.x_px - offset[0], tile.y_px - offset[1]))
merge.Update()
itk.imwrite(merge.GetOutput(), str(job.out / "mosaic.tif"))
job.finish(places)
