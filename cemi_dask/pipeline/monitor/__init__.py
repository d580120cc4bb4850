"""Watching a run: its facts as events, metrics, lines, a file, and a page on the dashboard."""

from cemi_dask.pipeline.monitor.facts import TOPIC, StageFacts, read_facts
from cemi_dask.pipeline.monitor.reporter import Reporter

__all__ = ["TOPIC", "Reporter", "StageFacts", "read_facts"]
