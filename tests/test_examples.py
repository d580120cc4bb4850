"""The scripts in examples/ are short, and run as a user would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# Arguments that keep each example to seconds, and a text that its output must hold.
SMALL = {
    "step_by_step.py": (["{out}", "--frames", "4"], r"8 frames, \d+ pairs, 0\.0\d+ px rms"),
    "own_method.py": (["--width", "256"], r"TotalVariation\(.*\): rms error \d+\.\d grey"),
    "tiles_to_mosaic.py": (["{out}", "--cols", "3"], r"'n': 6"),
    "analyse_picture.py": (["{out}", "--width", "1280"], r"lamella_width_um +5 "),
}


def test_every_example_is_run_here_and_fits_on_a_page() -> None:
    paths = sorted(EXAMPLES.glob("*.py"))
    assert [path.name for path in paths] == sorted(SMALL)
    for path in paths:
        assert len(path.read_text().splitlines()) <= 50, path.name


@pytest.mark.parametrize("name", sorted(SMALL))
def test_example_runs(name: str, tmp_path: Path) -> None:
    arguments, wanted = SMALL[name]
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *(a.format(out=tmp_path) for a in arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(wanted, done.stdout), done.stdout
