"""What the texts of command-line options mean, as values of a config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cemi_dask.errors import ConfigError


def pair(text: str, option: str) -> tuple[int, int]:
    """Two whole numbers from text such as 1024x690."""
    first, _, second = text.lower().partition("x")
    try:
        numbers = int(first), int(second)
    except ValueError as error:
        raise ConfigError(f"{option} {text!r} is not of the form 19x243.") from error
    if min(numbers) < 1:
        raise ConfigError(f"{option} {text!r} needs two numbers of at least 1.")
    return numbers


def tile_options(pattern: str | None, positions: Path | None, unit: str | None) -> dict[str, Any]:
    """The section input.tiles from --pattern, --positions and --position-unit."""
    options: dict[str, Any] = {}
    if pattern:
        options["pattern"] = pattern
    if positions:
        tags = str(positions) == "tags"
        options["positions"] = "tags" if tags else str(positions.resolve())
        options["position_unit"] = unit
    return options


def crop_option(text: str) -> Any:
    """The value of input.crop from --crop."""
    if text in {"auto", "none"}:
        return text
    try:
        top, bottom, left, right = (int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--crop {text!r} is not 'auto', 'none' or four numbers top,bottom,left,right."
        ) from error
    return {"top": top, "bottom": bottom, "left": left, "right": right}


def limits(texts: Sequence[str]) -> dict[str, str]:
    """Limits by name from texts such as islands=1; the config checks names and numbers."""
    parts = [text.partition("=") for text in texts]
    for name, sign, value in parts:
        if not (name and sign and value):
            raise ConfigError(f"--fail-if {name + sign + value!r} is not of the form islands=1.")
    return {name.strip(): value.strip() for name, _, value in parts}
