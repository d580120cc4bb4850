"""One pair of frames measured: `measure_pair`, and the same on prepared frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError
from cemi_dask.overlap import Lattice, PairShift, Peak, Reason, Status
from cemi_dask.register.correlate import (
    Search,
    correlate,
    find_peaks,
    lines_mask,
    overlap_boxes,
    overlap_correlation_area,
    overlap_score,
)
from cemi_dask.register.distorted import explained, local_shifts, typical_displacement
from cemi_dask.register.lattice import find_lattice
from cemi_dask.register.options import RegisterOptions
from cemi_dask.register.prepare import Image, Prepared
from cemi_dask.register.refine import Refined, refine
from cemi_dask.register.repeats import repeats

_MIN_TEXTURE = 0.35  # structure below this part of the (smoothed) noise cannot be matched
_COARSE_VARIANCE_PX2 = 0.25  # of a peak that was not refined
_LATTICE_SCORE = 0.5  # of a smoothed overlap; unrelated texture hardly reaches it
_RIVAL = 0.75  # of the best significance or score: from there on a peak is worth a look
_RIVAL_UNSURE = 0.5  # the same where the best hardly tells
_EXPLAINED = 0.5  # structure of the overlap that must agree,
_TOGETHER = 1 / 3  # or that part of its parts must lie together: then it is distorted
_KNOWN = 0.005  # part of the structure: how well noise is known
_SAME = 0.98  # of the best score, or of the structure: as good as that
_REPEAT_PX = 64  # steps within which an overlap may repeat itself
_SLIDE_PX = 6.0  # along lamellae
_MOST_TRIED = 8  # of those steps
_SIDE = 80  # percent of a frame's side beyond which an overlap is narrow
_BINNED_AREA_PX = 120_000  # overlaps larger than this are searched at half resolution


@dataclass(frozen=True)
class Candidate:
    """A peak on its way: displacement px, score, significance, the correlation area that this
    was told with, covariance [xx, xy, yy], and what refinement has found (None: not refined)."""

    dx_px: float
    dy_px: float
    score: float
    significance: float
    area_px: float
    overlap_px: int
    cov_px2: tuple[float, float, float] = (_COARSE_VARIANCE_PX2, 0.0, _COARSE_VARIANCE_PX2)
    fine: Refined | None = None

    @property
    def likelihood(self) -> float:
        """Twice the logarithm by which a common structure explains the overlap better than none.

        -n log(1 - score^2) of n independent pixels of two normal pictures; for low scores it is
        the squared significance, for high ones much more.
        """
        score = min(self.score, 0.999)
        if score <= 0 or self.significance <= 0:
            return 0.0
        return float(-((self.significance / self.score) ** 2) * np.log1p(-(score**2)))


def measure_pair(
    fixed: npt.NDArray[Any],
    moving: npt.NDArray[Any],
    expected: tuple[float, float, float] | None = None,
    options: RegisterOptions | None = None,
    *,
    shear: tuple[float, float] = (0.0, 0.0),
) -> PairShift:
    """The displacement of `moving` against `fixed`, two frames (y, x) of one shape, any dtype.

    `expected` is (dx_px, dy_px, sigma_px) where something is known; then only the overlap
    within 3 sigma is searched, else every displacement. `shear` of both (px in x per px in y,
    see `Layout`) is undone first: the displacement is that of their middle lines. The
    result's frame numbers are 0 and 1; its peaks are best first, their covariance in px^2.
    Raises InputError for frames of different shape or with NaN.
    """
    options = options or RegisterOptions()
    if fixed.shape != moving.shape:
        raise InputError(f"Frames of different shapes {fixed.shape} and {moving.shape}.")
    pair = [
        Prepared(f, options.highpass_px, options.smooth_px, s)
        for f, s in zip((fixed, moving), shear, strict=True)
    ]
    if expected is None:
        searches = whole_search(pair[0].shape)
    else:
        searches = (Search.around(expected[0], expected[1], 3 * expected[2] + 2),)
    return measure_prepared(pair[0], pair[1], (0, 1), searches, options=options)


def whole_search(shape: tuple[int, int]) -> tuple[Search, ...]:
    """Every displacement at which two frames of `shape` touch.

    Narrow overlaps at the four sides are searched on their own as well: in the correlation
    of whole frames they drown in the noise of what does not overlap.
    """
    h, w = shape
    return (
        Search(-w, w, -h, h),
        Search(_SIDE * w // 100, w, -h // 3, h // 3),
        Search(-w, -_SIDE * w // 100, -h // 3, h // 3),
        Search(-w // 3, w // 3, _SIDE * h // 100, h),
        Search(-w // 3, w // 3, -h, -_SIDE * h // 100),
    )


def measure_prepared(
    fixed: Prepared,
    moving: Prepared,
    ids: tuple[int, int],
    searches: tuple[Search, ...],
    *,
    options: RegisterOptions,
) -> PairShift:
    """As `measure_pair`, on prepared frames numbered `ids`, over given search ranges."""
    i, j = ids
    if min(fixed.texture, moving.texture) < _MIN_TEXTURE:
        return PairShift(i, j, status="empty", reason="no_texture")
    candidates = [c for s in searches for c in find_candidates(fixed, moving, s, options=options)]
    # Not by score: a few pixels of overlap agree by chance.
    candidates = _distinct(sorted(candidates, key=lambda c: -c.likelihood))[: options.peaks]
    if not candidates:
        return PairShift(i, j, status="rejected", reason="no_overlap")
    candidates = _refined(fixed, moving, candidates, options)
    if options.refine_steps and _telling(candidates[0], options.min_significance):
        candidates = _with_rivals(fixed, moving, candidates, options)
    best, local, lattice = candidates[0], None, None
    status, reason = _verdict(candidates, options)
    agreeing = None if best.fine is None else explained(fixed, moving, best.fine)
    if status != "rejected" and not _explains(fixed, moving, best, agreeing):
        status, reason = "rejected", "unexplained"
    if status == "ambiguous":
        decided = _decided(fixed, moving, candidates, agreeing, options)
        status, reason, lattice = decided or (status, reason, None)
        if status == "ok":
            candidates = candidates[:1]  # no loop may choose another
    if status == "ok" and best.fine is not None:
        local = local_shifts(fixed, moving, best.fine, steps=options.refine_steps)
        # Beyond the smoothing, the squared difference is no measure of the miss any more.
        if best.fine.distortion_px > options.smooth_px:
            best = candidates[0] = _centred(fixed, moving, best)
    peaks = tuple(Peak(c.dx_px, c.dy_px, c.score, c.cov_px2) for c in candidates)
    grey, overlap = _grey(fixed, moving, round(best.dx_px), round(best.dy_px))
    return PairShift(i, j, peaks, status, grey, overlap, lattice, reason, local)


def find_candidates(
    fixed: Prepared, moving: Prepared, search: Search, *, options: RegisterOptions
) -> list[Candidate]:
    """Peaks of the correlation with their score on the true overlap.

    Overlaps below `min_overlap` are left out. The significance of a score is in standard
    deviations of that of unrelated frames with the same spectra.
    """
    search = search.within(fixed.shape)
    factor, a, b = _binned(fixed, moving, _largest_overlap(fixed.shape, search))
    shape = (a.shape[0], a.shape[1])
    sheared = fixed.offsets_px is not None or moving.offsets_px is not None
    ends = (fixed.line_ends(factor), moving.line_ends(factor)) if sheared else None
    found = correlate(a, b, search.binned(factor).within(shape), whitening=options.whitening)
    least = options.min_overlap * a.size
    candidates = []
    for x, y, _ in find_peaks(found.surface, 2 * options.peaks):
        dx, dy = x + found.x0, y + found.y0
        box = overlap_boxes(shape, round(dx), round(dy))[0]
        if box.area_px < least:
            continue
        score, n = overlap_score(a, b, dx, dy, ends=ends)
        if n < least:
            continue
        area = found.correlation_area_px
        significance = score * float(np.sqrt(n / area))
        place = dx * factor, dy * factor
        candidates.append(Candidate(*place, score, significance, area, n * factor**2))
    return candidates


def _binned(fixed: Prepared, moving: Prepared, overlap_px: int) -> tuple[int, Image, Image]:
    """Both frames at half resolution where they share many pixels, and by how much: 2 or 1."""
    factor = 2 if overlap_px > _BINNED_AREA_PX else 1
    return factor, fixed.binned(factor), moving.binned(factor)


def _distinct(candidates: list[Candidate]) -> list[Candidate]:
    """The candidates without those within 1.5 px of an earlier one."""
    out: list[Candidate] = []
    for c in candidates:
        if all(np.hypot(c.dx_px - o.dx_px, c.dy_px - o.dy_px) > 1.5 for o in out):
            out.append(c)
    return out


def _largest_overlap(shape: tuple[int, int], search: Search) -> int:
    """Pixels of overlap at the displacement of `search` nearest to zero."""
    dx = int(np.clip(0, search.x_min, search.x_max))
    dy = int(np.clip(0, search.y_min, search.y_max))
    return overlap_boxes(shape, dx, dy)[0].area_px


def _refined(
    fixed: Prepared, moving: Prepared, candidates: list[Candidate], options: RegisterOptions
) -> list[Candidate]:
    """The candidates, those that rival the best one refined, best first."""
    first, least = candidates[0].significance, -1.0
    near = _RIVAL * first
    far = near if first > 2 * options.min_significance else _RIVAL_UNSURE * first
    out: list[Candidate] = []
    for c in candidates:
        fine = None
        if options.refine_steps and c.significance >= far and _telling(c, 3.0):
            place = c.dx_px, c.dy_px
            fine = refine(fixed, moving, place, steps=options.refine_steps, least_score=least)
        # One that was far behind counts if no noise explains that it is not the best.
        if fine is not None and (c.significance >= near or _alike(out[0], fine.score, options)):
            c = _at(c, fine)
            least = max(least, (1 - 2 * _margin(c, options)) * c.score)
        out.append(c)
    return _distinct(sorted(out, key=lambda c: -c.likelihood))


def _at(candidate: Candidate, fine: Refined) -> Candidate:
    """A candidate moved to where refinement put it."""
    cov = fine.covariance_px2
    gain = max(0.0, fine.score) / max(candidate.score, 1e-6)
    return replace(
        candidate,
        dx_px=fine.dx_px,
        dy_px=fine.dy_px,
        score=fine.score,
        significance=candidate.significance * gain,
        cov_px2=(float(cov[0, 0]), float(cov[0, 1]), float(cov[1, 1])),
        fine=fine,
    )


def _with_rivals(
    fixed: Prepared, moving: Prepared, candidates: list[Candidate], options: RegisterOptions
) -> list[Candidate]:
    """The candidates, with those that make as much of a repeating overlap as the best one.

    What was searched may hold plenty of texture beside an overlap of lamellae that all run
    alike, in which pictures agree by chance more often than in what was searched. There, where
    another candidate comes close, and where part of the structure does not agree (the right
    displacement may lie outside of what was searched), the places whole periods away are tried
    as well: few of them are among the peaks.
    """
    best = candidates[0]
    agreeing = None if best.fine is None else explained(fixed, moving, best.fine)
    whole = agreeing is None or agreeing > 1 - 2 * _doubt(best, options)
    factor, a, b = _binned(fixed, moving, best.overlap_px)
    x, y = best.dx_px / factor, best.dy_px / factor
    area = overlap_correlation_area(a, b, round(x), round(y))
    telling = best.significance * np.sqrt(best.area_px / area) >= options.min_significance
    if whole and telling and not _rivalled(candidates, options):
        return candidates
    found = list(candidates)
    for step in repeats(a, b, (x, y), _REPEAT_PX // factor)[:_MOST_TRIED] * factor:
        place = best.dx_px + step[0], best.dy_px + step[1]
        fine = refine(fixed, moving, place, steps=options.refine_steps)
        if fine is not None and _alike(best, fine.score, options):
            found.append(_at(best, fine))
    return _distinct(sorted(found, key=lambda c: -c.likelihood))[: options.peaks]


def _centred(fixed: Prepared, moving: Prepared, best: Candidate) -> Candidate:
    """A distorted candidate at the displacement typical of it, if its parts tell one.

    Its covariance stays: the distortion, which it counts, does not average out.
    """
    typical = typical_displacement(fixed, moving, (best.dx_px, best.dy_px))
    return best if typical is None else replace(best, dx_px=typical.dx_px, dy_px=typical.dy_px)


def _verdict(candidates: list[Candidate], options: RegisterOptions) -> tuple[Status, Reason]:
    """Whether the best candidate passes the null test and stands alone, and why not."""
    best = candidates[0]
    if best.score < options.min_score:
        return "rejected", "low_score"
    if not _telling(best, options.min_significance):
        return "rejected", "not_significant"
    if best.significance < options.min_significance:
        return "ambiguous", "lattice"
    return ("ambiguous", "rival_peak") if _rivalled(candidates, options) else ("ok", "")


def _explains(fixed: Prepared, moving: Prepared, best: Candidate, agreeing: float | None) -> bool:
    """Whether the candidate explains the overlap's structure, as one piece or in parts.

    The null of `find_candidates` knows of spectra only. Where whole colonies run alike, or a part
    of the overlap is periodic, other displacements agree far beyond it, but by a part alone.
    """
    if agreeing is None or agreeing >= _EXPLAINED:
        return True
    typical = typical_displacement(fixed, moving, (best.dx_px, best.dy_px))
    return typical is not None and typical.together >= _TOGETHER


def _decided(
    fixed: Prepared,
    moving: Prepared,
    candidates: list[Candidate],
    agreeing: float | None,
    options: RegisterOptions,
) -> tuple[Status, Reason, Lattice | None] | None:
    """An ambiguous pair that is a lattice, or told from its rivals after all; None: neither.

    Where all structure agrees, noise alone is left, and what agrees by less is no rival.
    """
    best = candidates[0]
    complete = agreeing is not None and abs(agreeing - 1) < _doubt(best, options)
    rivals = [c for c in candidates[1:] if _alike(best, c.score, options)]
    if not rivals and not complete:
        return None
    high = [c for c in candidates if c.score > _RIVAL * best.score] if rivals else [best]
    lattice = find_lattice(fixed, moving, [(c.dx_px, c.dy_px) for c in high])
    if lattice is not None and (rivals or _slides(fixed, moving, best, lattice, options)):
        return "ambiguous", "lattice", lattice
    # Elsewhere the overlap is another one: scores do not compare, what is explained does.
    parts = [explained(fixed, moving, c.fine) for c in candidates[1:] if c.fine is not None]
    rivals_apart = any(part is None or part > _SAME for part in parts)
    return None if rivals or rivals_apart else ("ok", "", None)


def _slides(
    fixed: Prepared, moving: Prepared, best: Candidate, lattice: Lattice, options: RegisterOptions
) -> bool:
    """Whether the overlap agrees as well a little further along its lamellae, to either side.

    Straight lamellae do; bent ones, and those with faults, tell where they lie.
    """
    along = np.array([-lattice.wave_y, lattice.wave_x]) / np.hypot(lattice.wave_x, lattice.wave_y)
    for way in (-_SLIDE_PX, _SLIDE_PX):
        place = best.dx_px + way * along[0], best.dy_px + way * along[1]
        fine = refine(fixed, moving, place, steps=2)
        if fine is None or _alike(best, fine.score, options):
            return True
    return False


def _rivalled(candidates: list[Candidate], options: RegisterOptions) -> bool:
    """Whether the second candidate's score comes too close to that of the first."""
    if len(candidates) < 2:
        return False
    best, second = candidates[:2]
    return second.score > (1 - _margin(best, options)) * best.score


def _alike(best: Candidate, score: float, options: RegisterOptions) -> bool:
    """Whether another displacement scores as much as the best but for noise and a little more."""
    noise = 3 * float(np.sqrt(2)) * _scatter(best, options)
    return score > best.score - max(noise, (1 - _SAME) * best.score)


def _scatter(best: Candidate, options: RegisterOptions) -> float:
    """Standard deviation of the score under noise.

    Smoothed white noise has an independent value every 4 pi s^2 px; a correlation coefficient
    of n values scatters by (1 - score^2) / sqrt(n) (Fisher 1915).
    """
    n = best.overlap_px / (4 * np.pi * options.smooth_px**2)
    return float((1 - best.score**2) / np.sqrt(n))


def _doubt(best: Candidate, options: RegisterOptions) -> float:
    """By how much the part that is explained may miss 1 when all is: noise, and how well that
    is known."""
    return _KNOWN + 3 * _scatter(best, options) / max(best.score, 1e-6)


def _margin(best: Candidate, options: RegisterOptions) -> float:
    """The part of the best score by which another must stay below it to be told from it.

    Scores scatter by about one unit of significance under noise.
    """
    return max(options.ambiguity, 4 / best.significance * (1 - best.score**2))


def _telling(candidate: Candidate, significance: float) -> bool:
    """Whether a score means something: beyond the null, or high though on a bare lattice.

    Two unrelated overlaps of one perfect lattice agree as well as related ones, so their
    score is never significant; it still tells the displacement up to lattice vectors.
    """
    return candidate.significance >= significance or candidate.score >= _LATTICE_SCORE


def _grey(
    fixed: Prepared, moving: Prepared, dx: int, dy: int
) -> tuple[tuple[float, float, float, float], int]:
    """(mean_i, mean_j, std_i, std_j) in the overlap, and its pixels."""
    box_f, box_m = overlap_boxes(fixed.shape, dx, dy)
    mask, count = None, box_f.area_px
    if (fixed.offsets_px is not None or moving.offsets_px is not None) and count:
        both = lines_mask((box_f, fixed.line_ends()), (box_m, moving.line_ends()))
        mask = both.astype(np.uint8)
        count = int(np.count_nonzero(mask))
    stats = [
        cv2.meanStdDev(np.ascontiguousarray(picture[box.slices]), mask=mask)
        for picture, box in ((fixed.placed, box_f), (moving.placed, box_m))
    ]
    (mean_i, std_i), (mean_j, std_j) = ((float(m[0, 0]), float(s[0, 0])) for m, s in stats)
    return (mean_i, mean_j, std_i, std_j), count
