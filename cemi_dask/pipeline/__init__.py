"""Orchestration: config, stages, ledger (resume), cluster, batch, plan, status."""

from cemi_dask.pipeline.batch import BatchResult, run_many
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
    "BatchResult",
    "RunConfig",
    "RunResult",
    "json_schema",
    "load_config",
    "parse_config",
    "run",
    "run_many",
    "run_name",
]
