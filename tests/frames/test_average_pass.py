"""`frames.average: motion` through a whole scan: less noise, the same places, bounded memory."""

from __future__ import annotations

import itertools
import json
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tifffile import imwrite

from cemi_dask.frames import (
    InputOptions,
    SelectionOptions,
    find_sources,
    lazy_frames,
    open_frames,
    prepare,
    rowscan,
    scan_source,
)
from cemi_dask.frames.averaging import SeenPictures
from cemi_dask.frames.looks import REACH, choose_looks
from cemi_dask.frames.row import RowFollower, Taken
from cemi_dask.frames.selection import Candidate
from cemi_dask.frames.shear import Sight
from cemi_dask.frames.sources import Source
from cemi_dask.frames.texture import sharpness
from cemi_dask.frames.video import Picture, VideoIndex, decode_video
from cemi_dask.simulate import Recording, SimulateOptions, simulate_videos
from tests.frames.recordings import HEIGHT, WIDTH, row_frames, specimen, write_video

MOTION = SelectionOptions(average="motion")
X = list(range(0, 901, 60))  # 6.4 pictures per place
INDEX = VideoIndex((), (), (), (), frozenset(), 0)


def source_of(path: Path) -> Source:
    options = InputOptions(paths=(str(path),), pixel_um=0.2)
    return prepare(find_sources(options), options)[0]


def scanned(
    source: Source, options: SelectionOptions = MOTION
) -> tuple[dict[str, Any], list[dict[str, Any]], list[np.ndarray]]:
    """(scan, records of the frames taken, their pixels)."""
    pixels: list[np.ndarray] = []
    scan = scan_source(source, options, sink=pixels.append)
    return scan, [r for r in scan["records"] if r["taken"]], pixels


@pytest.mark.parametrize("kind", ["ffv1", "mjpeg"])
def test_noise_falls_and_frames_stay_where_they_are(tmp_path: Path, kind: str) -> None:
    source = source_of(write_video(tmp_path, row_frames(X), kind))
    _, plain, _ = scanned(source, SelectionOptions())
    scan, records, pixels = scanned(source)
    ground = specimen(max(X) + WIDTH)
    for name in ("source_index", "x_nominal_px", "y_nominal_px", "shear"):
        assert [r[name] for r in records] == [r[name] for r in plain]
    factors = []
    for record, picture in zip(records, pixels, strict=True):
        left = X[record["source_index"]]
        error = picture - ground[20 : 20 + HEIGHT, left : left + WIDTH]
        # What the pass states of itself is what is there: 5 % for so few pixels, and for JPEG.
        assert record["noise_after"] == pytest.approx(error.std(), rel=0.05)
        assert record["sharpness"] == sharpness(picture)
        factors.append(record["noise_before"] / record["noise_after"])
    # A row's first and last frame have neighbours on one side only.
    assert min(factors[1:-1]) >= 2.0
    assert min(factors) >= 1.4
    assert any("averaging lowered the noise from 2" in note for note in scan["notes"])


def test_scans_of_a_torn_screen_are_averaged(tmp_path: Path) -> None:
    options = SimulateOptions(
        rows=1, frames_per_row=4, looks=16, frame_shape=(256, 384), codec="mjpeg", seed=4,
        recording=Recording(scan_frames=2.37, still_start=3),
    )  # fmt: skip
    made = simulate_videos(tmp_path, options)
    source = source_of(made.files[0])
    _, records, pixels = scanned(source)
    assert any(r["upper"] for r in records)
    factors = [r["noise_before"] / r["noise_after"] for r in records if r["noise_after"]]
    assert len(factors) >= 3
    assert np.median(factors) >= 2.0
    truth = made.table("truth").set_index("source_index")
    at = truth.loc[[r["source_index"] for r in records], ["x_px", "y_px"]].to_numpy()
    off = np.array([[r["x_nominal_px"], r["y_nominal_px"]] for r in records]) - at
    # The shear of these small, fast frames is 0.1, which noise lets one know to some 0.001.
    assert np.abs(off - np.median(off, axis=0)).max() < 0.3
    # Looks are complete scans too: their parts are told, so that they are found again.
    assert any(len(look["parts"]) == 2 for r in records for look in r["averaged"])
    lazy = lazy_frames([source], [json.loads(json.dumps(scan_source(source, MOTION)))])
    assert np.array_equal(lazy.compute(scheduler="synchronous"), np.stack(pixels))


@pytest.mark.parametrize("kind", ["ffv1-16", "mjpeg", "h264"])
def test_lazy_frames_equal_those_of_the_pass(tmp_path: Path, kind: str) -> None:
    pictures = row_frames(X[:9])
    if kind == "ffv1-16":
        pictures = [picture.astype(np.uint16) * 200 for picture in pictures]
    path = write_video(tmp_path, pictures, kind)
    _, records, pixels = scanned(source_of(path))
    frames = open_frames(
        path, selection=MOTION.model_copy(update={"flat_field": "none"}), pixel_um=0.2
    )
    assert frames.table["looks"].tolist() == [r["looks"] for r in records]
    assert frames.table["looks"].min() > 3
    assert np.array_equal(frames.data.compute(scheduler="synchronous"), np.stack(pixels))
    assert frames.data.name != open_frames(path, pixel_um=0.2).data.name


def test_the_shading_is_that_of_the_averaged_frames(tmp_path: Path) -> None:
    source = source_of(write_video(tmp_path, row_frames(X[:9])))
    plain, averaged = scan_source(source, SelectionOptions()), scan_source(source, MOTION)
    assert averaged["shading"]["frames"] == plain["shading"]["frames"]
    assert averaged["shading"] != plain["shading"]


def test_repeated_pictures_are_no_looks(tmp_path: Path) -> None:
    pictures = row_frames(X[:9])
    _, once, pixels = scanned(source_of(write_video(tmp_path, pictures)))
    (tmp_path / "again").mkdir()
    repeated = [picture for picture in pictures for _ in range(3)]
    _, thrice, others = scanned(source_of(write_video(tmp_path / "again", repeated)))
    assert [r["source_index"] for r in thrice] == [3 * r["source_index"] for r in once]
    assert [r["looks"] for r in thrice] == [r["looks"] for r in once]
    assert np.array_equal(pixels, others)


def test_blank_pictures_are_no_looks(tmp_path: Path) -> None:
    _, records, _ = scanned(source_of(write_video(tmp_path, row_frames(X, blank=[3, 7, 8]))))
    used = {look["parts"][0][0] for r in records for look in r["averaged"]}
    assert used
    assert not used & {3, 7, 8}


def test_a_lone_picture_is_left_as_it_is(tmp_path: Path) -> None:
    picture = row_frames([0])
    scan, records, pixels = scanned(source_of(write_video(tmp_path, picture)))
    assert np.array_equal(pixels, picture)
    assert (records[0]["looks"], records[0]["noise_after"]) == (1, None)
    assert any("nothing was averaged" in warning for warning in scan["warnings"])


def test_tiles_are_left_as_they_are(tmp_path: Path) -> None:
    for number, picture in enumerate(row_frames([0, 200])):
        imwrite(tmp_path / f"tile_r0_c{number}.tif", picture)
    source = source_of(tmp_path)
    scan, records, pixels = scanned(source)
    assert np.array_equal(pixels, scanned(source, SelectionOptions())[2])
    assert [r["looks"] for r in records] == [1, 1]
    assert any("does nothing for tiles" in note for note in scan["notes"])


# ---------------------------------------------------------------- which looks, and where


def follower_of(sights: Sequence[Sight], taken: Sequence[int]) -> RowFollower:
    """A follower that has matched `sights` and took those of the numbers `taken`."""
    follower = RowFollower((100, 200), SelectionOptions(), None)
    follower.sights = list(sights)
    follower.taken = [
        Taken(Candidate(Picture(s.source_index), *_place(s), 0.5), 0, 1.0)
        for s in sights
        if s.source_index in taken
    ]
    return follower


def _place(sight: Sight) -> tuple[float, float, float]:
    return sight.x_px, sight.y_px, sight.shear


def seen_pictures(count: int) -> SeenPictures:
    seen = SeenPictures(INDEX)
    for number in range(count):
        seen.add(Picture(number, time_s=float(number), image=np.zeros((1, 1), np.uint8)))
    return seen


def test_pictures_between_matched_ones_are_placed_by_even_motion() -> None:
    sights = [Sight(float(n), n, 10.0 * n, 0.5 * n, 0.0, 0) for n in (0, 4, 8, 12)]
    (plan,) = seen_pictures(13).plan(follower_of(sights, [4]), looks=12)
    assert [look.number for look in plan.looks] == [n for n in range(13) if n != 4]
    for look in plan.looks:
        assert look.dx_px == pytest.approx(10.0 * (look.number - 4))
        assert look.dy_px == pytest.approx(0.5 * (look.number - 4))


def test_pictures_between_which_the_stage_stopped_are_no_looks() -> None:
    # It stops on the way from 80 to 100 px; neither the motion before nor the rest lead there.
    x = {0: 0.0, 4: 40.0, 8: 80.0, 12: 100.0, 16: 100.0}
    sights = [Sight(float(n), n, at, 0.0, 0.0, 0) for n, at in x.items()]
    (plan,) = seen_pictures(17).plan(follower_of(sights, [4]), looks=16)
    assert {look.number for look in plan.looks} == {*range(17)} - {4, 9, 10, 11}


def test_stretches_of_a_row_are_not_mixed() -> None:
    sights = [Sight(float(n), n, 10.0 * n, 0.0, 0.0, n > 4) for n in range(10)]
    (plan,) = seen_pictures(10).plan(follower_of(sights, [3]), looks=12)
    assert [look.number for look in plan.looks] == [0, 1, 2, 4]


def test_places_are_given_as_a_sheared_frame_shows_them() -> None:
    positions = np.array([[0.0, 0.0], [3.0, 10.0]])
    (plan,) = choose_looks(positions, [0], (100, 200), shear=np.array([0.1, 0.1]))
    (look,) = plan.looks
    assert (look.dx_px, look.dy_px, look.shear) == (pytest.approx(2.0), 10.0, 0.0)


# ---------------------------------------------------------------- memory


def most_alive(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Recorded pictures that were in memory at once, and how many were averaged in all."""
    alive: set[int] = set()
    most, numbers = 0, itertools.count()

    def counted(*arguments: Any) -> Iterator[Picture]:
        nonlocal most
        for picture in decode_video(*arguments):
            number = next(numbers)
            alive.add(number)
            weakref.finalize(picture.image, alive.discard, number)
            most = max(most, len(alive))
            yield picture

    monkeypatch.setattr(rowscan, "decode_video", counted)
    _, records, _ = scanned(source_of(path))
    return most, sum(r["looks"] for r in records)


def test_pictures_in_memory_do_not_grow_with_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for number in (60, 160):
        (tmp_path / str(number)).mkdir()
        pictures = [p[:96, :192] for p in row_frames([16 * n for n in range(number)])]
        path = write_video(tmp_path / str(number), pictures)
        with monkeypatch.context() as patch:
            counts.append(most_alive(path, patch))
    (short, few), (long, many) = counts
    assert many > 2 * few
    assert long <= short + 4
    assert long <= 2 * REACH
