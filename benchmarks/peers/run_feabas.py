"""FEABAS (feabas): block matching in the overlaps, meshes relaxed together, pyramid blending.

The steps and settings of its stitching script, without contrast changes, in one process. Meshes
may bend; a tile's position is the mean place of its mesh.
"""

import os
import tempfile
from pathlib import Path

# It reads settings from where it is started, else from a folder that its wheel does not bring.
os.chdir(tempfile.mkdtemp())
Path("configs").mkdir()
Path("configs/general_configs.yaml").write_text("{cpu_budget: 1, parallel_framework: process}\n")

import cv2
import numpy as np
from feabas import constant
from feabas.stitcher import MontageRenderer, Stitcher
from job import Job

FIXED, MOVING = constant.MESH_GEAR_FIXED, constant.MESH_GEAR_MOVING

job = Job("feabas")
height, width = cv2.imread(str(job.tiles[0].file), cv2.IMREAD_UNCHANGED).shape
corners = np.array([[t.x_px, t.y_px] for t in job.tiles])
boxes = np.hstack([corners, corners + np.array([width, height])]).round().astype(int)
stitcher = Stitcher([str(t.file) for t in job.tiles], boxes)
stitcher.dispatch_matchers(
    verbose=False,
    num_workers=1,
    min_overlap_width=25,
    margin=100,
    loader_config={"cache_size": 150},
    matcher_config={
        "conf_thresh": 0.33,
        "residue_mode": "threshold",
        "pad": True,
        "sigma": 2.5,
        "coarse_downsample": 0.5,
        "fine_downsample": 1.0,
    },
)
stitcher.filter_match_by_weight(0.1)
stitcher.set_groupings(np.zeros(stitcher.num_tiles, dtype=np.int32))
stitcher.initialize_meshes([75, 150, 300], soft_top=0.2, soft_top_width=0.0)
first = {"tol": 1e-7, "residue_threshold": 0.5}
group = {"tol": 1e-6, "residue_mode": "threshold", "residue_len": 5, "continue_on_flip": True}
stitcher.optimize_translation(target_gear=FIXED, **first)
stitcher.optimize_group_intersection(target_gear=FIXED, **group)
stitcher.optimize_translation(target_gear=FIXED, **first)
stitcher.optimize_elastic(use_groupings=True, target_gear=FIXED, **group)
stitcher.optimize_elastic(
    target_gear=MOVING,
    tol=1e-4,
    residue_mode="huber",
    residue_len=5,
    continue_on_flip=True,
    callback_settings={"early_stop_thresh": 1, "chances": 20, "eval_step": 10},
)
stitcher.normalize_coordinates(rotation_threshold=0.5, offset=[1, 1])
stitcher.connect_isolated_subsystem(explode_factor=1.0)
renderer = MontageRenderer.from_stitcher(stitcher)
series = renderer.plan_render_series([4096, 4096], prefix=str(job.out / "mosaic_"))
renderer.render_series_to_file(series[0], series[1], blend="PYRAMID")
initial = constant.MESH_GEAR_INITIAL
moved = [
    (m.vertices_w_offset(gear=MOVING) - m.vertices_w_offset(gear=initial)).mean(axis=0)
    for m in stitcher.meshes
]
job.finish((t, x, y) for t, (x, y) in zip(job.tiles, moved, strict=True))
