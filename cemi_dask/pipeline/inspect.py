"""`cemi inspect`: what the program understands of videos and tiles, before a long run.

Every video and every set of tiles becomes one entry of plain JSON facts and one `Shown` for
the figure. Files that cannot be used are entries too, with the reason, so that one bad file
hides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from distributed import as_completed
from distributed.scheduler import KilledWorker

from cemi_dask import frames, store
from cemi_dask.errors import InputError, ResourceError, UnreadableError
from cemi_dask.pipeline.cluster import open_client
from cemi_dask.pipeline.cluster_options import LocalOptions, available_cores, parse_cluster
from cemi_dask.pipeline.inspect_facts import (
    examine,
    motion_facts,
    noise_facts,
    overlap_facts,
    refusals,
    row_overlaps,
    scan_facts,
    sharpness_facts,
    tile_overlap_facts,
)
from cemi_dask.pipeline.inspect_sources import find_all, prepared_tiles, prepared_videos
from cemi_dask.pipeline.inspect_text import entry_rows, run_text
from cemi_dask.report.inspect_figure import Shown, inspection_png

Facts = dict[str, Any]
ACROSS_SETS = "Videos and pictures are inspected apart; a run takes one or the other."


@dataclass
class Inspection:
    """Facts of every video or set of tiles (`entries`), and what a run would do (`run`).

    `failures` says in words what a run would refuse; empty: it would go through.
    """

    entries: list[Facts] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    run: Facts = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def as_json(self, png: Path | None) -> Facts:
        """The facts as plain JSON values; docs/guide.md lists the keys."""
        return {
            "png": None if png is None else str(png),
            "files": self.entries,
            "run": {**self.run, "refused": self.failures},
        }


def inspect_files(
    options: frames.InputOptions,
    selection: frames.SelectionOptions,
    *,
    cluster: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Inspection:
    """What is found in the files that `options.paths` stand for, each of them read once.

    One source is read here, several on `cluster` (default: this machine's cores). Raises the
    error itself where nothing but files that cannot be used is found.
    """
    videos, tiles, lost, errors = find_all(options)
    found = Inspection()
    prepared: list[frames.Source] = []
    for kind, sources, prepare in (("video", videos, prepared_videos),
                                   ("tiles", tiles, prepared_tiles)):  # fmt: skip
        if sources:
            ready, bad, refusal = prepare(sources, options)
            prepared += ready
            lost += [(file, why, kind) for file, why in bad]
            found.failures += [refusal] if refusal else []
    if not prepared and len(lost) == 1:
        file, why, _ = lost[0]
        raise errors.get(file, UnreadableError)(why)
    if videos and tiles:
        found.failures.append(f"{ACROSS_SETS} Set input.kind, or name the files of one kind.")
    results = list(_examined(prepared, selection, cluster, say))
    _video_entries(found, prepared, results)
    _tile_entry(found, prepared, results)
    for file, why, kind in lost:
        _add(found, _unusable(file, kind, why), None, [])
    for entry in found.entries:
        found.failures += [entry["error"]] if entry["error"] else []
        found.failures += [why for _, why in entry.get("lost_files", [])]
    if not found.failures:
        found.failures += _refused_as_a_whole(prepared, results)
    found.run = _run_facts(found.entries, prepared, results, selection)
    return found


def _refused_as_a_whole(sources: Sequence[frames.Source], results: Sequence[Facts]) -> list[str]:
    """Why a run would stop though every file can be read: nothing to take, say."""
    try:
        frames.build_table(sources, [result["scan"] for result in results])
    except InputError as error:
        return [str(error)]
    return []


def write_inspection(found: Inspection, path: Path, selection: frames.SelectionOptions) -> None:
    """Write the figure of an inspection as PNG, whole or not at all."""
    bounds = selection.overlap_min, selection.overlap_max
    conclusion = run_text(found.run, found.failures)
    png = inspection_png(found.shown, bounds=bounds, conclusion=conclusion, failures=found.failures)
    with store.replacing(path) as temporary:
        temporary.write_bytes(png)


# ---------------------------------------------------------------- reading


def _examined(
    sources: Sequence[frames.Source],
    selection: frames.SelectionOptions,
    cluster: str | None,
    say: Callable[[str], None],
) -> Iterator[Facts]:
    """What `examine` finds in each source, in their order."""
    if len(sources) <= 1 and cluster is None:
        for source in sources:
            say(f"reading {Path(source.files[0]).name}")
            yield examine(source, selection)
        return
    here = LocalOptions(workers=min(len(sources), available_cores()), dashboard=None)
    with open_client(here if cluster is None else parse_cluster(cluster)) as client:
        futures = [client.submit(examine, s, selection, pure=False) for s in sources]
        number = {future.key: n for n, future in enumerate(futures)}
        results: dict[int, Facts] = {}
        for done, future in enumerate(as_completed(futures), start=1):
            n = number[future.key]
            try:
                results[n] = future.result()
            except KilledWorker as error:
                raise ResourceError(
                    f"Reading {sources[n].files[0]} killed its worker again and again, most often "
                    "for lack of memory. Inspect fewer files at once."
                ) from error
            future.release()
            say(f"{done} of {len(sources)} read: {Path(sources[n].files[0]).name}")
        yield from (results[n] for n in range(len(sources)))


# ---------------------------------------------------------------- entries


def _add(found: Inspection, entry: Facts, png: bytes | None, looks: Sequence[Facts]) -> None:
    picture = None if png is None else cv2.imdecode(np.frombuffer(png, np.uint8), 0)
    greys = np.concatenate([look["greys"] for look in looks]) if looks else np.zeros(0)
    found.entries.append(entry)
    found.shown.append(Shown(entry, tuple(entry_rows(entry)), picture, greys))


def _unusable(file: str, kind: str, why: str) -> Facts:
    return {"kind": kind, "name": Path(file).name, "path": file, "error": why}


def _common(source: frames.Source) -> Facts:
    """What preparation tells of a video or of all tiles."""
    crop, size = source.crop, source.shape or (0, 0)
    stated = source.metadata
    return {
        "recorded_px": list(size),
        "dtype": source.dtype,
        "crop": crop.model_dump(),
        "frame_px": list(crop.shape(size)),
        "pixel_um": source.pixel_um,
        "metadata": None if stated is None else stated.model_dump(exclude_none=True),
    }


def _video_entries(
    found: Inspection, sources: Sequence[frames.Source], results: Sequence[Facts]
) -> None:
    for source, result in zip(sources, results, strict=True):
        if source.kind != "video":
            continue
        entry = _unusable(source.files[0], "video", result["error"])
        entry |= {**_common(source), "row": source.row, "video": result["video"]}
        scan = result["scan"]
        if scan is not None:
            entry |= _row_facts(scan, (result["video"] or {}).get("fps"))
            entry["noise"] = noise_facts(result["looks"])
            entry["flat_field"] = _flat_field([scan])
            entry["warnings"] = [*source.warnings, *scan["warnings"]]
            entry["notes"] = list(dict.fromkeys([*source.notes, *scan["notes"]]))
        _add(found, entry, result["picture"], result["looks"])


def _row_facts(scan: Facts, fps: float | None) -> Facts:
    reasons = refusals(scan)
    lost = {name: reasons.get(name, 0) for name in ("lost", "damaged")}
    taken = [[r["source_index"], r["time_s"]] for r in scan["records"] if r["taken"]]
    return {
        "recorded": scan["recorded"],
        **lost,
        "taken": len(taken),
        "taken_frames": taken,
        "refused": reasons,
        "scan": scan_facts(scan, fps),
        "motion": motion_facts(scan),
        "overlap": overlap_facts(row_overlaps(scan)),
        "sharpness": sharpness_facts(scan),
    }


def _flat_field(scans: Sequence[Facts]) -> Facts:
    field = frames.fit_flat_field(scans, tuple(scans[0]["shape"]))
    return {
        "strength": field.strength,
        "error": field.error,
        "applied": field.applied,
        "note": field.note,
    }


def _tile_entry(
    found: Inspection, sources: Sequence[frames.Source], results: Sequence[Facts]
) -> None:
    """One entry for all tiles, which are one input however many tasks read them."""
    pairs = [(s, r) for s, r in zip(sources, results, strict=True) if s.kind == "tiles"]
    if not pairs:
        return
    first = pairs[0][0]
    files = [Path(file) for source, _ in pairs for file in source.files]
    lost = [told for _, result in pairs for told in result["lost_files"]]
    name = files[0].name if len(files) == 1 else f"{len(files)} tiles in {files[0].parent.name}"
    error = " ".join(dict.fromkeys(result["error"] for _, result in pairs if result["error"]))
    entry = _unusable(str(files[0]), "tiles", error)
    entry |= {**_common(first), "name": name, "lost_files": [list(told) for told in lost]}
    scans = [result["scan"] for _, result in pairs if result["scan"] is not None]
    looks = [look for _, result in pairs for look in result["looks"]]
    if scans:
        records = [record for scan in scans for record in scan["records"]]
        whole = {**scans[0], "records": records}
        kept = {record["file"] for record in records}
        places = [p for source, _ in pairs for p in (source.places or ())]
        both = [(str(f), p) for f, p in zip(files, places, strict=True) if str(f) in kept]
        alone = replace(first, files=tuple(f for f, _ in both), places=tuple(p for _, p in both))
        entry |= {
            "recorded": len(files),
            "taken": sum(record["used"] for record in records),
            "refused": refusals(whole),
            "layout": _layout(alone, records),
            "overlap": tile_overlap_facts(alone),
            "sharpness": sharpness_facts(whole),
            "noise": noise_facts(looks),
            "flat_field": _flat_field(scans),
            "warnings": [*first.warnings, *(w for scan in scans for w in scan["warnings"])],
            "notes": list(first.notes),
        }
    middle = pairs[len(pairs) // 2][1]["picture"] or pairs[0][1]["picture"]
    _add(found, entry, middle, looks)


def _layout(source: frames.Source, records: Sequence[Facts]) -> Facts:
    """Where the tiles lie: rows, columns, missing places, and every tile's place in px."""
    grid = {(r["row"], r["col"]) for r in records}
    numbered = source.nominal == "grid" or all(col >= 0 for _, col in grid)
    rows, cols = len({row for row, _ in grid}), len({col for _, col in grid})
    return {
        "kind": source.nominal,
        "rows": rows if numbered else None,
        "cols": cols if numbered else None,
        "holes": rows * cols - len(grid) if numbered else None,
        "places": [
            [Path(r["file"]).name, r["row"], r["col"], r["x_nominal_px"], r["y_nominal_px"],
             r["used"]]
            for r in records
        ],
    }  # fmt: skip


# ---------------------------------------------------------------- what a run would do


def _run_facts(
    entries: Sequence[Facts],
    sources: Sequence[frames.Source],
    results: Sequence[Facts],
    selection: frames.SelectionOptions,
) -> Facts:
    """Frames and rows that `cemi run` would take from what could be read."""
    usable = [entry for entry in entries if entry.get("taken")]
    scans = [result["scan"] for result in results if result["scan"] is not None]
    rows = sum(entry["kind"] == "video" for entry in usable)
    same = len({tuple(scan["shape"]) for scan in scans}) == 1
    flat = _flat_field(scans) if same and selection.flat_field != "none" else None
    return {
        "rows": rows or next((e["layout"]["rows"] for e in usable if e.get("layout")), None),
        "frames": sum(entry["taken"] for entry in usable),
        "recorded": sum(entry["recorded"] for entry in usable),
        "overlap_min": selection.overlap_min,
        "overlap_max": selection.overlap_max,
        "pixel_um": next((source.pixel_um for source in sources), None),
        "flat_field": flat,
    }
