# %% [markdown]
# # Results that show themselves
# Open this file as a notebook (Jupyter with jupytext, VS Code, Spyder), or copy its cells into one.

# %%
import tempfile
from pathlib import Path

import cemi_dask
from cemi_dask.frames import open_frames
from cemi_dask.pipeline import parse_config
from cemi_dask.register import register
from cemi_dask.simulate import SimulateOptions
from cemi_dask.solve import solve

out = Path(tempfile.mkdtemp())
size = SimulateOptions(rows=2, frames_per_row=4, frame_shape=(320, 480))
ingot = cemi_dask.simulate_videos(out, size)

# %% [markdown]
# ## Step by step

# %%
frames = open_frames(ingot.files, pixel_um=0.222)
graph = register(frames)
graph

# %%
layout = solve(graph)
layout

# %%
layout.plot(pixel_um=0.222)

# %% [markdown]
# ## The whole job, with a bar per stage

# %%
config = {
    "input": {"paths": [str(path) for path in ingot.files], "pixel_um": 0.222},
    "analyse": {"grid": {"cell_px": [160, 160]}},
}
result = cemi_dask.run(parse_config(config), out=out / "run", until="analyse")

# %%
cemi_dask.open_mosaic(result.mosaic)

# %%
result.cells
