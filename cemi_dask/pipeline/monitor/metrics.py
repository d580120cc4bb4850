"""The facts of all runs as Prometheus metrics on the scheduler's /metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from cemi_dask.pipeline.monitor.plugin import CemiMonitor

LABELS = ["ingot", "stage"]


class FactsCollector(Collector):
    """Gauges with the labels `ingot` and `stage`, made from what a `CemiMonitor` knows."""

    def __init__(self, monitor: CemiMonitor) -> None:
        self.monitor = monitor

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client for every request."""
        families = {
            "cemi_items_total": "Items of a stage",
            "cemi_items_done": "Items that are finished, those of earlier runs included",
            "cemi_stage_seconds": "Seconds since the stage began",
            "cemi_stage_left_seconds": "Seconds to go at the pace so far",
            "cemi_frames_per_second": "Frames that a stage works through in a second",
            "cemi_pixels_per_second": "Pixels that a stage works through in a second",
            "cemi_stage_failed": "1 where the stage has failed",
        }
        gauges = {
            name: GaugeMetricFamily(name, text, labels=LABELS) for name, text in families.items()
        }
        for stages in list(self.monitor.runs.values()):
            for facts in list(stages.values()):
                values = {
                    "cemi_items_total": facts.total,
                    "cemi_items_done": facts.done,
                    "cemi_stage_seconds": facts.elapsed_s,
                    "cemi_stage_left_seconds": facts.left_s,
                    "cemi_frames_per_second": facts.rate if facts.unit == "frames" else None,
                    "cemi_pixels_per_second": facts.rate if facts.unit == "px" else None,
                    "cemi_stage_failed": float(facts.state == "failed"),
                }
                for name, value in values.items():
                    if value is not None:
                        gauges[name].add_metric([facts.run, facts.stage], value)
        yield from gauges.values()
