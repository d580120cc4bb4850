"""The scripts in examples/ are short, and run as a user would run them: one as a notebook."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = "notebook.py"
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# Arguments that keep each example to seconds, and a text that its output must hold.
SMALL = {
    "step_by_step.py": (["{out}", "--frames", "4"], r"8 frames, \d+ pairs, 0\.0\d+ px rms"),
    "own_method.py": (["--width", "256"], r"TotalVariation\(.*\): rms error \d+\.\d grey"),
    "tiles_to_mosaic.py": (["{out}", "--cols", "3"], r"'n': 6"),
    "analyse_picture.py": (["{out}", "--width", "1280"], r"lamella_width_um +5 "),
    "pick_cells.py": (["{out}"], r"highest lamella_width_um: 0\.[5-7]\d\d at x "),
}


def test_every_example_is_run_here_and_fits_on_a_page() -> None:
    paths = sorted(EXAMPLES.glob("*.py"))
    assert [path.name for path in paths] == sorted([*SMALL, NOTEBOOK])
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


def cells_of(script: str) -> list[tuple[str, str]]:
    """(kind, text) of the cells of a script in percent format, markdown without its #."""
    cells = []
    for part in re.split(r"^# %%", script, flags=re.MULTILINE)[1:]:
        head, _, text = part.partition("\n")
        markdown = "[markdown]" in head
        text = re.sub(r"^# ?", "", text, flags=re.MULTILINE) if markdown else text
        cells.append(("markdown" if markdown else "code", text.strip()))
    return cells


def shown_by(cell: Any) -> dict[str, Any]:
    """What a cell of a notebook shows, by media type, and its printed text."""
    found: dict[str, Any] = {}
    for output in cell.outputs:
        found |= output.get("data", {})
        found["printed"] = found.get("printed", "") + output.get("text", "")
    return found


def test_the_notebook_shows_results_figures_and_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient, which runs notebooks, is absent")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is absent")
    # A kernel of this very Python, whatever kernels the user has installed.
    kernel = tmp_path / "kernels" / "here"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "here"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the notebook makes its folder

    new = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    script = (EXAMPLES / NOTEBOOK).read_text(encoding="utf-8")
    book = nbformat.v4.new_notebook(cells=[new[kind](text) for kind, text in cells_of(script)])
    client = nbclient.NotebookClient(book, timeout=300, kernel_name="here")
    client.execute(cwd=str(tmp_path))

    shown = {
        cell.source.splitlines()[-1]: shown_by(cell) for cell in book.cells if "outputs" in cell
    }
    for name, title in (
        ("graph", "OverlapGraph"),
        ("layout", "Layout"),
        ("cemi_dask.open_mosaic(result.mosaic)", "Mosaic"),
        ("result.cells", "Cells"),
    ):
        html = shown[name]["text/html"]
        assert f"<b>{title}</b>" in html
        assert "data:image/png;base64," in html
    assert "image/png" in shown["layout.plot(pixel_um=0.222)"]

    (running,) = (told for source, told in shown.items() if source.startswith("result = "))
    view = running["application/vnd.jupyter.widget-view+json"]["model_id"]
    widgets = book.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    bars = json.dumps(widgets[view]["state"]["outputs"])
    for stage in ("frames", "register", "solve", "blend", "analyse"):
        assert stage in bars
