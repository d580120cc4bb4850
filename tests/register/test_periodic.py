"""Tiles over lamellae that all run alike, blank tiles, tiles far from where they should be."""

from __future__ import annotations

import dask
import numpy as np
import pytest

from cemi_dask.frameset import Frames
from cemi_dask.register import register
from cemi_dask.solve import pairs_table, solve
from tests.register.specimens import errors, tile_grid, with_lattices

ROWS, COLS = 6, 8
SHAPE = (230, 340)


def neighbours():
    """Pairs of tiles next to each other along x or y."""
    numbers = np.arange(ROWS * COLS).reshape(ROWS, COLS)
    beside = zip(numbers[:, :-1].ravel(), numbers[:, 1:].ravel(), strict=True)
    below = zip(numbers[:-1].ravel(), numbers[1:].ravel(), strict=True)
    return sorted((int(a), int(b)) for a, b in (*beside, *below))


@pytest.mark.parametrize("seed", range(3))
def test_lattices_blank_tiles_and_wrong_places_make_no_wrong_pair(seed):
    rng = np.random.default_rng(seed)
    frames, truth = tile_grid(ROWS, COLS, SHAPE, noise_sigma=25, seed=seed)
    direct = neighbours()
    # A tenth of these overlaps: with the corners in them, a sixth of all overlaps.
    bare = [direct[k] for k in rng.permutation(len(direct))[: len(direct) // 10]]
    frames = with_lattices(frames, truth, bare, noise_sigma=25, seed=seed)
    order = rng.permutation(ROWS * COLS)
    blank, astray = order[:5], order[5:7]
    pictures = np.asarray(frames.data)
    pictures[blank] = np.clip(120 + 25 * rng.standard_normal((len(blank), *SHAPE)), 0, 255)
    frames = frames.with_data(Frames.from_array(pictures).data)
    frames.table.loc[astray, ["x_nominal_px", "y_nominal_px"]] += rng.choice([-60, 60], (2, 2))
    with dask.config.set(scheduler="sync"):
        graph = register(frames)
    layout = solve(graph)
    table = pairs_table(graph, layout)
    touches_blank = table["i"].isin(blank) | table["j"].isin(blank)
    assert (table.loc[touches_blank, "status"] == "empty").all()
    # Nothing in a bare overlap tells one displacement, but the texture around it may.
    known = [pair for pair in bare if not set(pair) & set(blank.tolist())]
    waves = {(pair.i, pair.j) for pair in graph.pairs() if pair.lattice is not None}
    assert len(waves & set(known)) >= len(known) / 2
    assert not {(p.i, p.j) for p in graph.pairs() if p.status == "ok"} & set(known)
    told = table[table["status"].isin(["ok", "ambiguous"]) & table["dx_px"].notna()]
    wrong = told[["dx_px", "dy_px"]].to_numpy() - (truth[told["j"]] - truth[told["i"]])
    assert np.abs(wrong).max() < 0.5
    textured = np.setdiff1d(order, blank)
    linked = textured[layout.component[textured] == 0]
    # What cannot be linked has a component of its own: here a tile or two at most.
    assert len(linked) >= len(textured) - 2
    # Pairs of these small tiles are good to 0.02 px.
    assert np.sqrt((errors(layout, truth, linked) ** 2).sum(axis=1).mean()) < 0.06
