"""Loops of accepted pairs: which ones there are, and what they miss by."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from cemi_dask.solve import loop_closures


def table(edges, place, off=None):
    """Pairs measured without error between frames at `place`, but for what `off` adds."""
    records = []
    for i, j in sorted(edges):
        dx, dy = place[j] - place[i] + (off or {}).get((i, j), (0.0, 0.0))
        records.append((i, j, dx, dy, "ok"))
    return pd.DataFrame(records, columns=["i", "j", "dx_px", "dy_px", "status"])


def frames_of(loops):
    return {frozenset(map(int, text.split("-"))) for text in loops["frames"]}


# Frames 0 1 2 above 3 4 5, and one diagonal.
GRID = [(0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5), (0, 4)]


@pytest.mark.parametrize("seed", range(4))
def test_loops_are_the_chordless_cycles_of_three_and_four(seed):
    graph = nx.gnm_random_graph(16, 45, seed=seed)
    place = np.random.default_rng(seed).uniform(0, 1000, (16, 2))
    loops = loop_closures(table([tuple(sorted(e)) for e in graph.edges], place))
    known = [frozenset(c) for c in nx.chordless_cycles(graph, length_bound=4)]
    assert len(loops) == len(known) > 20
    assert frames_of(loops) == set(known)
    assert (loops["links"] == [len(text.split("-")) for text in loops["frames"]]).all()
    # sums of four displacements of 1000 px in double precision
    assert loops["closure_px"].max() < 1e-9


def test_a_wrong_pair_opens_every_loop_that_it_is_part_of():
    place = np.random.default_rng(0).uniform(0, 500, (6, 2))
    loops = loop_closures(table(GRID, place, {(1, 4): (3.0, -4.0)}))
    with_it = np.array([{"1", "4"} <= set(text.split("-")) for text in loops["frames"]])
    assert frames_of(loops) == {frozenset(s) for s in ({0, 1, 4}, {0, 3, 4}, {1, 2, 4, 5})}
    np.testing.assert_allclose(loops["closure_px"][with_it], 5.0)
    np.testing.assert_allclose(loops["closure_px"][~with_it], 0.0, atol=1e-9)


def test_only_accepted_pairs_make_loops():
    pairs = table(GRID, np.zeros((6, 2)))
    pairs.loc[pairs["i"].eq(0) & pairs["j"].eq(4), "status"] = "ambiguous"
    assert frames_of(loop_closures(pairs)) == {frozenset({0, 1, 3, 4}), frozenset({1, 2, 4, 5})}
    none = loop_closures(pairs.assign(status="rejected"))
    assert len(none) == 0
    assert np.isnan(none["closure_px"].max())
