"""What selecting frames costs beside decoding, and how true the tracked positions are.

Every video is decoded once with PyAV alone and once by `scan_source`, which decodes it, puts
scans together, follows the motion and chooses frames: CPU seconds of both, in turns, in one
process, the least of each (other work on the machine only adds). Positions are compared with the
truth after removing one translation per row.

    python benchmarks/acquisition.py
    python benchmarks/acquisition.py --looks 40 --scan-frames 2.37 --size 512x346
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
from measure import show

from cemi_dask.frames import InputOptions, SelectionOptions, find_sources, prepare, scan_source
from cemi_dask.simulate import Recording, SimulateOptions, simulate_videos

CODECS = ("ffv1", "mjpeg", "mpeg4", "h264")


def main() -> None:
    """Measure every codec and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=16, help="frames per row at one pitch")
    parser.add_argument("--looks", type=int, default=4, help="recorded frames per pitch")
    parser.add_argument("--scan-frames", type=float, help="recorded frames per scan")
    parser.add_argument("--size", default="1024x690", help="WIDTHxHEIGHT of a frame, px")
    parser.add_argument("--noise", type=float, default=25.0, help="sigma of 255 grey levels")
    parser.add_argument("--pauses", type=int, default=0, help="stops of the stage")
    parser.add_argument("--repeat", type=int, default=9, help="turns")
    parser.add_argument("--codecs", nargs="+", default=CODECS)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = map(int, given.size.split("x"))
    rows = []
    for codec in given.codecs:
        options = SimulateOptions(
            rows=1,
            frames_per_row=given.frames,
            looks=given.looks,
            frame_shape=(height, width),
            noise_sigma=given.noise,
            data_bar_px=60,
            codec=codec,
            seed=3,
            recording=Recording(scan_frames=given.scan_frames, pauses=given.pauses),
        )
        with tempfile.TemporaryDirectory() as name:
            made = simulate_videos(Path(name), options)
            rows.append([codec, *measure(str(made.files[0]), made.table("truth"), given.repeat)])
    header = ["codec", "recorded", "taken", "decode ms", "with selection ms", "ratio", "rms px"]
    show(header, rows)


def measure(path: str, truth: pd.DataFrame, repeat: int) -> list[Any]:
    """Recorded and taken frames, CPU ms per recorded frame of both, their ratio, rms px."""
    options = InputOptions(paths=(path,))
    source = prepare(find_sources(options), options)[0]
    found = scan_source(source, SelectionOptions())
    plain, full = [], []
    for _ in range(repeat):
        plain.append(cpu_s(lambda: decode(path)))
        full.append(cpu_s(lambda: scan_source(source, SelectionOptions())))
    count = found["recorded"]
    ratio = min(full) / min(plain)
    taken = [r for r in found["records"] if r["taken"]]
    at = truth.set_index("source_index").loc[[r["source_index"] for r in taken]]
    off = np.array([[r["x_nominal_px"], r["y_nominal_px"]] for r in taken]) - at[["x_px", "y_px"]]
    rms = float(np.sqrt(((off - off.mean()) ** 2).sum(axis=1).mean()))
    per_frame = [1e3 * min(values) / count for values in (plain, full)]
    return [count, len(taken), *per_frame, ratio, rms]


def decode(path: str) -> int:
    """Decode a video once, with one thread, and do nothing with it."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return sum(1 for _ in container.decode(stream))


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of a call in this process."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
