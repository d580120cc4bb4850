"""The columns of a run's tables: a contract, because other people's scripts read them."""

from __future__ import annotations

# The columns that every release keeps. Tables may hold more, after or between these.
CONTRACT: dict[str, tuple[str, ...]] = {
    "frames": ("frame", "file", "source_index", "row", "time_s", "sharpness", "used"),
    "pairs": ("i", "j", "dx_px", "dy_px", "score", "status", "residual_px"),
    "positions": (
        "frame",
        "file",
        "source_index",
        "row",
        "x_px",
        "y_px",
        "sigma_x_px",
        "sigma_y_px",
        "component",
        "gain",
        "offset",
    ),
    "cells": (
        "row",
        "col",
        "x_um",
        "y_um",
        "width_um",
        "height_um",
        "bcc_fraction",
        "lamellar_fraction",
        "lamella_width_um",
        "valid_fraction",
    ),
    "profile": ("x_um", "bcc_fraction", "lamellar_fraction", "lamella_width_um"),
    "correlation": ("measure", "n", "pearson_r", "p_value", "ci_low", "ci_high"),
}
