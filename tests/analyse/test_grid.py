from itertools import pairwise

import pytest
from pydantic import ValidationError

from cemi_dask.analyse import GridOptions, make_grid
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.geometry import Box


def test_the_reference_ingot_gets_cells_of_508_by_413_px():
    grid = make_grid((7848, 123_672), GridOptions(rows=19, cols=243))
    assert grid.shape == (19, 243)
    assert {box.shape for _, _, box in grid} == {(413, 508)}
    assert grid.box(0, 0) == Box(0, 0, 413, 508)
    last = grid.box(18, 242)
    assert (7848 - last.y1, 123_672 - last.x1) in {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_cells_of_a_count_do_not_overlap_and_leave_at_most_one_pixel():
    grid = make_grid((100, 107), GridOptions(rows=3, cols=10))
    for spans in (grid.y_spans, grid.x_spans):
        gaps = [b[0] - a[1] for a, b in pairwise(spans)]
        assert set(gaps) <= {0, 1}


@pytest.mark.parametrize(
    ("width", "columns", "last"), [(350, 4, (300, 350)), (349, 3, (200, 300)), (60, 1, (0, 60))]
)
def test_a_remainder_of_half_a_cell_is_kept(width, columns, last):
    grid = make_grid((50, width), GridOptions(cell_px=(50, 100)))
    assert grid.shape == (1, columns)
    assert grid.x_spans[-1] == last


def test_micrometres_and_pixels_give_the_same_cells():
    in_um = make_grid((2000, 3000), GridOptions(cell_um=(91.7, 112.8)), pixel_um=0.222)
    assert in_um == make_grid((2000, 3000), GridOptions(cell_px=(413, 508)))


def test_what_cannot_be_a_grid_is_refused():
    with pytest.raises(ConfigError, match="need the pixel size"):
        make_grid((100, 100), GridOptions(cell_um=(10, 10)))
    with pytest.raises(InputError, match="20 cells do not fit into 10 px"):
        make_grid((10, 100), GridOptions(rows=20, cols=1))
    with pytest.raises(InputError, match="less than half a cell of 100 px"):
        make_grid((10, 100), GridOptions(cell_px=(100, 100)))
    for wrong in ({"rows": 3}, {"rows": 3, "cols": 3, "cell_px": (9, 9)}, {"cell_px": (0, 9)}):
        with pytest.raises(ValidationError):
            GridOptions(**wrong)
