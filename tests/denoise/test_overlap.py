"""Frames averaged with their neighbours: noise falls, structure stays, what differs is left out."""

from __future__ import annotations

from dataclasses import replace

import dask
import numpy as np
import pytest

from cemi_dask.denoise import DENOISERS, Denoiser, Overlap, denoise, estimate_noise_model
from cemi_dask.denoise.averaging import place_frame
from cemi_dask.distortion import Distortion
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.frameset import Frames
from cemi_dask.geometry import Layout
from cemi_dask.simulate import ScanField

SHAPE = (240, 320)
SIGMA = 25.0
ROWS, COLS = np.mgrid[: SHAPE[0], : SHAPE[1]]
BENT = ScanField(barrel_px=6.0, drift_px=3.0).on(SHAPE)
INSIDE = (slice(60, -60), slice(60, -60))  # what every neighbour below covers with full weight
# Four frames a few px from each other, all at fractions of a px.
X, Y = np.array([20.0, 27.3, 16.8, 29.6]), np.array([20.0, 25.4, 23.3, 11.3])


def lamellae(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A wave of 5.4 px and amplitude 1, at any place."""
    return np.sin(2 * np.pi * (0.8 * x + 0.6 * y) / 5.4)


def scene(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Lamellae of +-20 grey levels over slow waves of +-25."""
    return 120 + 20 * lamellae(y, x) + 25 * np.sin(2 * np.pi * x / 90) * np.sin(2 * np.pi * y / 70)


def places(layout: Layout, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of a frame lie in the mosaic, (y, x)."""
    lean = layout.shear[frame] * (ROWS - (SHAPE[0] - 1) / 2)
    bend = np.zeros((*SHAPE, 2))
    if layout.distortion is not None:
        bend = layout.distortion.at(COLS, ROWS)
    x = COLS + layout.x_px[frame] + lean + bend[..., 0]
    return ROWS + layout.y_px[frame] + bend[..., 1], x


def look(layout: Layout, frame: int, *, sigma: float = SIGMA, seed: int = 0) -> np.ndarray:
    """What a frame shows of the scene, with noise of its own, in its own grey levels (uint8)."""
    noise = np.random.default_rng((seed, frame)).normal(0, sigma, SHAPE)
    recorded = (scene(*places(layout, frame)) + noise - layout.offset[frame]) / layout.gain[frame]
    return np.clip(np.rint(recorded), 0, 255).astype(np.uint8)


def looks(layout: Layout, **options: float) -> Frames:
    return Frames.from_array(np.stack([look(layout, k, **options) for k in range(len(layout))]))


def first(frames: Frames, layout: Layout, **options: float) -> np.ndarray:
    """Frame 0 averaged with the others."""
    averaged = denoise(frames, method=Overlap(**options), layout=layout)
    return averaged.data[0].compute(scheduler="sync")


def error(picture: np.ndarray, layout: Layout) -> np.ndarray:
    """Difference to the noise-free frame 0."""
    return picture - scene(*places(layout, 0))


def contrast(picture: np.ndarray, layout: Layout) -> float:
    """Share of the lamellae's contrast that frame 0 has left."""
    wave = lamellae(*places(layout, 0))
    return float(2 * (picture * wave)[INSIDE].mean() / 20)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"shear": np.array([0.05, -0.05, 0.02, 0.05])},
        {"distortion": BENT},
        {"distortion": BENT, "shear": np.array([0.05, -0.05, 0.02, 0.05])},
        {"gain": np.array([1.0, 1.1, 0.9, 1.05]), "offset": np.array([0.0, -8.0, 6.0, 3.0])},
    ],
    ids=["plain", "sheared", "bent", "bent and sheared", "grey"],
)
def test_noise_falls_by_the_root_of_the_looks_and_lamellae_stay(
    count: int, changes: dict[str, np.ndarray]
) -> None:
    whole = Layout(X, Y, SHAPE, **changes)
    layout = whole.part(np.arange(count))
    averaged = first(looks(layout), layout)
    # Resampled noise is 5 % less than recorded noise; weights just below 1 cost as much at most.
    assert error(averaged, layout)[INSIDE].std() / SIGMA == pytest.approx(count**-0.5, rel=0.06)
    assert abs(error(averaged, layout)[INSIDE].mean()) < 0.4  # five standard deviations
    # Noise alone makes 0.008 of it.
    assert contrast(averaged, layout) == pytest.approx(1, abs=0.03)


def test_a_frame_of_less_noise_counts_more() -> None:
    layout = Layout(X[:2], Y[:2], SHAPE)
    quiet = look(layout, 1, sigma=10)
    averaged = first(Frames.from_array(np.stack([look(layout, 0), quiet])), layout)
    best = (25**-2 + 10**-2) ** -0.5
    assert error(averaged, layout)[INSIDE].std() == pytest.approx(best, rel=0.06)


@pytest.mark.parametrize("others", [1, 3])
def test_a_neighbour_with_a_wrong_place_is_not_mixed_in(others: int) -> None:
    layout = Layout(X, Y, SHAPE).part(np.arange(others + 1))
    frames = looks(layout)
    # Half a period of the lamellae: a mean of two would leave nothing of them.
    wrong = replace(layout, x_px=layout.x_px + np.eye(len(layout))[1] * 2.7 / 0.8)
    averaged = first(frames, wrong)
    assert contrast(averaged, layout) > 0.97
    kept = error(averaged, layout)[INSIDE].std()
    assert kept == pytest.approx(SIGMA * others**-0.5, rel=0.08)  # all but that one


def test_a_scratch_or_a_blank_part_of_a_neighbour_is_not_mixed_in() -> None:
    layout = Layout(X[:2], Y[:2], SHAPE)
    stack = np.stack([look(layout, 0), look(layout, 1)])
    clean = first(Frames.from_array(stack), layout)
    stack[1, :, 150:153] = 10  # lies at column 157 of frame 0
    stack[1, 150:, 220:] = 128
    averaged = first(Frames.from_array(stack), layout)
    scratch, blank = (slice(60, 100), slice(157, 161)), (slice(165, 200), slice(240, 280))
    for place in (scratch, blank):
        assert np.array_equal(averaged[place], stack[0][place])
    # Farther than the windows reach from both it is mixed as before, but for the noise estimated.
    far = slice(60, 90), slice(60, 120)
    assert np.std(averaged[far].astype(float) - clean[far]) < 1
    assert not np.array_equal(averaged[far], stack[0][far])


def test_noise_shared_by_pixels_is_told_from_structure_where_neighbours_agree() -> None:
    layout = Layout(X, Y, SHAPE)
    rough = np.random.default_rng(3).normal(0, SIGMA, (4, *SHAPE))
    for column in range(1, SHAPE[1]):  # a correlation of 0.25 along lines, as fast scans have
        rough[..., column] = 0.25 * rough[..., column - 1] + 0.97 * rough[..., column]
    clean = np.stack([scene(*places(layout, k)) for k in range(4)])
    stack = np.clip(np.rint(clean + rough), 0, 255).astype(np.uint8)
    averaged = first(Frames.from_array(stack), layout)
    assert error(averaged, layout)[INSIDE].std() / SIGMA == pytest.approx(0.5, rel=0.06)


def test_no_step_shows_where_a_neighbour_ends() -> None:
    # A neighbour that ends at column 160, once brighter by a grey level: the same noise, so what
    # changes is that grey level times its share.
    layout = Layout(np.array([160.0, 0.0]), np.array([0.0, 0.0]), SHAPE)
    profile = np.zeros(SHAPE[1])
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(0, SIGMA, (2, *SHAPE))
        stack = (120 + noise).astype(np.float32)
        brighter = stack + np.array([0, 1], np.float32)[:, None, None]
        shares = [first(Frames.from_array(k), layout) for k in (brighter, stack)]
        profile += (shares[0] - shares[1])[20:-20].mean(axis=0) / 8
    # The mean of two, less where noise alone was taken for something else.
    assert profile[40:110] == pytest.approx(0.42, abs=0.08)
    assert np.all(profile[152:] == 0)  # 8 px before the end, where the filter sees mirrored pixels
    # The share rises from 0 to 1/2 over 32 px, at first by 1/32 per px. In means of 4 px, which
    # calm the noise, a step would be of 1/8.
    smooth = np.convolve(profile, np.ones(4) / 4, "valid")
    assert np.abs(np.diff(smooth)).max() < 1 / 16


@pytest.mark.parametrize(
    "changes",
    [
        {"x_px": np.array([0.0, 400.0]), "y_px": np.zeros(2)},
        {"x_px": np.array([0.0, 312.0]), "y_px": np.zeros(2)},  # only the filter's margin
        {"component": np.array([0, 1])},
        {"used": np.array([True, False])},
        {"used": np.array([False, True])},
        {"sigma_x_px": np.array([0.1, 0.3])},
        {"sigma_y_px": np.array([0.01, np.inf])},
    ],
    ids=["apart", "margin", "island", "neighbour unused", "unused", "uncertain", "unplaced"],
)
def test_without_neighbours_a_frame_stays_as_it_is(changes: dict[str, np.ndarray]) -> None:
    layout = replace(Layout(X[:2], Y[:2], SHAPE), **changes)
    frames = looks(Layout(X[:2], Y[:2], SHAPE))
    assert np.array_equal(first(frames, layout), frames.data[0].compute(scheduler="sync"))


def test_frames_without_noise_stay_as_they_are() -> None:
    layout = Layout(np.array([0.0, 10.0]), np.zeros(2), SHAPE)
    steps = np.repeat(np.arange(0, 340, 10) % 200, 10)[None, :] * np.ones((SHAPE[0], 1))
    stack = np.array([steps[:, :320], steps[:, 10:330]], np.uint8)
    assert np.array_equal(first(Frames.from_array(stack), layout), stack[0])


def test_each_task_takes_a_frame_and_its_neighbours_alone() -> None:
    x = np.arange(6) * 180.0  # neighbours overlap by 140 px, next ones do not
    layout = Layout(x, np.zeros(6), SHAPE)
    read: list[int] = []

    @dask.delayed
    def recorded(frame: int) -> np.ndarray:
        read.append(frame)
        return look(layout, frame)[None]

    parts = [dask.array.from_delayed(recorded(k), (1, *SHAPE), np.uint8) for k in range(6)]
    clean = denoise(
        Frames.from_array(dask.array.concatenate(parts)), method="overlap", layout=layout
    )
    one = clean.data[2].compute(scheduler="sync")
    assert sorted(read) == [1, 2, 3]
    whole = clean.data.compute(scheduler="sync")
    assert np.array_equal(whole[2], one)
    assert clean.data.name.startswith("denoise-")


def test_names_tell_layouts_apart() -> None:
    layout = Layout(X, Y, SHAPE)
    frames = looks(layout)
    again = Layout(X.copy(), Y.copy(), SHAPE)
    moved = replace(layout, x_px=X + np.eye(4)[2])
    names = [denoise(frames, method="overlap", layout=k).data.name for k in (layout, again, moved)]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_types_stay_and_arguments_too(dtype: str) -> None:
    layout = Layout(X[:2], Y[:2], SHAPE)
    scale = {"uint8": 1.0, "uint16": 200.0, "float32": 1 / 255}[dtype]
    stack = (np.stack([look(layout, 0), look(layout, 1)]) * scale).astype(dtype)
    before = stack.copy()
    numbers = [5, 6]
    out = Overlap().clean_placed(list(stack), layout, numbers)
    assert out.dtype == dtype
    assert out.shape == SHAPE
    assert np.array_equal(stack, before)
    assert error(out / scale, layout)[INSIDE].std() / SIGMA == pytest.approx(0.5**0.5, rel=0.06)


def test_what_cannot_be_done_is_an_error() -> None:
    layout = Layout(X[:2], Y[:2], SHAPE)
    frames = looks(layout)
    with pytest.raises(ConfigError, match=r"'overlap' takes the frames around.*the layout"):
        denoise(frames, method="overlap")
    with pytest.raises(ConfigError, match="'overlap' takes the frames around"):
        Overlap()(look(layout, 0))
    with pytest.raises(InputError, match="places 4 frames"):
        denoise(frames, method="overlap", layout=Layout(X, Y, SHAPE))
    stack = np.stack([look(layout, 0), look(layout, 1)]).astype(np.float32)
    stack[1, 3, 4] = np.nan
    with pytest.raises(InputError, match=r"Frame 1: .*NaN"):
        first(Frames.from_array(stack), layout)


@pytest.mark.parametrize("field", [None, BENT], ids=["even", "bent"])
def test_a_placed_frame_lies_on_the_other_ones_pixels(field: Distortion | None) -> None:
    layout = Layout(X[:2], Y[:2], SHAPE, shear=np.array([0.03, -0.02]), distortion=field)
    noise = estimate_noise_model(look(layout, 1))
    exact = scene(*places(layout, 1)).astype(np.float32)
    placed = place_frame(exact, noise, layout, feather_px=32)
    assert placed is not None
    there = placed.feather > 0
    truth = scene(*places(layout, 0))[placed.box.slices]
    # The filter's own error at a period of 5.4 px; a wrong sign of the shear would make 10, of
    # the field 20.
    assert np.abs(placed.pixels - truth)[there].max() < 0.3


def test_every_denoiser_says_what_it_needs() -> None:
    for name, cls in DENOISERS.classes().items():
        method = DENOISERS.parse(name)
        assert (cls.clean_among is not Denoiser.clean_among) == (cls.needs == "neighbours")
        if cls.needs != "frame":
            with pytest.raises(ConfigError, match=name):
                method.refuse_alone()
