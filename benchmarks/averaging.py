"""What averaging further looks onto a taken frame gains and costs, on simulated frames.

`--looks` pictures per place: the frame taken and as many others less one, one step of the
moving stage from each other, tracked to +-2 px. Against the noise-free rendering of the frame's
corner, in the part that all of them show: noise sigma before and after, its factor, what the
result itself states for the whole frame, the share of the lamellae's modulation that is left
(as in denoising.py), the mean error in grey levels of the 8-bit range, CPU seconds for a frame.

The second table is of simulated videos, read by `scan_source` with and without
`frames.average: motion`: the stage passes every place in `--looks` pictures, plain or as a torn
screen shows them. Figures are medians over the frames taken, of which all pixels count; rms is
of the tracked positions against the truth.

    python benchmarks/averaging.py --noise 25 --looks 6 --places 2
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from measure import cpu_seconds, peak_mib, show

from cemi_dask.frames import InputOptions, SelectionOptions, find_sources, prepare, scan_source
from cemi_dask.frames.average import LookPlace, average_looks
from cemi_dask.resample import shift_rows
from cemi_dask.simulate import Microscope, Recording, SimulateOptions, Specimen, simulate_videos
from cemi_dask.simulate.scans import render_scan
from cemi_dask.simulate.stage import video_path

Frame = npt.NDArray[Any]

STEP_PX = 95.0  # of the stage from one recorded picture to the next: 570 px pitch, 6 looks


@dataclass
class Scene:
    """A frame taken, its further looks with their believed and true places, and the truth."""

    taken: Frame
    looks: list[Frame]
    places: list[LookPlace]
    clean: Frame
    lamellar: Frame
    common: tuple[slice, slice]
    scale: float = 1.0


def main() -> None:
    """Print one row per case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--noise", type=float, default=25.0, help="sigma at mid grey, of 255")
    parser.add_argument("--looks", type=int, default=6, help="per place, the taken one included")
    parser.add_argument("--places", type=int, default=2, help="frames averaged per case")
    parser.add_argument("--repeat", type=int, default=1, help="timed calls per frame")
    parser.add_argument("--size", default="1024x690", help="WIDTHxHEIGHT, px")
    parser.add_argument("--frames", type=int, default=8, help="per video, at half a width's pitch")
    parser.add_argument("--seed", type=int, default=3, help="of the videos")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = (int(part) for part in given.size.split("x"))
    rows = []
    for name, change in CASES.items():
        scenes = [
            change(scene(place, (height, width), given.noise, given.looks, **CHANGES.get(name, {})))
            for place in range(given.places)
        ]
        rows.append([name, *figures(scenes, given.repeat)])
    show(
        ["case", "looks", "sigma", "after", "factor", "stated", "modulation", "bias", "CPU s"], rows
    )
    print()
    made = [
        [name, *video_figures(name, scan_frames, given, (height, width))]
        for name, scan_frames in VIDEOS.items()
    ]
    show(
        ["video", "frames", "looks", "sigma", "after", "factor", "least", "stated", "modulation",
         "bias", "CPU s", "more CPU s", "rms px", "rms px after"],
        made,
    )  # fmt: skip
    print(f"{given.size} px, sigma {given.noise:g}, peak memory {peak_mib():.0f} MiB")


@dataclass(frozen=True)
class Leaning:
    """A specimen as it is scanned while the stage moves: row y is displaced by shear * y."""

    specimen: Specimen
    shear: float

    @property
    def pixel_um(self) -> float:
        """Size of a pixel."""
        return self.specimen.pixel_um

    def image(self, y0: float, x0: float, shape: tuple[int, int], *, psf_sigma_px: float) -> Frame:
        """As `Specimen.image`, sheared about the window's middle line."""
        rows = self.shear * (np.arange(shape[0]) - (shape[0] - 1) / 2)
        pad = int(np.abs(rows).max()) + 12
        wide = self.specimen.image(
            y0, x0 - pad, (shape[0], shape[1] + 2 * pad), psf_sigma_px=psf_sigma_px
        )
        return np.ascontiguousarray(shift_rows(wide, -rows)[:, pad:-pad])


def scene(
    place: int,
    shape: tuple[int, int],
    sigma: float,
    looks: int,
    *,
    drift: float = 0.0,
    shear: float = 0.0,
) -> Scene:
    """A place with its looks; `drift`: brightness change, `shear`: px/px from look to frame."""
    rng = np.random.default_rng(place)
    specimen, microscope = Specimen(seed=1), Microscope(noise_sigma=sigma)
    y, x = 500.0 + 900 * place, 20_000.3 + 35_000 * place
    steps = sorted(range(-(looks // 2), looks), key=abs)[1:looks]
    true = np.array([(STEP_PX * k, 0.02 * k) for k in sorted(steps)])
    true += rng.normal(0, 0.5, true.shape)
    believed = true + rng.uniform(-2, 2, true.shape)
    clean = specimen.image(y, x, shape, psf_sigma_px=microscope.psf_sigma_px)
    clean = clean * microscope.shading(shape)
    taken = microscope.record(specimen, (y, x), shape, gain=1.0, rng=rng)
    leaning: Any = Leaning(specimen, shear)
    pictures = [
        microscope.record(leaning, (y + dy, x + dx), shape, gain=1 + drift * (k + 1), rng=rng)
        for k, (dx, dy) in enumerate(true)
    ]
    places = [LookPlace(k, float(dx), float(dy), shear) for k, (dx, dy) in enumerate(believed)]
    left, right = max(0.0, true[:, 0].max()) + 12, shape[1] + min(0.0, true[:, 0].min()) - 12
    common = slice(16, shape[0] - 16), slice(int(left), int(right))
    lamellar = specimen.truth_at(y, x, shape)["lamellar"]
    return Scene(taken, pictures, places, clean, lamellar, common)


def figures(scenes: list[Scene], repeat: int) -> list[Any]:
    """Medians of what the table shows."""
    rows = []
    for s in scenes:
        found = average_looks(s.taken, s.looks, places=s.places)
        seconds = cpu_seconds(
            lambda s=s: average_looks(s.taken, s.looks, places=s.places), repeat=repeat
        )
        before, _, _ = quality(s.taken / s.scale, s)
        after, modulation, bias = quality(found.image / s.scale, s)
        rows.append(
            [found.looks, before, after, before / after, found.gain, modulation, bias, seconds]
        )
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def quality(picture: Frame, s: Scene) -> tuple[float, float, float]:
    """(noise sigma, modulation left, mean error) of a picture where all looks show the place."""
    error = (picture - s.clean)[s.common]
    a, b = (v - cv2.GaussianBlur(v, (0, 0), 4) for v in (picture.astype(np.float32), s.clean))
    inside = np.zeros(picture.shape, bool)
    inside[s.common] = True
    inside &= s.lamellar
    kept = float((a * b)[inside].sum() / (b * b)[inside].sum())
    return float(error.std()), kept, float(error.mean())


# ---------------------------------------------------------------- videos


def video_figures(
    name: str, scan_frames: float | None, given: argparse.Namespace, shape: tuple[int, int]
) -> list[Any]:
    """One row of the table of videos."""
    pitch = shape[1] / 2
    options = SimulateOptions(
        rows=1,
        frames_per_row=given.frames,
        looks=max(1, round(given.looks / 2 * (scan_frames or 1))),
        pitch_x_px=pitch,
        frame_shape=shape,
        noise_sigma=given.noise,
        codec=name.split()[-1],
        seed=given.seed,
        recording=Recording(scan_frames=scan_frames),
    )
    with tempfile.TemporaryDirectory() as folder:
        made = simulate_videos(Path(folder), options)
        plain, averaged = (read_row(str(made.files[0]), average) for average in ("none", "motion"))
        truth = made.table("truth").set_index("source_index")
    rows = []
    for record, before, after in zip(averaged.records, plain.frames, averaged.frames, strict=True):
        scene = true_scene(made.options, record["source_index"], truth)
        sigma = quality(before, scene)[0]
        left, modulation, bias = quality(after, scene)
        stated = record["noise_before"] / record["noise_after"] if record["looks"] > 1 else 1.0
        rows.append([record["looks"], sigma, left, sigma / left, stated, modulation, bias])
    columns = list(zip(*rows, strict=True))
    medians = [statistics.median(column) for column in columns]
    return [
        len(rows),
        *medians[:4],
        min(columns[3]),
        *medians[4:],
        averaged.seconds,
        averaged.seconds - plain.seconds,
        plain.rms_px(truth),
        averaged.rms_px(truth),
    ]


@dataclass
class Row:
    """What `scan_source` gave: pixels and records of the frames taken, CPU seconds per frame."""

    frames: list[Frame]
    records: list[dict[str, Any]]
    seconds: float

    def rms_px(self, truth: pd.DataFrame) -> float:
        """Distance of the tracked positions from the truth, one translation removed."""
        found = np.array([[r["x_nominal_px"], r["y_nominal_px"]] for r in self.records])
        at = truth.loc[[r["source_index"] for r in self.records], ["x_px", "y_px"]]
        off = found - at.to_numpy()
        return float(np.sqrt(((off - off.mean(axis=0)) ** 2).sum(axis=1).mean()))


def read_row(path: str, average: str) -> Row:
    """A row's video read with or without averaging."""
    options = InputOptions(paths=(path,), pixel_um=0.2)
    source = prepare(find_sources(options), options)[0]
    frames: list[Frame] = []
    selection = SelectionOptions.model_validate({"average": average})
    before = time.process_time()
    found = scan_source(source, selection, sink=frames.append)
    seconds = time.process_time() - before
    records = [r for r in found["records"] if r["taken"]]
    return Row(frames, records, seconds / len(records))


def true_scene(options: SimulateOptions, number: int, truth: pd.DataFrame) -> Scene:
    """The noise-free picture of a recorded frame (of the scan it completes), and its lamellae."""
    path, shape = video_path(options.plan, options.microscope, 0), options.frame_shape
    psf = options.microscope.psf_sigma_px
    y, x = (float(truth.loc[number, key]) for key in ("y_px", "x_px"))
    gain, lean = float(truth.loc[number, "gain"]), np.zeros(shape[0])
    if path.scans is None:
        clean = options.specimen.image(y, x, shape, psf_sigma_px=psf)
    else:
        scan = int(truth.loc[number, "scan"])
        lines = path.scans.lines_x(scan)
        y, x = path.scans.corner(scan)
        clean = render_scan(options.specimen, (y, x), lines, shape[1], psf_sigma_px=psf)
        gain, lean = float(path.scans.gain[scan + 1]), lines - x
    clean = clean * (gain * options.microscope.shading(shape))
    pad = int(np.ceil(np.abs(lean).max()))
    wide = options.specimen.truth_at(y, x - pad, (shape[0], shape[1] + 2 * pad))["lamellar"]
    starts = pad + np.rint(lean).astype(int)
    lamellar = np.stack(
        [row[start : start + shape[1]] for row, start in zip(wide, starts, strict=True)]
    )
    whole = slice(0, shape[0]), slice(0, shape[1])
    return Scene(clean, [], [], clean, lamellar, whole)


# ---------------------------------------------------------------- what is done to scenes


def as_mjpeg(s: Scene) -> Scene:
    """Every picture through JPEG at the quality of good MJPG recordings."""
    s.taken, s.looks = _jpeg(s.taken), [_jpeg(look) for look in s.looks]
    return s


def _jpeg(picture: Frame) -> Frame:
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE))


def as_16_bit(s: Scene) -> Scene:
    """Every picture times 200, uint16."""
    s.taken, s.scale = s.taken.astype(np.uint16) * 200, 200.0
    s.looks = [look.astype(np.uint16) * 200 for look in s.looks]
    return s


def with_bad(make: Callable[[list[Frame]], Frame]) -> Callable[[Scene], Scene]:
    """The second look replaced by what `make` turns the looks into."""

    def change(s: Scene) -> Scene:
        s.looks[1] = make(s.looks)
        return s

    return change


def _blank(looks: list[Frame]) -> Frame:
    grey = 118 + np.random.default_rng(9).normal(0, 25, looks[0].shape)
    return np.clip(grey, 0, 255).astype(np.uint8)


def _torn(looks: list[Frame]) -> Frame:
    return np.vstack([looks[2][:300], looks[1][300:]])


def _unrelated(looks: list[Frame]) -> Frame:
    rng = np.random.default_rng(9)
    return Microscope().record(Specimen(seed=1), (3000, 50_000), looks[0].shape, gain=1.0, rng=rng)


def _moved(looks: list[Frame]) -> Frame:
    return np.asarray(cv2.blur(looks[1], (5, 1)))


def _damaged(looks: list[Frame]) -> Frame:
    spoilt = looks[1].copy()
    spoilt[200:264, 300:700] = 255
    return spoilt


CASES: dict[str, Callable[[Scene], Scene]] = {
    "plain": lambda s: s,
    "MJPG": as_mjpeg,
    "brightness drift": lambda s: s,
    "16 bit": as_16_bit,
    "one blank": with_bad(_blank),
    "one torn": with_bad(_torn),
    "one unrelated": with_bad(_unrelated),
    "one blurred": with_bad(_moved),
    "one damaged": with_bad(_damaged),
    "sheared looks": lambda s: s,
}
VIDEOS = {"plain ffv1": None, "plain mjpeg": None, "torn ffv1": 2.37, "torn mjpeg": 2.37}
CHANGES = {"brightness drift": {"drift": 0.03}, "sheared looks": {"shear": 0.02}}


if __name__ == "__main__":
    main()
