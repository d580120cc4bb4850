"""Every step alone, lazily: frames, registration, positions, mosaic. No config, no run folder."""

import argparse
from pathlib import Path

from cemi_dask import open_mosaic, simulate_videos, write_mosaic
from cemi_dask.blend import blend
from cemi_dask.denoise import denoise
from cemi_dask.frames import open_frames
from cemi_dask.register import register
from cemi_dask.simulate import SimulateOptions, compare_positions
from cemi_dask.solve import positions_table, solve
from cemi_dask.store import MosaicOptions, write_pyramid


def main() -> None:
    """Stitch two simulated rows of noisy video."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the videos and the mosaic")
    parser.add_argument("--frames", type=int, default=8, help="frames per row")
    given = parser.parse_args()
    size = SimulateOptions(rows=2, frames_per_row=given.frames, frame_shape=(320, 480))
    ingot = simulate_videos(given.out, size)

    frames = open_frames(ingot.files, pixel_um=size.specimen.pixel_um)
    print(frames.data)  # (n, y, x), decoded when it is computed
    graph = register(frames)  # a networkx graph, an edge per measured pair
    layout = solve(graph)  # a position and its standard deviation per frame
    truth = compare_positions(positions_table(layout, frames.table), ingot.table("truth"))
    print(
        f"{len(frames)} frames, {graph.graph.number_of_edges()} pairs, {truth['rms_px']:.3f} px rms"
    )

    shards = MosaicOptions(shard_px=512, chunk_px=256)  # one task, one file
    picture = blend(denoise(frames, method="fourier"), layout, shard_px=shards.shard_px)
    print(picture[:100, :200].compute().mean())  # reads only the frames that touch this shard
    path = given.out / "mosaic.ome.zarr"
    write_mosaic(picture, path, pixel_um=frames.pixel_um, options=shards)
    write_pyramid(path)
    print(open_mosaic(path).levels)


if __name__ == "__main__":
    main()
