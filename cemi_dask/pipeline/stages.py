"""The stages of a run, in order. Each takes what the one before it made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd

from cemi_dask import analyse, blend, denoise, frames, register, segment, solve, store
from cemi_dask.compute import named_task
from cemi_dask.errors import DisconnectedError, NoOverlapError
from cemi_dask.frameset import Frames
from cemi_dask.geometry import Layout
from cemi_dask.overlap import OverlapGraph
from cemi_dask.pipeline.context import Context
from cemi_dask.pipeline.digests import hardness_file
from cemi_dask.pipeline.quality import check_stitching
from cemi_dask.pipeline.train_stage import train_stage
from cemi_dask.report import write_report
from cemi_dask.report.frame_section import SAMPLE

NO_PIXEL_SIZE = "No pixel size is known: lengths are in px, and the columns in um are empty."
MOST_TOLD = 6  # islands that a message names
DENOISE_BLOCK = 4  # frames per denoising item: about a second of work each


# ---------------------------------------------------------------- frames


def import_source(
    source: frames.Source, selection: frames.SelectionOptions, folder: str
) -> dict[str, Any]:
    """Scan one source and store the frames taken from it; the JSON-able scan."""
    with store.FrameWriter(folder, f"raw/{source.key}") as writer:
        return frames.scan_source(source, selection, sink=writer.append)


def frames_stage(context: Context) -> Frames:
    """Frames of all sources, copied once into the run's frame store."""
    config, folder = context.config, context.folder
    with context.stage("frames") as scope:
        sources = context.order.sources
        for text in sources[0].warnings:
            context.warn(text)
        context.facts["input"] = input_facts(sources)
        if context.order.pixel_um is None:
            context.warn(f"{NO_PIXEL_SIZE} Set input.pixel_um (--pixel-size) for micrometres.")
        if config.frames.average != "none" and sources[0].kind == "tiles":
            context.warn(f"{frames.TILES_STAY}.")
        items = {
            f"read-frames/{source.key}": named_task(
                "read-frames", import_source, source, config.frames, str(folder.frames)
            )
            for source in sources
        }
        scans = list(scope.compute(items).values())
        keep_sample(folder.path / "figures" / SAMPLE, sources)
        table, nominal = frames.build_table(sources, scans)
        for scan in scans:
            for text in scan["warnings"]:
                context.warn(text)
        # Refused frames follow with their reasons; they have no number, being in no mosaic.
        rejected = frames.rejected_table(sources, scans).assign(frame=-1)
        everything = pd.concat([table, rejected]) if len(rejected) else table
        store.write_table(everything, folder.tables, "frames")
        keys = [
            f"raw/{source.key}"
            for source, scan in zip(sources, scans, strict=True)
            if any(record["taken"] for record in scan["records"])
        ]
        context.facts["frame_keys"] = keys
        context.facts["frames"] = {
            "taken": len(table),
            "used": int(table["used"].sum()),
            "rejected": len(rejected) + int((~table["used"]).sum()),
        }
        if (averaged := averaging_facts(scans)) is not None:
            context.facts["averaging"] = averaged
        raw = Frames(
            store.open_frame_store(folder.frames, keys), table, nominal, context.order.pixel_um
        )
        flat = take_flat_field(context, scans, raw)
    return flat


def input_facts(sources: Sequence[frames.Source]) -> dict[str, Any]:
    """What was understood of the input, for run.json: metadata, crop, and in words how."""
    first = sources[0]
    stated = first.metadata
    return {
        "metadata": None if stated is None else stated.model_dump(exclude_none=True),
        "crop": first.crop.model_dump(),
        "recorded_shape": list(first.shape or ()),
        "notes": list(first.notes),
    }


def averaging_facts(scans: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What averaging recorded pictures did, for run.json; None where nothing was averaged.

    Keys: frames (those taken), averaged (those that hold more than one picture), looks
    (pictures in such a frame, median), noise_before, noise_after (grey levels, rms over them)
    and notes, a sentence per file.
    """
    taken = [r for scan in scans for r in scan["records"] if r["taken"]]
    gained = [r for r in taken if r["looks"] > 1]
    if not gained:
        return None
    before, after = (
        float(np.sqrt(np.mean([r[name] ** 2 for r in gained])))
        for name in ("noise_before", "noise_after")
    )
    return {
        "frames": len(taken),
        "averaged": len(gained),
        "looks": float(np.median([r["looks"] for r in gained])),
        "noise_before": before,
        "noise_after": after,
        "notes": [note for scan in scans for note in scan["notes"] if "averag" in note],
    }


def keep_sample(path: Path, sources: Sequence[frames.Source]) -> None:
    """A small recorded picture for the report, which shows the crop on it; once per run."""
    if path.is_file():
        return
    png = frames.sample_png(sources)
    if png is not None:
        with store.storing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        with store.replacing(path) as temporary:
            temporary.write_bytes(png)


def take_flat_field(context: Context, scans: list[dict[str, Any]], raw: Frames) -> Frames:
    """The frames without the shading that they share, which run.json then describes."""
    if context.config.frames.flat_field == "none":
        return raw
    field = frames.fit_flat_field(scans, raw.frame_shape)
    context.facts["flat_field"] = field.as_json()
    return frames.flatten(raw, field)


# ---------------------------------------------------------------- register, solve


def register_stage(context: Context, raw: Frames) -> OverlapGraph:
    """The graph of measured displacements between the raw frames."""
    options = context.config.register_
    with context.stage("register") as scope:
        graph = register.register(raw, options=options, compute=scope.compute)
        for note in graph.notes:
            context.warn(note)
        return graph


def solve_stage(context: Context, raw: Frames, graph: OverlapGraph) -> Layout:
    """The layout, with the tables of pairs and positions."""
    options = context.config.solve
    with context.stage("solve"):
        try:
            calibration = solve.calibrate(graph, options=options)
            solution = solve.solution(graph, options=options, calibration=calibration)
        except DisconnectedError as error:
            told = islands_told(error.islands, raw.table)
            raise DisconnectedError(f"{error} The smaller ones: {told}.", error.islands) from error
        layout = solution.layout
        pairs = solve.pairs_table(graph, layout, options=options)
        refuse_unlinked_grid(raw, pairs)
        tables = context.folder.tables
        store.write_table(pairs, tables, "pairs")
        store.write_table(solve.positions_table(layout, raw.table), tables, "positions")
        context.facts["mosaic_shape"] = list(layout.shape)
        context.facts["distortion"] = calibration.facts(layout.distortion)
        if solution.bending is not None:
            context.facts["elastic"] = solution.bending.facts()
        context.facts["pairs"] = {k: int(v) for k, v in pairs["status"].value_counts().items()}
        numbers = np.unique(layout.component[layout.used])
        if len(numbers) > 1:
            members = [np.flatnonzero(layout.component == number).tolist() for number in numbers]
            context.warn(
                f"The frames form {len(numbers)} islands that no accepted pair links; the smaller "
                "ones are placed by their expected positions (component > 0 in positions.csv): "
                f"{islands_told(members, raw.table)}"
            )
    return layout


def islands_told(islands: Sequence[Sequence[int]], table: pd.DataFrame) -> str:
    """The islands but the first in words: how many frames, and which is their first."""
    told = []
    for members in islands[1:MOST_TOLD]:
        first = table.iloc[members[0]]
        recorded = f" frame {first['source_index']}" if first["time_s"] >= 0 else ""
        count = f"{len(members)} frame{'s' if len(members) > 1 else ''}"
        told.append(f"{count} from {Path(str(first['file'])).name}{recorded} on")
    return "; ".join(told) + (" and so on" if len(islands) > MOST_TOLD else "")


def refuse_unlinked_grid(raw: Frames, pairs: pd.DataFrame) -> None:
    """Raise NoOverlapError where nothing links the tiles of a grid, whose pitch is a guess."""
    if raw.nominal != "grid" or not len(pairs) or pairs["status"].isin(["ok", "ambiguous"]).any():
        return
    first, second = (Path(str(raw.table["file"].iloc[pairs[k].iloc[0]])).name for k in "ij")
    raise NoOverlapError(
        f"None of the {len(pairs)} pairs of neighbouring tiles ({first} and {second} first) shows "
        "a common part. Check that they overlap and that rows and columns are right "
        "(input.tiles.pattern), or give stage positions (input.tiles.positions)."
    )


# ---------------------------------------------------------------- denoise, blend


def denoise_stage(
    context: Context, raw: Frames, layout: Layout, method: denoise.Denoiser | None
) -> Frames:
    """The denoised frames, stored beside the raw ones; the raw frames without a denoiser."""
    with context.stage("denoise") as scope:
        if method is None:
            return raw
        context.facts["denoiser"] = method_facts(method)
        scope.compute.gpu = context.wants_gpu(method, "denoise")
        # The graph knows a frame's neighbours; frames alone are cleaned as they are stored.
        in_graph = method.needs == "neighbours"
        source = denoise.denoise(raw, method=method, layout=layout) if in_graph else raw
        blocks = source.delayed()
        folder = str(context.folder.frames)
        raw_keys: list[str] = context.facts["frame_keys"]
        items, first = {}, 0
        keys = [key.replace("raw/", "denoised/", 1) for key in raw_keys]
        for raw_key, key in zip(raw_keys, keys, strict=True):
            count = store.frame_count(folder, raw_key)
            if scope.starts_anew:
                store.create_frames(folder, key, like=raw_key)
            for start in range(0, count, DENOISE_BLOCK):
                place = first + start
                part = blocks[place : place + min(DENOISE_BLOCK, count - start)]
                where = folder, key, start
                items[f"denoise/{Path(key).name}-{start:05d}"] = (
                    named_task("denoise", store.write_frames, *where, part)
                    if in_graph
                    else named_task("denoise", denoise_and_store, part, method, place, where)
                )
            first += count
        scope.compute(items)
        return raw.with_data(store.open_frame_store(folder, keys))


def denoise_and_store(
    blocks: Sequence[Any], method: denoise.Denoiser, first: int, where: tuple[str, str, int]
) -> dict[str, int]:
    """Denoise some raw frames, the first of which is frame `first`, and store them at `where`."""
    cleaned = method.clean_block(np.concatenate(blocks), first)
    return store.write_frames(*where, cleaned)


def method_facts(method: denoise.Denoiser | segment.Labeller) -> dict[str, Any]:
    """A method for run.json: its options, and for networks the weights' SHA-256."""
    facts: dict[str, Any] = {**method.model_dump(mode="json")}
    if (mark := method.fingerprint()) is not None:
        facts["sha256"] = mark
    return facts


def blend_stage(context: Context, pictures: Frames, layout: Layout) -> store.Mosaic:
    """Level 0 of the mosaic."""
    config = context.config
    with context.stage("blend") as scope:
        context.facts["blender"] = {
            **config.blend.model_dump(mode="json"),
            "keeps_noise": config.blend.keeps_noise,
        }
        shard_px = store.fit_shard(layout.shape, config.mosaic)
        array = blend.blend(pictures, layout, method=config.blend, shard_px=shard_px)
        return store.write_mosaic(
            array,
            context.folder.mosaic,
            pixel_um=pictures.pixel_um,
            options=config.mosaic,
            compute=scope.compute,
            overwrite=scope.starts_anew,
        )


def pyramid_stage(context: Context) -> store.Mosaic:
    """The coarser levels of the mosaic."""
    with context.stage("pyramid") as scope:
        return store.write_pyramid(context.folder.mosaic, compute=scope.compute)


# ---------------------------------------------------------------- segment, analyse, report


def segment_stage(context: Context, mosaic: store.Mosaic) -> dict[str, da.Array]:
    """The label images beside the mosaic: {"lamellar": ..., "bcc": ...}."""
    options = context.config.segment
    labels: dict[str, da.Array] = {}
    with context.stage("segment") as scope:
        if options is None:
            return labels
        context.facts["segmenters"] = {k: method_facts(m) for k, m in options.methods().items()}
        for name, method in options.methods().items():
            array = segment.segment(mosaic.levels[0], method=method, pixel_um=mosaic.pixel_um)
            scope.compute.gpu = context.wants_gpu(method, "segment")
            store.write_label(
                array,
                mosaic.path,
                name,
                compute=scope.compute,
                overwrite=scope.starts_anew,
            )
            scope.compute.gpu = False
            store.write_pyramid(mosaic.path, compute=scope.compute, label=name)
        opened = store.open_mosaic(mosaic.path)
        return {name: opened.label(name) for name in options.methods()}


def analyse_stage(
    context: Context, mosaic: store.Mosaic, labels: dict[str, da.Array]
) -> pd.DataFrame | None:
    """The table of cells; also profile.csv and, with hardness data, correlation and models."""
    options = context.config.analyse
    with context.stage("analyse") as scope:
        if options is None:
            return None
        cells = analyse.analyse(
            mosaic.levels[0],
            labels,
            grid=options.grid,
            options=options,
            pixel_um=mosaic.pixel_um,
            compute=scope.compute,
        )
        write = store.write_table
        write(cells, context.folder.tables, "cells")
        profile = analyse.profile(cells, band_um=options.band_um)
        write(profile, context.folder.tables, "profile")
        if options.hardness is not None:
            hardness = hardness_file(options, context.order.base)
            table = analyse.correlate(profile, hardness, options=options.hardness)
            write(table, context.folder.tables, "correlation")
            points = analyse.correlation_points(profile, hardness, options=options.hardness)
            required = ("x_um", "hardness")
            write(points, context.folder.tables, "correlation_points", columns=required)
            models = analyse.fit_models(points, options.hardness.model_measures)
            write(models, context.folder.tables, "models", columns=("model", "measures", "q2"))
    return cells


def report_stage(context: Context) -> Path:
    """Figures and report.html, made from the run folder alone."""
    options = context.config.report
    with context.stage("report"):
        return write_report(context.folder.path, options=options)


def walk(context: Context) -> Iterator[str]:
    """Run stage after stage, giving the name of each one that is done; stop when you like."""
    raw = frames_stage(context)
    yield "frames"
    graph = register_stage(context, raw)
    yield "register"
    layout = solve_stage(context, raw, graph)
    check_stitching(context)
    yield "solve"
    method = context.config.denoise
    if "train" in context.config.stages:
        method = train_stage(context, raw, method)
        yield "train"
    pictures = denoise_stage(context, raw, layout, method)
    yield "denoise"
    blend_stage(context, pictures, layout)
    yield "blend"
    yield from walk_on_from_mosaic(context)


def walk_on_from_mosaic(context: Context) -> Iterator[str]:
    """The stages that follow once level 0 of the mosaic lies in the run folder."""
    mosaic = pyramid_stage(context)
    yield "pyramid"
    labels = segment_stage(context, mosaic)
    yield "segment"
    analyse_stage(context, mosaic, labels)
    yield "analyse"
    report_stage(context)
    yield "report"
