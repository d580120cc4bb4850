"""The page: complete, self-contained, escaped, the same every time, honest about gaps."""

from __future__ import annotations

import ast
import base64
import json
import re
from pathlib import Path

import pytest

import cemi_dask.report
from cemi_dask import store
from cemi_dask.contract import CONTRACT
from cemi_dask.errors import ConfigError, StoreError, UnreadableError
from cemi_dask.report import ReportOptions, write_report
from tests.report.fake_run import FakeRun, write_fake_run

# Coarse figures: the tests look at what is there, not at how fine it is.
QUICK = ReportOptions(figure_dpi=72, page_dpi=72, detail_px=128, vector_formats=())
SECTIONS = {
    "mosaic",
    "details",
    "zoom",
    "maps",
    "profiles",
    "hardness",
    "stitching",
    "denoising",
    "timings",
    "versions",
    "config",
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("report") / "run", FakeRun())


@pytest.fixture(scope="module")
def page(run_folder: Path) -> str:
    return write_report(run_folder, options=QUICK).read_text(encoding="utf-8")


def section(page: str, key: str) -> str:
    found = re.search(rf'<section id="{key}">(.*?)</section>', page, re.DOTALL)
    assert found, f"no section {key}"
    return found.group(1)


def test_a_whole_run_fills_every_section(page: str) -> None:
    assert set(re.findall(r'<section id="(\w+)">', page)) == SECTIONS
    assert 'class="missing"' not in page
    for key in ("mosaic", "details", "maps", "profiles", "hardness", "stitching", "denoising"):
        assert "<img" in section(page, key)


def test_the_mosaic_says_what_blending_does_to_noise(page: str) -> None:
    text = section(page, "mosaic")
    assert "Blended by feather: noise is lower where frames overlap." in text


def test_models_of_hardness_show_what_they_predict_beside_what_they_fit(
    run_folder: Path, page: str
) -> None:
    text = section(page, "hardness")
    assert (run_folder / "figures" / "hardness-profiles.png").is_file()
    models = store.read_table(run_folder / "tables", "models")
    assert len(models) == 5
    assert text.count("over-fitted</td>") == models["over_fitted"].sum() > 0
    assert "Q² by blocks" in text


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    heads = {"data:image/png;base64": b"\x89PNG", "data:image/webp;base64": b"RIFF"}
    for image in (s for s in sources if not s.startswith("#")):
        kind, _, data = image.partition(",")
        assert base64.b64decode(data).startswith(heads[kind])
    shown = re.sub(r"base64,[^\"]*", "", page)
    for outside in ("<script", "<link", "@import", "url(", "<iframe"):
        assert outside not in shown


def test_links_lead_to_sections(page: str) -> None:
    anchors = set(re.findall(r'href="#(\w+)"', page))
    assert anchors == SECTIONS


def test_text_from_files_is_escaped(page: str) -> None:
    assert "ingot-&lt;7&gt;" in page
    assert "ingot-<7>" not in page
    assert "torn &lt;b&gt;scan&lt;/b&gt;" in section(page, "stitching")
    assert "&lt;unreadable&gt;" in page
    assert "name: &lt;strip&gt;" in section(page, "config")


def test_numbers_of_the_run_are_told(page: str) -> None:
    assert "2\u202f600 × 420 px" in page
    assert "577.2 × 93.2 µm" in page
    assert "4 × 24 cells" in page
    assert "412 MB" in section(page, "timings")
    assert "2 not used" in page
    assert "Peak memory" in section(page, "timings")


def test_stitching_is_told_in_figures_and_numbers(run_folder: Path, page: str) -> None:
    names = {path.stem for path in (run_folder / "figures").glob("*.png")}
    assert names >= {"placement", "residuals", "loops", "vectors", "links", "seams"}
    text = section(page, "stitching")
    assert re.search(r"rival peak \d+", text)
    for measure in ("Closing error of loops of 3", "Grey step", "positions along y"):
        assert measure in text


def test_tables_of_the_contract_alone_make_a_page(tmp_path: Path) -> None:
    out = write_fake_run(tmp_path, FakeRun(), until="solve")
    pairs = store.read_table(out / "tables", "pairs")
    store.write_table(pairs[list(CONTRACT["pairs"])], out / "tables", "pairs")
    text = section(write_report(out, options=QUICK).read_text(encoding="utf-8"), "stitching")
    assert "Grey step" not in text
    assert "Closing error of loops of 3" in text
    assert not (out / "figures" / "seams.png").exists()


def test_figures_are_the_same_bytes_every_time(run_folder: Path, page: str) -> None:
    import matplotlib

    folder = run_folder / "figures"
    before = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    assert len(before) >= 13
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):  # a user's settings
        again = write_report(run_folder, options=QUICK).read_text(encoding="utf-8")
    assert {path.name: path.read_bytes() for path in folder.glob("*.png")} == before
    assert again == page


def test_drawings_are_kept_as_vectors_too(tmp_path: Path) -> None:
    out = write_fake_run(tmp_path, FakeRun(), until="analyse")
    both = QUICK.model_copy(update={"vector_formats": ("pdf", "svg"), "detail_count": 1})
    write_report(out, options=both)
    files = {p.name: p.read_bytes() for p in (out / "figures").iterdir() if p.suffix != ".png"}
    assert {"maps.pdf", "maps.svg", "profiles.pdf", "profiles.svg"} <= files.keys()
    assert not any(name.startswith("detail") for name in files)  # pixels are no vectors
    assert all(
        data.startswith(b"%PDF" if name.endswith(".pdf") else b"<?xml")
        for name, data in files.items()
    )
    write_report(out, options=both)
    assert files == {name: (out / "figures" / name).read_bytes() for name in files}
    write_report(out, options=QUICK)
    assert not list((out / "figures").glob("*.pdf"))


def test_old_figures_go_and_foreign_files_stay(tmp_path: Path) -> None:
    out = write_fake_run(tmp_path, FakeRun(), until="frames")
    (out / "figures").mkdir()
    for name in ("maps.png", "detail-Z.png", "mine.png"):
        (out / "figures" / name).write_bytes(b"old")
    write_report(out, options=QUICK)
    assert [path.name for path in (out / "figures").iterdir()] == ["mine.png"]


@pytest.mark.parametrize(
    ("until", "missing"),
    [
        ("frames", {"mosaic": "blend", "maps": "analyse", "stitching": "solve"}),
        ("solve", {"mosaic": "blend", "denoising": "denoise", "profiles": "analyse"}),
        ("blend", {"maps": "analyse", "profiles": "analyse"}),
    ],
)
def test_what_is_not_there_yet_names_its_stage(
    tmp_path: Path, until: str, missing: dict[str, str]
) -> None:
    page = write_report(write_fake_run(tmp_path, FakeRun(), until=until), options=QUICK)
    text = page.read_text(encoding="utf-8")
    for key, stage in missing.items():
        assert f"stage {stage}" in section(text, key)
    assert set(re.findall(r'<section id="(\w+)">', text)) >= SECTIONS - {"details"}
    if until == "blend":
        assert "<img" in section(text, "details")
        assert "stage segment" in section(text, "details")


def test_without_pixel_size_lengths_are_in_pixels(tmp_path: Path) -> None:
    out = write_fake_run(tmp_path, FakeRun(pixel_um=None), points=False)
    text = write_report(out, options=QUICK).read_text(encoding="utf-8")
    assert "unknown" in text
    assert re.search(
        r"x = [\d.]+ px, y = [\d.]+ px, lamella width [\d.]+ px", section(text, "details")
    )
    assert (out / "figures" / "correlation.png").is_file()  # no points: intervals alone


def test_a_failed_run_says_so(tmp_path: Path) -> None:
    out = write_fake_run(tmp_path, FakeRun(), until="frames")
    run = json.loads((out / "run.json").read_text())
    run |= {"state": "failed", "error": "StoreError: disk <full>"}
    (out / "run.json").write_text(json.dumps(run))
    text = write_report(out, options=QUICK).read_text(encoding="utf-8")
    assert "This run did not finish" in text
    assert "disk &lt;full&gt;" in text


def test_a_config_without_denoising_and_analysis_is_told_from_a_missing_stage(
    tmp_path: Path,
) -> None:
    out = write_fake_run(tmp_path, FakeRun(), until="frames")
    run = json.loads((out / "run.json").read_text())
    run["config"] = {"denoise": None, "analyse": None}
    (out / "run.json").write_text(json.dumps(run))
    text = write_report(out, options=QUICK).read_text(encoding="utf-8")
    assert "asks for no denoising" in section(text, "denoising")
    assert "asks for no analysis" in section(text, "maps")


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="no run folder"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_run_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"name": "x"')
    with pytest.raises(UnreadableError, match=r"run\.json is damaged"):
        write_report(tmp_path)


def test_options_of_the_runs_config_that_cannot_be_are_named(tmp_path: Path) -> None:
    out = write_fake_run(tmp_path, FakeRun(), until="frames")
    run = json.loads((out / "run.json").read_text())
    run["config"] = {"report": {"figure_dpi": 3}}
    (out / "run.json").write_text(json.dumps(run))
    with pytest.raises(UnreadableError, match=r"run\.json.*config\.report.*figure_dpi"):
        write_report(out)


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    out = write_fake_run(tmp_path, FakeRun(), until="frames")
    (out / "tables" / "frames.parquet").write_bytes(b"PAR1 but torn")
    with pytest.raises(StoreError, match="frames"):
        write_report(out, options=QUICK)


def test_unknown_colour_map_is_a_config_error(run_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"report\.colormap.*'sunset'"):
        write_report(run_folder, options=QUICK.model_copy(update={"colormap": "sunset"}))


def test_no_module_uses_pyplot() -> None:
    for path in Path(cemi_dask.report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] + [getattr(node, "module", "") or ""]
                assert not any("pyplot" in name for name in names), path
