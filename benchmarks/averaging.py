"""What averaging further looks onto a taken frame gains and costs, on simulated frames.

`--looks` pictures per place: the frame taken and as many others less one, one step of the
moving stage from each other, tracked to +-2 px. Against the noise-free rendering of the frame's
corner, in the part that all of them show: noise sigma before and after, its factor, what the
result itself states for the whole frame, the share of the lamellae's modulation that is left
(as in denoising.py), the mean error in grey levels of the 8-bit range, CPU seconds for a frame.

    python benchmarks/averaging.py --noise 25 --looks 6 --places 2
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from measure import cpu_seconds, peak_mib, show

from cemi_dask.frames.average import LookPlace, average_looks
from cemi_dask.resample import shift_rows
from cemi_dask.simulate import Microscope, Specimen

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
CHANGES = {"brightness drift": {"drift": 0.03}, "sheared looks": {"shear": 0.02}}


if __name__ == "__main__":
    main()
