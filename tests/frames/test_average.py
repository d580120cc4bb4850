"""Further looks: aligned to hundredths of a pixel, averaged robustly, in one bounded pass."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from cemi_dask.errors import InputError
from cemi_dask.frames.align import align, prepare_fixed
from cemi_dask.frames.average import Averaged, LookPlace, average_looks
from cemi_dask.frames.looks import TakenPlan, average_pass, choose_looks
from cemi_dask.frames.options import SelectionOptions
from cemi_dask.resample import shift_rows
from cemi_dask.simulate import Specimen

Frame = npt.NDArray[Any]

SHAPE = (256, 384)
CORNER = (700.0, 20_500.4)
MOVES = np.array([(-60.3, 0.6), (-30.2, -0.4), (0.45, 0.5), (30.7, 0.3), (61.1, -0.8)])
COMMON = slice(12, -12), slice(75, -75)  # what every look shows, filter margins left out


@cache
def clean(dx: float = 0.0, dy: float = 0.0) -> Frame:
    """The noise-free picture displaced by (dx, dy) px, exact to any fraction."""
    y, x = CORNER
    return Specimen(seed=1).image(y + dy, x + dx, SHAPE, psf_sigma_px=0.6)


def noisy(picture: Frame, sigma: float, seed: int) -> Frame:
    """The picture with white noise, uint8."""
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def recorded(sigma: float = 25.0, *, seed: int = 0) -> tuple[Frame, list[Frame], list[LookPlace]]:
    """A frame, its looks, and their places wrong by up to 2 px."""
    rng = np.random.default_rng(seed)
    looks = [noisy(clean(*move), sigma, 10 * seed + 1 + k) for k, move in enumerate(MOVES)]
    believed = MOVES + rng.uniform(-2, 2, MOVES.shape)
    places = [LookPlace(k, float(x), float(y)) for k, (x, y) in enumerate(believed)]
    return noisy(clean(), sigma, 10 * seed), looks, places


def reasons(found: Averaged) -> dict[int, str]:
    """Why each look that was not used was left out."""
    return dict(found.rejected)


def modulation(picture: Frame) -> float:
    """Share of the lamellae's modulation that is left in the common part."""
    fine = [v - cv2.GaussianBlur(v, (0, 0), 4) for v in (picture.astype(np.float32), clean())]
    lamellar = Specimen(seed=1).truth_at(*CORNER, SHAPE)["lamellar"][COMMON]
    a, b = (v[COMMON][lamellar] for v in fine)
    return float((a * b).sum() / (b * b).sum())


@pytest.mark.parametrize(("sigma", "tolerance_px"), [(4.5, 0.02), (25.0, 0.05)])
def test_known_displacements_are_recovered(sigma: float, tolerance_px: float) -> None:
    # The bound for an overlap of this size is 0.001 px at sigma 4.5 and 0.007 at 25.
    for seed in range(3):
        found = average_looks(*recorded(sigma, seed=seed)[:2], places=recorded(sigma, seed=seed)[2])
        assert [number for number, _ in found.aligned] == list(range(len(MOVES)))
        measured = np.array([(place.dx_px, place.dy_px) for _, place in found.aligned])
        assert np.abs(measured - MOVES).max() < tolerance_px


def test_the_stated_error_of_a_displacement_is_of_the_true_size() -> None:
    errors, stated = [], []
    for seed in range(4):
        taken, looks, places = recorded(seed=seed)
        found = average_looks(taken, looks, places=places)
        for (_, place), move in zip(found.aligned, MOVES, strict=True):
            errors.append(np.hypot(place.dx_px - move[0], place.dy_px - move[1]))
            stated.append(place.sigma_px)
    ratio = np.sqrt(np.mean(np.square(errors)) / np.mean(np.square(stated)))
    assert 0.4 < ratio < 2.5  # 20 displacements, each sigma from eight bands


def test_a_known_shear_is_undone_and_its_error_found() -> None:
    rows = np.arange(SHAPE[0]) - (SHAPE[0] - 1) / 2
    move, shear = (20.4, 0.3), 0.05
    wide = Specimen(seed=1).image(
        CORNER[0] + move[1], CORNER[1] + move[0] - 20, (SHAPE[0], SHAPE[1] + 40), psf_sigma_px=0.6
    )
    leaning = shift_rows(wide, -shear * rows)[:, 20:-20]
    found = align(
        prepare_fixed(noisy(clean(), 10, 0).astype(np.float32)),
        noisy(leaning, 10, 1).astype(np.float32),
        (21.4, -0.7),
        shear=shear + 0.003,
    )
    assert not isinstance(found, str)
    # 0.0003 over half the height is 0.04 px, a hundredth of a lamella's period.
    assert found.shear == pytest.approx(shear, abs=3e-4)
    assert found.dx_px == pytest.approx(move[0], abs=0.02)
    assert found.dy_px == pytest.approx(move[1], abs=0.02)


@pytest.mark.parametrize("sigma", [15.0, 25.0])
def test_six_looks_halve_the_noise_and_keep_the_lamellae(sigma: float) -> None:
    taken, looks, places = recorded(sigma)
    found = average_looks(taken, looks, places=places)
    before, after = (float((v - clean())[COMMON].std()) for v in (taken, found.image))
    assert found.looks == 6
    assert before / after > 2.0
    assert modulation(found.image) / modulation(taken) > 0.98
    # The mean of a frame of 26 000 px at this noise is good to 0.15 grey levels.
    assert abs(float((found.image - clean())[COMMON].mean())) < 0.5


def test_the_noise_is_stated_as_it_is() -> None:
    taken, looks, places = recorded()
    found = average_looks(taken, looks, places=places)
    before, after = (float((v - clean()).std()) for v in (taken, found.image))
    assert found.noise_before == pytest.approx(before, rel=0.05)
    # Interpolated noise is not white and edges are interpolated: not all of that scatters.
    assert found.noise_after == pytest.approx(after, rel=0.1)
    assert found.gain == pytest.approx(found.noise_before / found.noise_after)
    assert 1 <= found.cover_min <= 4 <= found.cover_median <= 6


def test_the_order_of_looks_does_not_matter() -> None:
    taken, looks, places = recorded()
    order = [3, 0, 4, 2, 1]
    first = average_looks(taken, looks, places=places)
    other = average_looks(taken, (looks[k] for k in order), places=[places[k] for k in order])
    np.testing.assert_array_equal(first.image, other.image)
    assert first.aligned == other.aligned


def test_nothing_given_is_changed_and_results_repeat() -> None:
    taken, looks, places = recorded()
    copies = [taken.copy(), *(look.copy() for look in looks)]
    first = average_looks(taken, looks, places=places).image
    np.testing.assert_array_equal(first, average_looks(taken, looks, places=places).image)
    for now, before in zip([taken, *looks], copies, strict=True):
        np.testing.assert_array_equal(now, before)


def _torn(looks: list[Frame]) -> Frame:
    return np.vstack([looks[0][:150], looks[1][150:]])


def _unrelated(looks: list[Frame]) -> Frame:
    there = Specimen(seed=1).image(3000, 50_000, looks[0].shape, psf_sigma_px=0.6)
    return noisy(there, 25, 99)


BAD = {
    "torn": (_torn, "torn"),
    "blank": (lambda looks: noisy(np.full(SHAPE, 118.0), 25, 99), "does not match"),
    "flat": (lambda looks: np.full(SHAPE, 118, np.uint8), "does not match"),
    "unrelated": (_unrelated, "does not match"),
    "blurred": (
        lambda looks: noisy(cv2.blur(clean(*MOVES[1]), (3, 1)), 25, 99),
        "blurred",
    ),
    "far off": (lambda looks: noisy(clean(-45, 0), 25, 99), "does not match"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_look_that_does_not_belong_is_left_out_whole(kind: str) -> None:
    make, reason = BAD[kind]
    taken, looks, places = recorded()
    spoilt = [*looks]
    spoilt[1] = make(looks)
    found = average_looks(taken, spoilt, places=places)
    assert list(reasons(found)) == [1]
    assert reason in reasons(found)[1]
    rest = [0, 2, 3, 4]
    without = average_looks(taken, [looks[k] for k in rest], places=[places[k] for k in rest])
    np.testing.assert_array_equal(found.image, without.image)


def test_strong_noise_is_not_taken_for_a_fault() -> None:
    # At sigma 60 the bands of so small a frame slip by up to 0.1 px from noise alone.
    for seed in range(3):
        taken, looks, places = recorded(60.0, seed=seed)
        assert average_looks(taken, looks, places=places).rejected == ()


def test_frames_without_structure_are_left_alone() -> None:
    flat = np.full(SHAPE, 118, np.uint8)
    for taken in (flat, noisy(np.full(SHAPE, 118.0), 25, 1)):
        found = average_looks(
            taken, [flat, noisy(np.full(SHAPE, 118.0), 25, 2)], places=recorded()[2][:2]
        )
        assert found.looks == 1
        np.testing.assert_array_equal(found.image, taken)


def test_the_same_picture_again_is_no_further_look() -> None:
    taken, looks, places = recorded()
    standing = LookPlace(9, 0.0, 0.0)
    repeated = LookPlace(8, places[2].dx_px, places[2].dy_px)
    found = average_looks(
        taken, [*looks, looks[2].copy(), taken.copy()], places=[*places, repeated, standing]
    )
    assert reasons(found) == {8: "the same picture again", 9: "the same picture again"}
    fresh = average_looks(taken, [noisy(clean(), 25, 77)], places=[standing])
    assert fresh.looks == 2


def test_damaged_spots_leave_little_trace() -> None:
    taken, looks, places = recorded()
    whole = average_looks(taken, looks, places=places).image
    spoilt = [*looks]
    spoilt[2] = looks[2].copy()
    for y, x in np.random.default_rng(5).integers((20, 80), (230, 300), (6, 2)):
        spot = slice(y, y + 6), slice(x, x + 6)
        spoilt[2][spot] = np.where(looks[2][spot] < 110, 255, 0)
    found = average_looks(taken, spoilt, places=places)
    assert found.looks == 6
    change = (found.image.astype(float) - whole)[COMMON]
    spots = (spoilt[2].astype(float) - looks[2])[COMMON] / 6  # what a plain mean would let in
    # Left out, a look still changes the mean of six by its own noise.
    assert np.mean(change**2) < 0.2 * np.mean(spots**2)


def test_brightness_and_shading_of_looks_become_those_of_the_frame() -> None:
    taken, looks, places = recorded()
    x = np.linspace(-1, 1, SHAPE[1])[None, :]
    changed = [
        np.clip(np.rint((1 - 0.03 * k) * (look - 5.0 * x**2) + 4 * k), 0, 255).astype(np.uint8)
        for k, look in enumerate(looks)
    ]
    found = average_looks(taken, changed, places=places)
    assert found.looks == 6
    error = cv2.blur((found.image - clean()).astype(np.float32), (41, 41))[COMMON]
    # Noise of 10 averaged over 41 x 41 px is 0.25 rms; unmatched looks would be off by 8.
    assert np.abs(error).max() < 1.5
    assert modulation(found.image) / modulation(taken) > 0.98


@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_deeper_pictures_give_the_same_as_8_bit(kind: str) -> None:
    taken, looks, places = recorded()
    scale = 200.0
    deep = [np.asarray(v * np.float32(scale)).astype(kind) for v in (taken, *looks)]
    plain = average_looks(taken, looks, places=places)
    found = average_looks(deep[0], deep[1:], places=places)
    assert found.image.dtype == np.dtype(kind)
    assert plain.image.dtype == np.uint8
    # Half a level of rounding to 8 bit, and the arithmetic of float32.
    np.testing.assert_allclose(found.image / scale, plain.image, atol=0.6)


def test_a_frame_without_looks_stays_as_it_is() -> None:
    taken = recorded()[0]
    found = average_looks(taken, [], places=[])
    np.testing.assert_array_equal(found.image, taken)
    assert (found.looks, found.cover_min, found.gain) == (1, 1, 1.0)
    assert np.isnan(found.noise_after)


def test_pictures_that_do_not_fit_are_refused() -> None:
    taken, looks, places = recorded()
    with pytest.raises(InputError, match="cropped alike"):
        average_looks(taken, [looks[0][:-1]], places=places[:1])
    with pytest.raises(InputError, match="Convert"):
        average_looks(taken.astype(np.float64), [], places=[])
    with pytest.raises(InputError, match="too small"):
        average_looks(taken[:12], [], places=[])
    with pytest.raises(InputError, match="NaN"):
        average_looks(np.full(SHAPE, np.nan, np.float32), [], places=[])


def test_looks_are_chosen_near_and_on_both_sides() -> None:
    positions = np.stack([40.0 * np.arange(60), np.zeros(60)], axis=1)
    (plan,) = choose_looks(positions, [30], SHAPE, looks=6)
    assert [look.number for look in plan.looks] == [27, 28, 29, 31, 32, 33]
    assert [look.dx_px for look in plan.looks] == [-120.0, -80.0, -40.0, 40.0, 80.0, 120.0]


def test_at_the_end_of_a_row_looks_come_from_the_one_side_there_is() -> None:
    positions = np.stack([40.0 * np.arange(60), np.zeros(60)], axis=1)
    positions[2] = np.nan  # a refused picture
    (plan,) = choose_looks(positions, [0], SHAPE, looks=3)
    assert [look.number for look in plan.looks] == [1, 3, 4]


def test_looks_come_from_the_same_stretch_and_carry_their_shear() -> None:
    positions = np.stack([40.0 * np.arange(20), np.zeros(20)], axis=1)
    stretch = (np.arange(20) >= 10).astype(np.int64)
    shear = 0.001 * np.arange(20)
    (plan,) = choose_looks(positions, [11], SHAPE, looks=4, shear=shear, stretch=stretch)
    assert [look.number for look in plan.looks] == [10, 12, 13, 14]
    assert plan.looks[0].shear == pytest.approx(-0.001)


def test_a_taken_picture_without_a_position_is_an_error() -> None:
    with pytest.raises(InputError, match="Recorded picture 3"):
        choose_looks(np.full((5, 2), np.nan), [3], SHAPE)


def row_of_pictures(count: int, step_px: float) -> tuple[list[Frame], npt.NDArray[np.float64]]:
    """Small recorded pictures along a row, and their corners."""
    x = step_px * np.arange(count)
    pictures = [noisy(clean(float(v), 0.0)[:128, :192], 20, k) for k, v in enumerate(x)]
    return pictures, np.stack([x, np.zeros(count)], axis=1)


def test_one_pass_gives_the_same_as_frames_one_by_one() -> None:
    pictures, positions = row_of_pictures(12, 19.7)
    plan = choose_looks(positions, [1, 6, 11], (128, 192), looks=3)
    results: list[Averaged] = []
    average_pass(enumerate(pictures), plan, results.append)
    assert [r.number for r in results] == [1, 6, 11]
    for entry, result in zip(plan, results, strict=True):
        single = average_looks(
            pictures[entry.number],
            [pictures[look.number] for look in entry.looks],
            places=entry.looks,
        )
        np.testing.assert_array_equal(result.image, single.image)
        assert result.looks == 4


def test_one_pass_keeps_only_what_is_still_needed() -> None:
    class Counted(np.ndarray):  # type: ignore[type-arg]
        """A picture that is counted while it lives."""

        alive = 0

        def __del__(self) -> None:
            Counted.alive -= 1

    most = 0

    def stream() -> Any:
        nonlocal most
        for k in range(200):
            picture = np.full((64, 64), 100, np.uint8).view(Counted)
            Counted.alive += 1
            yield k, picture
            most = max(most, Counted.alive)

    plan = [
        TakenPlan(k, (LookPlace(k - 2, 0.0, 0.0), LookPlace(k + 3, 0.0, 0.0)))
        for k in range(5, 190, 4)
    ]
    numbers: list[int] = []
    average_pass(stream(), plan, lambda result: numbers.append(result.number))
    assert numbers == [entry.number for entry in plan]
    # Two frames are open at a time, each with three pictures; two more are on their way.
    assert most <= 12


def test_a_lost_look_is_named_and_a_lost_frame_is_an_error() -> None:
    pictures, positions = row_of_pictures(7, 19.7)
    plan = choose_looks(positions, [3], (128, 192), looks=2)
    stream: list[tuple[int, Frame | None]] = list(enumerate(pictures))
    stream[2] = (2, None)
    results: list[Averaged] = []
    average_pass(stream[:4], plan, results.append)  # cut off before picture 4
    assert reasons(results[0]) == {2: "lost", 4: "lost"}
    np.testing.assert_array_equal(results[0].image, pictures[3])
    with pytest.raises(InputError, match="picture 3"):
        average_pass(stream[:3], plan, results.append)


def test_averaging_is_off_unless_asked_for() -> None:
    assert SelectionOptions().average == "none"
    assert SelectionOptions(average="motion").average_looks == 8
