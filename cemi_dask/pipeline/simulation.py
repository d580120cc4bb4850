"""A simulated ingot on disk, with the config that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cemi_dask.errors import ConfigError
from cemi_dask.explain import explain
from cemi_dask.pipeline.cluster import open_client
from cemi_dask.pipeline.cluster_options import LocalOptions, parse_cluster
from cemi_dask.pipeline.config import run_name
from cemi_dask.simulate import SimulateOptions, simulate_tiles, simulate_videos
from cemi_dask.store import storing, write_text_atomic

CONFIG = "ingot.yaml"


def simulate_ingot(
    out: Path, options: dict[str, Any], *, tiles: bool = False, cluster: str | None = None
) -> Path:
    """Write videos (or tiles), the truth and ``ingot.yaml`` into `out`; the config's path."""
    try:
        checked = SimulateOptions(**options)
    except ValidationError as error:
        raise ConfigError(f"cemi simulate: {explain(error, given=options)}") from error
    cluster_options = LocalOptions() if cluster is None else parse_cluster(cluster)
    with storing(out):
        out.mkdir(parents=True, exist_ok=True)
    with open_client(cluster_options):
        made = (simulate_tiles if tiles else simulate_videos)(out, checked)
    pixel_um = made.options.specimen.pixel_um
    source: dict[str, Any] = {"paths": ["row_*"], "kind": "videos", "pixel_um": pixel_um}
    if tiles:
        tile_options = {"positions": "positions.csv"}
        source = {"paths": ["tiles"], "kind": "tiles", "pixel_um": pixel_um, "tiles": tile_options}
    values: dict[str, Any] = {
        "name": run_name(out, "ingot"),
        "input": source,
        "denoise": {"method": "fourier"},
        "analyse": {
            "grid": {"cell_px": list(made.options.cell_px)},
            "hardness": {"file": made.hardness_csv.name},
        },
    }
    text = "# Written by `cemi simulate`; the truth lies beside it in truth*.csv.\n"
    write_text_atomic(out / CONFIG, text + yaml.safe_dump(values, sort_keys=False))
    return out / CONFIG
