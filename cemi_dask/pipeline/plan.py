"""What a run would do, before it does it: `make_plan`.

Numbers are upper bounds where they cannot be known without reading the videos: a row video
gives at most its recorded frames; what an earlier run has scanned is known exactly.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask.utils import format_bytes, parse_bytes

from cemi_dask import frames
from cemi_dask.blend import Blender
from cemi_dask.denoise import Video
from cemi_dask.denoise.training.looks import KEPT_FRAMES
from cemi_dask.errors import ResourceError
from cemi_dask.frames.looks import REACH
from cemi_dask.frames.video import index_video
from cemi_dask.pipeline.cluster import WORKER_BASE
from cemi_dask.pipeline.cluster_options import AnyCluster, JobOptions, LocalOptions
from cemi_dask.pipeline.config import RunConfig
from cemi_dask.pipeline.folder import RunFolder
from cemi_dask.pipeline.job import take_order
from cemi_dask.pipeline.ledger import read_lines

# Averaging: the frame's own arrays, each look's grey levels, and the recorded pictures that wait.
AVERAGE_BYTES_PER_PX, LOOK_BYTES_PER_PX = 40, 4

# Training of the compact network, measured: torch's libraries, what a px of a batch takes on its
# way there and back, weights with checkpoint.
TORCH_BYTES, BATCH_BYTES_PER_PX, TRAINED_BYTES = 300 << 20, 6000, 20 << 20


@dataclass(frozen=True)
class Demand:
    """What one stage asks for: items, how many are finished, bytes written, bytes in memory."""

    stage: str
    items: int
    finished: int
    writes: int
    memory: int


@dataclass(frozen=True)
class Plan:
    """The stages' demands, held against what the machine offers."""

    out: Path
    demands: tuple[Demand, ...]
    notes: tuple[str, ...]
    exact: bool
    memory_limit: int | None
    disk_free: int

    @property
    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """The plan as text: stage, items, finished, bytes written, memory per worker."""
        return [
            (
                demand.stage,
                f"{demand.items}",
                f"{demand.finished}",
                format_bytes(demand.writes) if demand.writes else "",
                format_bytes(demand.memory),
            )
            for demand in self.demands
        ]

    def refuse_if_it_cannot_fit(self) -> None:
        """Raise ResourceError when a stage needs more memory or disk than there is."""
        largest = max(self.demands, key=lambda demand: demand.memory)
        if self.memory_limit is not None and largest.memory > self.memory_limit:
            raise ResourceError(
                f"Stage {largest.stage!r} needs {format_bytes(largest.memory)} a worker and "
                f"cluster.memory_limit is {format_bytes(self.memory_limit)}. Raise it, take fewer "
                "workers, or make mosaic.shard_px smaller."
            )
        writes = sum(demand.writes for demand in self.demands if demand.finished < demand.items)
        if self.exact and writes > self.disk_free:
            raise ResourceError(
                f"The run writes up to {format_bytes(writes)} to {self.out} and "
                f"{format_bytes(self.disk_free)} are free there. Free space or give another --out."
            )


def make_plan(
    config: RunConfig | str | Path, *, out: str | Path | None = None, cluster: str | None = None
) -> Plan:
    """The plan of a run: items, bytes, memory per worker, what is finished already.

    Reads headers and the ledger, no pixels. Raises what the run itself would raise for a
    wrong config or unusable input.
    """
    order, folder, options = take_order(config, out, cluster)
    sources, digests = order.sources, order.digests
    finished = {stage: finished_items(folder, stage, digests[stage]) for stage in digests}
    counts, exact = frame_counts(sources, finished["frames"])
    shape = sources[0].crop.shape(sources[0].shape or (0, 0))
    averages = order.config.frames.average == "motion" and sources[0].kind == "video"
    wanted = work(
        order.config, sources=len(sources), frames=sum(counts), shape=shape, averages=averages
    )
    demands = tuple(
        Demand(stage, max(items, len(finished[stage])), len(finished[stage]), writes, memory)
        for stage, items, writes, memory in wanted
        if stage in finished
    )
    recorded = sum(counts)
    words = "frames were taken" if exact else "frames at most (videos: as many as were recorded)"
    if averages:
        words += ", each video is read twice"
    notes = [
        f"{len(sources)} sources, {recorded} {words}, {shape[1]} x {shape[0]} px.",
        *sources[0].notes,
        *(f"Warning: {text}" for text in sources[0].warnings),
    ]
    return Plan(
        folder.path, demands, tuple(notes), exact, memory_limit(options), disk_free(folder.path)
    )


def finished_items(folder: RunFolder, stage: str, digest: str) -> dict[str, Any]:
    """Results of the items that a run would not do again: those under the same digest."""
    lines, _ = read_lines(folder.ledger / f"{stage}.jsonl")
    if not lines or lines[0].get("digest") != digest:
        return {}
    return {line["item"]: line["result"] for line in lines if "item" in line}


def frame_counts(sources: Sequence[frames.Source], scans: dict[str, Any]) -> tuple[list[int], bool]:
    """(frames of each source, whether all are known exactly from an earlier scan)."""
    counts, exact = [], True
    for source in sources:
        scan = scans.get(f"read-frames/{source.key}")
        if scan is not None:
            counts.append(sum(record["taken"] for record in scan["records"]))
        elif source.kind == "tiles":
            counts.append(len(source.files))
        else:
            counts.append(len(index_video(source.files[0]).pts))
            exact = False
    return counts, exact


def work(
    config: RunConfig,
    *,
    sources: int,
    frames: int,
    shape: tuple[int, int],
    averages: bool = False,
) -> list[tuple[str, int, int, int]]:
    """(stage, items, bytes written, bytes a worker needs), from numbers of frames and pixels."""
    frame = shape[0] * shape[1]
    reading = 40
    if averages:
        kept = 2 * REACH + 1
        reading += AVERAGE_BYTES_PER_PX + LOOK_BYTES_PER_PX * config.frames.average_looks + kept
    overlap = 0.5 * (config.frames.overlap_min + config.frames.overlap_max)
    mosaic = math.ceil(frames * frame * (1 - overlap)) if frames > 1 else frame
    shard = min(config.mosaic.shard_px**2, mosaic)
    shards = math.ceil(mosaic / shard)
    blocks = math.ceil(frames / 4)
    labellers = {} if config.segment is None else config.segment.methods()
    labelling = max((each.memory_bytes(shard) for each in labellers.values()), default=0)
    cleaning = 0 if config.denoise is None else config.denoise.memory_bytes(frame)
    plain = [
        # stage, items, bytes written, bytes in memory beside the worker's base
        ("frames", sources, frames * frame, reading * frame),
        ("register", math.ceil(frames * 3 / 8), 0, 120 * frame),
        ("solve", 0, 0, 0),
        ("train", 1, TRAINED_BYTES, training_bytes(config.denoise, frame)),
        ("denoise", blocks if config.denoise else 0, frames * frame, cleaning),
        ("blend", shards, mosaic, blending_bytes(config.blend, shard, frame, overlap)),
        ("pyramid", math.ceil(shards / 3), mosaic // 3, 6 * shard),
        ("segment", 2 * shards if config.segment else 0, mosaic // 4, labelling),
        ("analyse", shards if config.analyse else 0, 0, 24 * shard),
        ("report", 0, 0, 0),
    ]
    return [
        (stage, items, writes if items else 0, WORKER_BASE + memory)
        for stage, items, writes, memory in plain
    ]


def blending_bytes(method: Blender, shard: int, frame: int, overlap: float) -> int:
    """Bytes a worker needs for blending a shard of so many px, the frames it reads included."""
    area = math.ceil((math.sqrt(shard) + 2 * method.halo_px) ** 2)
    touched = math.ceil(area / (frame * (1 - overlap) ** 2)) + 2
    return method.memory_bytes(area, frame, touched) + touched * frame


def training_bytes(method: Any, frame: int) -> int:
    """Bytes a worker needs for training `method` on frames of so many px, beside its base.

    0 where there is nothing to train.
    """
    if not isinstance(method, Video):
        return 0
    batch = BATCH_BYTES_PER_PX * method.batch * method.patch_px**2
    return TORCH_BYTES + batch + KEPT_FRAMES * frame


def memory_limit(options: AnyCluster) -> int | None:
    """Bytes a worker may use; None where a running cluster or a pod's resources decide."""
    if isinstance(options, JobOptions):
        return int(parse_bytes(options.memory) / (options.processes or options.cores))
    return options.resolved()[1] if isinstance(options, LocalOptions) else None


def disk_free(path: Path) -> int:
    """Free bytes where `path` is or will be."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(existing).free
