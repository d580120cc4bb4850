"""The `cemi` command as a stranger uses it: wrong configs, and what is refused at once."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cemi_dask import __version__
from cemi_dask.cli import main
from cemi_dask.pipeline import RunResult, json_schema, progress
from tests.pipeline.conftest import Words, write_config

# ---------------------------------------------------------------- the command and its config


def test_usage_errors_end_with_2_and_help_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runn"]) == 2
    assert "run" in capsys.readouterr().err
    assert main(["run"]) == 2
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
    assert main(["--help"]) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"denosie": {}}, ["denosie: no such key", "did you mean 'denoise'", "frames, register"]),
        ({"frames": {"overlap_mim": 0.3}}, ["frames.overlap_mim", "0.3", "'overlap_min'"]),
        ({"denoise": {"method": "furier"}}, ["denoise:", "'furier'", "'nlm', 'median'"]),
        ({"denoise": "furier"}, ["denoise:", "'furier'", "'nlm', 'median'"]),
        ({"denoise": {"sigma": 3}}, ["denoise: the key 'method' is missing"]),
        ({"denoise": {"method": "nlm", "sigmaa": 3}}, ["denoise.sigmaa: no such key", "3"]),
        ({"segment": {"bcc": {"method": "bradley", "window": 9}}}, ["segment.bcc.window", "9"]),
        ({"blend": {"method": "fether"}}, ["blend:", "'feather'", "'average'"]),
        ({"analyse": {"grid": {"rows": 3}}}, ["analyse.grid: rows and cols go together"]),
        ({"analyse": {"measures": ["bcc"]}}, ["analyse.measures", "'bcc_fraction'"]),
        ({"input": {"paths": ["a"], "crop": "atuo"}}, ["input.crop", "'atuo'", "'auto' or 'none'"]),
        ({"input": {"paths": ["a"], "crop": {"botom": 1}}}, ["input.crop.botom", "'bottom'"]),
        ({"input": {"paths": ["a"], "pixel_um": "0,2"}}, ["input.pixel_um", "'0,2'"]),
        ({"input": {"path": ["a"]}}, ["input.paths: is missing", "input.path: no such key"]),
        ({"cluster": {"kind": "slumr"}}, ["cluster:", "'slurm'", "'local', 'address'"]),
        ({"cluster": {"memory_limit": "lots"}}, ["cluster.memory_limit", "'lots'", "2 GiB"]),
        ({"mosaic": {"shard_px": 100, "chunk_px": 64}}, ["mosaic: shard_px 100"]),
        ({"name": "a b"}, ["name:", "'a b'"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else json.dumps(value)[:40],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_wrong_config_is_told_by_file_key_value_and_remedy(
    changes: dict[str, Any], words: list[str], command: str, tmp_path: Path, refused: Words
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"input": {"paths": ["videos"]}, **changes}))
    error = refused(2, command, file)
    for word in ["mine.yaml", *words, "Correct it, or see configs/"]:
        assert word in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("", "holds nothing, not keys and values"),
        ("- a\n- b\n", "holds a list"),
        ("input: [\n", "is no valid YAML.*line 2"),
        ("input: {paths: [a]}\ninput: {paths: [b]}\n", "'input' occurs twice.*line 2"),
        ("\udcff", "is no valid YAML"),
    ],
    ids=["missing", "empty", "list", "broken", "twice", "bytes"],
)
def test_a_file_that_is_no_config_is_told(
    text: str | None, message: str, tmp_path: Path, refused: Words
) -> None:
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text, errors="surrogateescape")
    assert re.search(rf"mine\.yaml.*{message}.*configs/ ", refused(2, "run", file))


def test_debug_shows_the_traceback_wherever_it_stands(tmp_path: Path) -> None:
    for arguments in (["--debug", "run", "x.yaml"], ["run", "x.yaml", "--debug"]):
        with pytest.raises(ValueError, match=r"Cannot read the config x\.yaml"):
            main(arguments)


def test_short_forms_mean_what_they_say(tmp_path: Path, ingot: Path, done: Words) -> None:
    file = tmp_path / "short.yaml"
    values = {"input": {"paths": str(ingot.parent / "row_*"), "pixel_um": 0.2}, "denoise": "median"}
    file.write_text(yaml.safe_dump({**values, "cluster": {"workers": 1}}))
    assert "2 sources" in done("plan", file)


def test_wrong_stages_and_clusters_are_refused(ingot: Path, refused: Words) -> None:
    assert "Stages are: frames, register" in refused(2, "run", ingot, "--until", "blnd")
    error = refused(2, "run", ingot, "--cluster", "slumr")
    assert "'slumr' is not known. Give local, slurm, pbs" in error
    for address in ("8786", "foo://127.0.0.1:8786"):
        assert "tcp://host:8786" in refused(2, "run", ingot, "--cluster", address)


def test_the_schema_knows_every_key_of_the_ready_configs(done: Words) -> None:
    schema = json.loads(done("schema"))
    assert schema == json.loads(json.dumps(json_schema()))
    files = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
    for file in (file for file in files if not file.stem.startswith("train_")):
        assert set(yaml.safe_load(file.read_text())) <= set(schema["properties"]), file.name


def test_doctor_lists_codecs_and_methods(done: Words) -> None:
    told = done("doctor")
    for word in ("ffv1", "GPU", "denoisers", "fourier", "memory"):
        assert word in told


# ---------------------------------------------------------------- before anything starts


def test_what_cannot_fit_is_refused_by_plan(ingot: Path, tmp_path: Path, refused: Words) -> None:
    tiny = write_config(ingot, cluster={"kind": "local", "memory_limit": "50 MiB"})
    error = refused(1, "plan", tiny, "--out", tmp_path / "run")
    assert re.search(r"needs \d.* a worker and cluster\.memory_limit is 50.*shard_px", error)
    assert not (tmp_path / "run").exists()
    error = refused(1, "run", tiny, "--out", tmp_path / "run")
    assert re.search(r"memory_limit leaves a worker 50\.00 MiB.*Raise it", error)


def test_plan_says_what_is_finished(ingot: Path, finished: RunResult, done: Words) -> None:
    lines = done("plan", ingot, "--out", finished.out).splitlines()
    frames = next(line for line in lines if "frames" in line and "│" in line)
    assert [cell.strip() for cell in frames.strip("│ ").split("│")][1:3] == ["2", "2"]


def test_an_analysis_that_cannot_work_is_refused_at_once(
    ingot: Path, tmp_path: Path, refused: Words
) -> None:
    videos = {"paths": ["row_*"], "kind": "videos"}
    for analyse in ({"hardness": {"file": "hardness.csv"}}, {"grid": {"cell_um": [20, 20]}}):
        config = write_config(ingot, input=videos, analyse=analyse)
        assert re.search("pixel size.*input.pixel_um", refused(2, "run", config, "--out", tmp_path))
    config = write_config(ingot, segment=None)
    assert "needs its labels. Leave segment away" in refused(2, "run", config, "--out", tmp_path)
    config = write_config(ingot, analyse={"hardness": {"file": "truth.csv"}})
    assert re.search(r"truth\.csv: none of the columns", refused(1, "plan", config))


def test_an_address_without_scheduler_is_an_error_in_time(
    ingot: Path, tmp_path: Path, refused: Words
) -> None:
    config = write_config(
        ingot, cluster={"kind": "address", "address": "tcp://127.0.0.1:1", "timeout_s": 1}
    )
    error = refused(1, "run", config, "--out", tmp_path / "run")
    assert "No dask scheduler answers at tcp://127.0.0.1:1 within 1 s" in error
    assert "Check the address" in error


def test_bars_show_text_with_brackets_as_it_is() -> None:
    from rich.console import Console

    console = Console(record=True, width=80, file=open(os.devnull, "w"))  # noqa: SIM115
    with progress.Bars(console) as bars:
        bars.say("tile [Grid@3 4].tif is [bold]blank")
    assert "tile [Grid@3 4].tif is [bold]blank" in console.export_text()


def test_a_notebook_gets_bars_where_it_can_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    console = Console(force_jupyter=True)
    monkeypatch.setattr(progress, "find_spec", lambda name: object())
    assert isinstance(progress.choose_progress(console), progress.Bars)
    monkeypatch.setattr(progress, "find_spec", lambda name: None)  # no ipywidgets
    assert isinstance(progress.choose_progress(console), progress.Lines)
