"""multiview-stitcher: phase correlation of neighbours, global optimisation, linear fusion."""

import tifffile
from job import Job
from multiview_stitcher import fusion, msi_utils, registration
from multiview_stitcher import spatial_image_utils as si_utils

STAGE, SOLVED = "stage", "solved"

job = Job("multiview-stitcher")
views = [
    msi_utils.get_msim_from_sim(
        si_utils.get_sim_from_array(
            tifffile.imread(tile.file),
            dims=["y", "x"],
            scale={"y": 1.0, "x": 1.0},
            translation={"y": tile.y_px, "x": tile.x_px},
            transform_key=STAGE,
        ),
        scale_factors=[],
    )
    for tile in job.tiles
]
shifts = registration.register(
    views,
    transform_key=STAGE,
    new_transform_key=SOLVED,
    reg_channel_index=0,
    registration_binning={"y": 1, "x": 1},
    overlap_tolerance=30.0,
    n_parallel_pairwise_regs=1,
)
fused = fusion.fuse([msi_utils.get_sim_from_msim(v) for v in views], transform_key=SOLVED)
tifffile.imwrite(job.out / "mosaic.tif", fused.data.compute(scheduler="sync").squeeze())
matrices = [shift.squeeze().values for shift in shifts]
job.finish(
    (tile, tile.x_px + matrix[1, 2], tile.y_px + matrix[0, 2])
    for tile, matrix in zip(job.tiles, matrices, strict=True)
)
