"""A simulated ingot on disk, with the config that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cemi_dask.errors import ConfigError
from cemi_dask.methods import explain
from cemi_dask.pipeline.cluster import LocalOptions, open_client, parse_cluster
from cemi_dask.simulate import SimulateOptions, simulate_tiles, simulate_videos
from cemi_dask.store import write_text_atomic

CONFIG = "ingot.yaml"


def simulate_ingot(
    out: Path, options: dict[str, Any], *, tiles: bool = False, cluster: str | None = None
) -> Path:
    """Write videos (or tiles), the truth and ``ingot.yaml`` into `out`; the config's path."""
    try:
        checked = SimulateOptions(**options)
    except ValidationError as error:
        raise ConfigError(f"cemi simulate: {explain(error)}") from error
    cluster_options = LocalOptions() if cluster is None else parse_cluster(cluster)
    out.mkdir(parents=True, exist_ok=True)
    with open_client(cluster_options):
        made = (simulate_tiles if tiles else simulate_videos)(out, checked)
    values: dict[str, Any] = {
        "name": out.resolve().name,
        "out": "../run",
        "input": made.input_values(),
        "denoise": {"method": "dct"},
        "analyse": {
            "grid": {"cell_px": list(made.cell_px)},
            "hardness": {"file": "hardness.csv"},
        },
    }
    text = "# Written by `cemi simulate`; the truth lies beside it in truth*.csv.\n"
    write_text_atomic(out / CONFIG, text + yaml.safe_dump(values, sort_keys=False))
    return out / CONFIG
