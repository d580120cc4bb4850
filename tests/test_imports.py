"""Imports go one way, and importing the package stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cemi_dask

PACKAGE = Path(cemi_dask.__file__).parent
BASE = {
    "contract",
    "display",
    "distortion",
    "errors",
    "geometry",
    "overlap",
    "frameset",
    "explain",
    "measures",
    "methods",
    "compute",
    "resample",
    "scalebar",
    "torchlib",
}
SIBLINGS = {"frames", "denoise", "register", "solve", "blend", "store", "segment", "analyse"}
# Each layer may import itself and the layers below it.
LAYERS = [
    BASE,
    {"learn"},
    SIBLINGS,
    {"report", "view", "simulate"},
    {"pipeline"},
    {"cli_batch", "cli_train", "cli_evaluate", "cli_options", "cli_view", "cli_export"},
    {"cli"},
]


def unit_of(module: str) -> str:
    """The part of cemi_dask that a dotted name belongs to ('' for the top level)."""
    return module.removeprefix("cemi_dask").lstrip(".").partition(".")[0]


def imports_of(path: Path) -> set[str]:
    """Parts of cemi_dask that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {unit_of(a.name) for a in node.names if a.name.startswith("cemi_dask.")}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write it absolutely"
            if node.module == "cemi_dask":
                found |= {a.name for a in node.names if not a.name.startswith("__")}
            elif node.module and node.module.startswith("cemi_dask."):
                found.add(unit_of(node.module))
    return found


def layer_of(unit: str) -> int:
    for number, layer in enumerate(LAYERS):
        if unit in layer:
            return number
    raise AssertionError(f"cemi_dask.{unit} is in no layer: add it to LAYERS")


def source_files() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", source_files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in imports_of(path) - {own}:
        if layer_of(own) == 0:
            assert other in BASE, f"{path}: a base module imports {other}"
        else:
            assert layer_of(other) < layer_of(own), f"{path}: {own} must not import {other}"


# The graph layer: the only modules of the stages that know dask. All others are kernels.
GRAPH_LAYER = {
    "frames": {"lazy"},
    "denoise": {"stage"},
    "register": {"register", "grid", "batch", "rows", "stage", "unplaced"},
    "solve": set(),
    "blend": {"graph"},
    "store": {"mosaic", "pyramid", "framestore", "arrays"},
    "segment": {"lazy"},
    "analyse": {"table"},
    "simulate": {"measurement"},
}


def imported_libraries(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
            if node.module == "cemi_dask.compute":
                found.add("dask")
    return found


@pytest.mark.parametrize("package", sorted(GRAPH_LAYER))
def test_kernels_know_no_dask(package: str) -> None:
    files = {path.stem: path for path in (PACKAGE / package).glob("*.py")}
    assert GRAPH_LAYER[package] <= set(files)
    for name, path in files.items():
        if name not in GRAPH_LAYER[package]:
            assert not imported_libraries(path) & {"dask", "distributed"}, path


def test_importing_is_light() -> None:
    code = (
        "import sys, cemi_dask, cemi_dask.cli; "
        "print([m for m in ('torch', 'dask', 'distributed', 'matplotlib', 'zarr', 'cv2') "
        "if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == "[]"


@pytest.mark.parametrize(
    "package", sorted(SIBLINGS | {"learn", "report", "view", "simulate", "pipeline"})
)
def test_packages_import_without_torch_or_matplotlib(package: str) -> None:
    code = (
        f"import sys, cemi_dask.{package}; "
        "print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == "[]"
