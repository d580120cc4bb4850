"""Orchestration: config, stages, ledger (resume), cluster, plan, status."""

from cemi_dask.pipeline.config import (
    STAGES,
    RunConfig,
    json_schema,
    load_config,
    parse_config,
    run_name,
)
from cemi_dask.pipeline.job import RunResult, run

__all__ = [
    "STAGES",
    "RunConfig",
    "RunResult",
    "json_schema",
    "load_config",
    "parse_config",
    "run",
    "run_name",
]
