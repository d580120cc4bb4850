"""Loops of few accepted pairs, and how far each is from closing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import networkx as nx
import numpy as np
import pandas as pd


def loop_closures(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row per loop of 3 or 4 accepted pairs in a table of pairs (see `pairs_table`).

    Columns: `links` (3 or 4), `frames` (the loop's frames in order, as "0-1-25-24"), `dx_px`,
    `dy_px` (the sum of the measured displacements around it) and `closure_px`, its length: 0
    if the measurements agree, whatever the positions. Loops of 4 with a pair across are left
    out: they are sums of two loops of 3.
    """
    ok = pairs[pairs["status"] == "ok"]
    step: dict[tuple[int, int], complex] = {}  # x + iy, there and back
    for i, j, dx, dy in zip(*(ok[k].tolist() for k in ("i", "j", "dx_px", "dy_px")), strict=True):
        step[i, j], step[j, i] = complex(dx, dy), -complex(dx, dy)
    graph = nx.Graph(sorted(step))
    loops = [*_triangles(graph), *_squares(graph)]
    total = np.array(
        [sum(step[way] for way in pairwise((*loop, loop[0]))) for loop in loops], complex
    )
    return pd.DataFrame(
        {
            "links": np.array([len(loop) for loop in loops], np.int64),
            "frames": ["-".join(map(str, loop)) for loop in loops],
            "dx_px": total.real,
            "dy_px": total.imag,
            "closure_px": np.abs(total),
        }
    )


def _triangles(graph: nx.Graph) -> Iterator[tuple[int, ...]]:
    for a, b in map(sorted, graph.edges):
        for c in sorted(graph.adj[a].keys() & graph.adj[b].keys()):
            if b < c:
                yield a, b, c


def _squares(graph: nx.Graph) -> Iterator[tuple[int, ...]]:
    """Every loop of four without a link across, from its smallest frame on.

    Two frames that are no neighbours, and every two of their common neighbours. General cycle
    searches (`networkx.chordless_cycles`) take minutes where this takes half a second.
    """
    common: dict[tuple[int, int], list[int]] = {}
    for middle in sorted(graph):
        for pair in combinations(sorted(graph.adj[middle]), 2):
            common.setdefault(pair, []).append(middle)
    for (a, c), middles in common.items():
        if graph.has_edge(a, c):
            continue
        for b, d in combinations(middles, 2):
            # Each square has two diagonals: the one with its smallest frame counts.
            if a < b and not graph.has_edge(b, d):
                yield a, b, c, d
