"""Pairs are measured in patches of the specimen."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from cemi_dask.register.batch import Request, patches
from cemi_dask.register.correlate import Search

SHAPE = (690, 1024)


def grid_requests(rows: int, cols: int) -> list[Request]:
    """Pairs that share a side in a serpentine of tiles that overlap by about 40 %."""
    number = np.arange(rows * cols).reshape(rows, cols)
    number[1::2] = number[1::2, ::-1]
    steps = [(a, b, 600, 5) for row in number for a, b in pairwise(row)]
    steps += [(a, b, -8, 420) for column in number.T for a, b in pairwise(column)]
    out = []
    for a, b, dx, dy in steps:
        sign = 1 if a < b else -1
        search = Search.around(sign * dx, sign * dy, 20)
        out.append(Request(int(min(a, b)), int(max(a, b)), (search,)))
    return out


def test_every_pair_is_in_one_patch_in_order():
    requests = grid_requests(6, 20)
    found = patches(requests[::-1], SHAPE, most=16)
    assert sorted((r.i, r.j) for patch in found for r in patch) == sorted(
        (r.i, r.j) for r in requests
    )
    assert all(patch == sorted(patch, key=lambda r: (r.i, r.j)) for patch in found)
    assert max(len({r.i for r in patch}) for patch in found) <= 16
    firsts = [patch[0].i for patch in found]
    assert firsts == sorted(set(firsts))
    assert patches(requests, SHAPE, most=16) == found


def test_patches_share_few_frames():
    requests = grid_requests(16, 16)
    read = [{k for r in patch for k in (r.i, r.j)} for patch in patches(requests, SHAPE, most=16)]
    # 4 x 4 frames with the next row and column are 24 of 16; a run of 16 along a row, 33.
    assert sum(map(len, read)) <= 1.55 * 256


def test_islands_and_no_requests():
    assert patches([], SHAPE, most=16) == []
    apart = [Request(0, 1, (Search(0, 9, 0, 9),)), Request(7, 9, (Search(0, 9, 0, 9),))]
    assert patches(apart, SHAPE, most=1) == [[apart[0]], [apart[1]]]
