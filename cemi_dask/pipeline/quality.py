"""How good a run's stitching is by its tables; a run fails where that is beyond its limits."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

from cemi_dask import solve, store
from cemi_dask.errors import QualityError
from cemi_dask.pipeline.context import Context
from cemi_dask.pipeline.limits import FailIf

# What to do where a limit is passed.
_ADVICE = {
    "rejected_frames": "frames.csv states each one's reason",
    "islands": "see component in positions.csv; give positions, rows and columns, or overlap",
    "rms_residual_px": "see residual_px in pairs.csv; distorted frames never fit all pairs",
    "max_sigma_px": "frames that hang on few or poor pairs need more overlap or less noise",
    "loop_closure_px": "some of these pairs in pairs.csv are wrong, or these frames distorted",
    "ambiguous_pairs": "periodic texture; more overlap or stage positions tell what holds",
}


def check_stitching(context: Context) -> None:
    """Count what was rejected and why, and hold the stitching against `stitch.fail_if`.

    Not part of the stage solve, so that a changed limit redoes nothing. Raises QualityError.
    """
    limits = context.config.stitch.fail_if
    frames, pairs, positions = (
        store.read_table(context.folder.tables, name) for name in ("frames", "pairs", "positions")
    )
    loops = solve.loop_closures(pairs)
    numbers = stitching_numbers(frames, pairs, positions, loops)
    context.facts["reasons"] = reasons(frames, pairs)
    context.facts["stitching"] = stitching_facts(numbers)
    if blind := unchecked(numbers, limits):
        context.warn(
            f"stitch.fail_if: nothing tells {', '.join(blind)}, for lack of accepted pairs or of "
            "loops among them; that limit is not checked."
        )
    refuse_beyond(numbers, limits, loops)


def stitching_numbers(
    frames: pd.DataFrame, pairs: pd.DataFrame, positions: pd.DataFrame, loops: pd.DataFrame
) -> dict[str, float]:
    """What each limit of `FailIf` is compared with, from a run's tables and its pairs' loops.

    NaN for what nothing tells: residuals without accepted pairs, loops where there are none.
    """
    counted = frames[frames["reason"] != "duplicate"]
    placed = positions[positions["used"]]
    residual = pairs.loc[pairs["status"] == "ok", "residual_px"]
    sigma = placed[["sigma_x_px", "sigma_y_px"]].to_numpy(np.float64)
    numbers = {
        "rejected_frames": (~counted["used"].astype(bool)).mean(),
        "islands": placed["component"].nunique(),
        "rms_residual_px": np.sqrt((residual**2).mean()),
        "max_sigma_px": sigma.max(initial=0.0),
        "loop_closure_px": loops["closure_px"].max(),
        "ambiguous_pairs": (pairs["status"] == "ambiguous").mean(),
    }
    return {name: float(value) for name, value in numbers.items()}


def stitching_facts(numbers: dict[str, float]) -> dict[str, float | int | None]:
    """The numbers for run.json; None for what is unknown or has no bound."""
    facts = {name: value if isfinite(value) else None for name, value in numbers.items()}
    return {**facts, "islands": int(numbers["islands"])}


def reasons(frames: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How many frames are not used, and how many pairs not ok, by reason, most often first."""
    lost = frames.loc[~frames["used"].astype(bool), "reason"].replace("", "not stated")
    weak = pairs.loc[pairs["status"] != "ok", "reason"]
    return {
        name: {str(reason): int(n) for reason, n in column.value_counts().items()}
        for name, column in (("frames", lost), ("pairs", weak))
    }


def counts_line(summary: dict[str, Any]) -> str:
    """Used and refused frames and pairs in a line, from run.json; empty before they are known."""
    if "reasons" not in summary:
        return ""
    pairs = summary["pairs"]
    good = {"frames": summary["frames"]["used"], "pairs": pairs.get("ok", 0)}
    bad = {"frames": summary["frames"]["rejected"], "pairs": sum(pairs.values()) - good["pairs"]}
    told = []
    for name, word in (("frames", "used"), ("pairs", "ok")):
        parts = ", ".join(f"{n} {reason}" for reason, n in summary["reasons"][name].items())
        told.append(
            f"{good[name]} {name} {word}, {bad[name]} not" + (f" ({parts})" if parts else "")
        )
    return "; ".join(told)


def unchecked(numbers: dict[str, float], limits: FailIf) -> list[str]:
    """The limits that were set and that nothing could be compared with."""
    return [name for name, _ in _given(limits) if np.isnan(numbers[name])]


def refuse_beyond(numbers: dict[str, float], limits: FailIf, loops: pd.DataFrame) -> None:
    """Raise QualityError where a number is above its limit; the message names every one."""
    beyond = []
    for name, limit in _given(limits):
        if numbers[name] > limit:
            where = f"{_worst_loop(loops)}: " if name == "loop_closure_px" else ""
            beyond.append(
                f"{name} is {numbers[name]:.4g}, the limit {limit:g} ({where}{_ADVICE[name]})"
            )
    if beyond:
        raise QualityError(
            f"The stitching is worse than stitch.fail_if allows: {'; '.join(beyond)}. The tables "
            "are kept, and `cemi report` on the run folder draws them. Correct the cause, or raise "
            "the limit, and run the same command again."
        )


def _given(limits: FailIf) -> list[tuple[str, float]]:
    return [(name, limit) for name, limit in limits if limit is not None]


def _worst_loop(loops: pd.DataFrame) -> str:
    return f"frames {loops['frames'].to_numpy()[loops['closure_px'].to_numpy().argmax()]}"
