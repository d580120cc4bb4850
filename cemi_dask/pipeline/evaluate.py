"""`cemi evaluate denoise`: methods on pairs of pictures, measured and shown side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from cemi_dask import denoise, segment, store
from cemi_dask.errors import CemiError, ConfigError, InputError
from cemi_dask.methods import M, Registry
from cemi_dask.pipeline.evaluate_fields import Field, Picture
from cemi_dask.report.strip_figure import Panel, picture_strip

NOISY = "(noisy)"
Lpips = Callable[..., float]


@dataclass(frozen=True)
class Evaluation:
    """`rows`: one row per picture and method, noisy first; `notes`: what to know of them.

    Columns: picture, method, the fields of `Measures`, bcc_error_points (dark-phase area
    fraction of the picture less the reference's, percentage points, Bradley's threshold as
    in Fig. S1 of the CEMI paper), lpips (NaN without weights), cpu_s (for one picture).
    """

    rows: pd.DataFrame
    notes: tuple[str, ...]

    def summary(self) -> pd.DataFrame:
        """Means over the pictures, one row per method in their order."""
        numbers = self.rows.drop(columns="picture")
        return numbers.groupby("method", sort=False).mean()


def parse_methods(texts: Iterable[str]) -> tuple[dict[str, denoise.Denoiser], list[str]]:
    """(label -> denoiser, notes) from names or YAML mappings; without any, all that work here.

    Raises ConfigError for an unknown method, a wrong option, or one given twice.
    """
    given = named_methods(texts, denoise.DENOISERS)
    if not given:
        return _all_that_work()
    return {label: method.located(Path.cwd()) for label, method in given.items()}, []


def named_methods(texts: Iterable[str], registry: Registry[M]) -> dict[str, M]:
    """label -> method from names or YAML mappings.

    Raises ConfigError for an unknown method, a wrong option, or one given twice.
    """
    methods: dict[str, M] = {}
    for text in texts:
        value = yaml_option(text, "--method")
        label = text if isinstance(value, str) else _label(value)
        if label in methods:
            raise ConfigError(f"--method {text!r} is given twice.")
        methods[label] = registry.parse(value)
    return methods


def yaml_option(text: str, option: str) -> Any:
    """A method's name or mapping from the text of a command's `option`."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{option} {text!r} is neither a name nor YAML: {error}") from error


def _label(value: dict[str, Any]) -> str:
    options = [f"{key} {option}" for key, option in value.items() if key != "method"]
    return ", ".join([str(value.get("method")), *options])


def _all_that_work() -> tuple[dict[str, denoise.Denoiser], list[str]]:
    """Every method that denoises a small frame with its defaults, and why others do not."""
    methods, notes = {}, []
    trial = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    for name in denoise.DENOISERS.classes():
        try:
            method = denoise.DENOISERS.parse(name)
            method(trial)
        except CemiError as error:
            notes.append(f"{name} is left out: {error}")
        else:
            methods[name] = method
    return methods, notes


def evaluate_denoise(
    fields: Iterable[Field],
    methods: dict[str, denoise.Denoiser],
    out: Path,
    *,
    lpips_weights: Path | None = None,
) -> Evaluation:
    """Run all methods on all fields; writes metrics.csv and strips/NAME.png into `out`.

    Fields whose pair was refused are named in the notes and left out. Raises InputError
    where none is left.
    """
    lpips = denoise.Lpips(lpips_weights) if lpips_weights else None
    rows: list[dict[str, Any]] = []
    notes = [] if lpips else [denoise.LPIPS_UNAVAILABLE]
    for field in fields:
        if not np.isfinite(field.reference).any():
            reason = field.alignment.reason if field.alignment else "its reference is empty"
            notes.append(f"{field.name} is left out: {reason}")
            continue
        if field.alignment and field.alignment.geometry:
            notes.append(f"{field.name}: {_told(field.alignment, field.alignment.geometry)}")
        found, panels = _measure_field(field, methods, lpips)
        rows += found
        with store.replacing(out / "strips" / f"{field.name}.png") as temporary:
            temporary.write_bytes(picture_strip(panels))
    if not rows:
        raise InputError("No pair of pictures is left to evaluate. " + " ".join(notes))
    table = pd.DataFrame(rows)
    with store.replacing(out / "metrics.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return Evaluation(table, tuple(notes))


def _told(alignment: denoise.Alignment, geometry: denoise.PairGeometry) -> str:
    dx, dy = geometry.shift_px
    return (
        f"aligned by {dx:.2f}, {dy:.2f} px (x, y) and {geometry.rotation_deg:.3f} degrees, "
        f"correlation {alignment.score:.2f}, {alignment.agreement:.0%} of the blocks agree."
    )


def _measure_field(
    field: Field, methods: dict[str, denoise.Denoiser], lpips: Lpips | None
) -> tuple[list[dict[str, Any]], list[Panel]]:
    ruler = denoise.Ruler(
        field.noisy,
        field.reference,
        grey_range=_grey_range(field),
        reference_sigma=field.reference_sigma,
    )
    pictures: dict[str, tuple[Picture, float]] = {NOISY: (field.noisy, 0.0)}
    for label, method in methods.items():
        start = time.process_time()
        pictures[label] = method(field.noisy), time.process_time() - start
    bcc_pct = _bcc_pct(field.reference, ruler.valid)
    rows, panels = [], []
    for label, (picture, seconds) in pictures.items():
        measures = ruler.measure(picture)
        distance = float("nan")
        if lpips:
            distance = lpips(ruler.filled(picture), ruler.reference, grey_range=ruler.grey_range)
        rows.append(
            {"picture": field.name, "method": label}
            | asdict(measures)
            | {
                "bcc_error_points": _bcc_pct(picture, ruler.valid) - bcc_pct,
                "lpips": distance,
                "cpu_s": seconds,
            }
        )
        caption = f"{label}\n{measures.psnr_db:.1f} dB, SSIM {measures.ssim:.3f}"
        panels.append(Panel(picture, caption))
    return rows, [*panels, Panel(field.reference, "reference")]


def _grey_range(field: Field) -> float:
    """255 for 8-bit pictures; for others what the reference spans, without 0.1 % at the ends."""
    if field.noisy.dtype == np.uint8:
        return 255.0
    low, high = np.nanpercentile(field.reference, [0.1, 99.9])
    return max(float(high - low), 1e-9)


def _bcc_pct(picture: Picture, valid: npt.NDArray[np.bool_]) -> float:
    """Dark-phase area (per cent of the valid pixels) by Bradley's threshold."""
    grey = np.where(valid, picture, np.nan).astype(np.float32)
    return 100 * float(segment.Bradley()(grey).sum()) / int(valid.sum())
