"""The `cemi` command as a stranger uses it: what it prints, leaves and ends with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import psutil
import pytest
import tifffile
import yaml

from cemi_dask import __version__
from cemi_dask.cli import main
from cemi_dask.pipeline import RunResult, json_schema, progress, run
from cemi_dask.pipeline.ledger import Ledger
from cemi_dask.pipeline.progress import Lines
from tests.pipeline.conftest import contents, write_config
from tests.pipeline.pictures import HEIGHT, WIDTH, row, texture, write_grid, write_video

Words = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Words:
    """Runs a command that must end with a status; its one paragraph of error."""

    def command(status: int, *arguments: object) -> str:
        capsys.readouterr()
        assert main([str(a) for a in arguments]) == status
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert error.startswith("cemi: ")
        assert len(error.strip().splitlines()) == 1
        return error

    return command


@pytest.fixture
def done(capsys: pytest.CaptureFixture[str]) -> Words:
    """Runs a command that must succeed; what it printed."""

    def command(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(a) for a in arguments]) == 0
        return capsys.readouterr().out

    return command


def reused(out: Path) -> dict[str, tuple[int, int]]:
    """Per stage: items, and how many of them an earlier run had finished."""
    stages = json.loads((out / "run.json").read_text())["stages"]
    return {name: (stage["items"], stage["skipped"]) for name, stage in stages.items()}


def redone(out: Path) -> set[str]:
    """Stages of which something was done (those without items always are)."""
    return {name for name, (items, skipped) in reused(out).items() if items > skipped}


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
        ({"cluster": {"kind": "slurm"}}, ["cluster:", "'slurm'", "'local', 'address'"]),
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
    error = refused(2, "run", ingot, "--cluster", "slurm")
    assert "'slurm' is not known in this version" in error
    assert "start a dask scheduler there first" in error
    for address in ("8786", "foo://127.0.0.1:8786"):
        assert "tcp://host:8786" in refused(2, "run", ingot, "--cluster", address)


def test_the_schema_knows_every_key_of_the_ready_configs(done: Words) -> None:
    schema = json.loads(done("schema"))
    assert schema == json.loads(json.dumps(json_schema()))
    for file in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")):
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


# ---------------------------------------------------------------- the run folder


@pytest.fixture
def short(ingot: Path, scheduler: str) -> Callable[[Path], list[object]]:
    """The command line of a run that ends after its first stage."""
    return lambda out: ["run", ingot, "--out", out, "--until", "frames", "--cluster", scheduler]


def test_foreign_files_are_neither_overwritten_nor_deleted(
    short: Any, tmp_path: Path, refused: Words, done: Words
) -> None:
    taken = tmp_path / "taken"
    (taken / "tables").mkdir(parents=True)
    (taken / "tables" / "mine.csv").write_text("precious")
    assert "holds tables but no ledger" in refused(2, *short(taken))
    assert "is no run folder" in refused(2, *short(taken), "--fresh")
    assert contents(taken) == {"tables/mine.csv": b"precious"}
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused(2, *short(tmp_path / "file"))
    # beside the results, files of others stay, whatever their names
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "download.partial").write_text("precious")
    done(*short(beside))
    done(*short(beside), "--fresh")
    assert (beside / "download.partial").read_text() == "precious"
    assert redone(beside) == {"frames"}


def test_two_runs_in_one_folder_are_refused_also_with_fresh(
    short: Any, tmp_path: Path, refused: Words, done: Words
) -> None:
    done(*short(tmp_path))
    before = contents(tmp_path / "frames.zarr")
    with Ledger(tmp_path / "ledger").locked():
        for more in ([], ["--fresh"]):
            assert "Another process is running in" in refused(1, *short(tmp_path), *more)
        assert ": running" in done("status", tmp_path)
    assert contents(tmp_path / "frames.zarr") == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1.2 MB that may be remounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        made = False
    if not made:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_and_a_read_only_disk_are_named_and_the_run_resumes(
    ingot: Path, finished: RunResult, scheduler: str, small_disk: Path, refused: Words, done: Words
) -> None:
    out = small_disk / "run"
    command = ["run", ingot, "--out", out, "--cluster", scheduler, "--until", "pyramid"]
    error = refused(1, *command)
    assert re.search(rf"Cannot write {out}/.*No space left on device.*Free some space", error)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert re.search(rf"Cannot write {out}/.*[Rr]ead-only file system", refused(1, *command))
    subprocess.run(["mount", "-o", "remount,rw,size=60m", str(small_disk)], check=True)
    done(*command)
    assert reused(out)["frames"] == (2, 2)
    for level in ("0", "1"):
        assert contents(out / "mosaic.ome.zarr" / level) == contents(finished.mosaic / level)


def test_status_of_finished_unfinished_and_other_folders(
    finished: RunResult, short: Any, tmp_path: Path, refused: Words, done: Words
) -> None:
    assert "finished" in done("status", finished.out).splitlines()[0]
    done(*short(tmp_path / "run"))
    assert "unfinished; run the same command" in done("status", tmp_path / "run")
    assert "is no run folder" in refused(2, "status", tmp_path)
    (tmp_path / "run" / "run.json").write_text("{")
    assert "run.json is damaged" in refused(1, "status", tmp_path / "run")


def test_report_is_made_again_from_the_folder_alone(
    finished: RunResult, tmp_path: Path, refused: Words, done: Words
) -> None:
    assert "no run.json" in refused(1, "report", tmp_path)
    finished.report.unlink()
    assert str(finished.report) in done("report", finished.out)
    assert finished.report.is_file()


# ---------------------------------------------------------------- interrupted, killed, elsewhere


class Signals(Lines):
    """Does something as soon as an item of a stage is finished."""

    def __init__(self, stage: str, action: Callable[[], None]) -> None:
        super().__init__()
        self.at, self.action = stage, action

    def advance(self) -> None:
        super().advance()
        if self.name == self.at and self.done == 1:
            self.action()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_one_line_and_the_run_resumes(
    number: signal.Signals,
    ingot: Path,
    finished: RunResult,
    scheduler: str,
    tmp_path: Path,
    refused: Words,
    done: Words,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["run", ingot, "--out", tmp_path, "--cluster", scheduler, "--until", "denoise"]
    shown = Signals("register", lambda: os.kill(os.getpid(), number))
    with monkeypatch.context() as patch:
        patch.setattr("cemi_dask.pipeline.job.choose_progress", lambda: shown)
        assert "Interrupted. Finished items are kept" in refused(1, *command)
    assert json.loads((tmp_path / "run.json").read_text())["state"] == "interrupted"
    done(*command)
    stages = reused(tmp_path)
    assert stages["frames"] == (2, 2)
    assert stages["register"][1] >= 1
    assert contents(tmp_path / "frames.zarr") == contents(finished.out / "frames.zarr")


@pytest.mark.timeout(180)
def test_a_worker_that_is_killed_changes_nothing(
    ingot: Path, finished: RunResult, tmp_path: Path
) -> None:
    def kill_one() -> None:
        workers = [
            child
            for child in psutil.Process().children(recursive=True)
            if "spawn_main" in " ".join(child.cmdline())
        ]
        workers[-1].kill()

    result = run(ingot, out=tmp_path, until="blend", progress=Signals("denoise", kill_one))
    assert contents(result.out / "frames.zarr") == contents(finished.out / "frames.zarr")
    assert contents(result.mosaic / "0") == contents(finished.mosaic / "0")


def test_a_running_cluster_gives_the_same_bytes_as_a_local_one(
    ingot: Path, finished: RunResult, scheduler: str, tmp_path: Path, done: Words
) -> None:
    done("run", ingot, "--out", tmp_path, "--cluster", scheduler, "--until", "analyse")
    for name in ("mosaic.ome.zarr", "tables"):
        assert contents(tmp_path / name) == contents(finished.out / name), name


# ---------------------------------------------------------------- what is done again


def test_only_the_stages_that_a_change_touches_run_again(
    scheduler: str, tmp_path: Path, done: Words
) -> None:
    folder, out = tmp_path / "in", tmp_path / "run"
    for number, name in enumerate(("a", "b")):
        write_video(folder / f"{name}.mkv", row(texture(1), 10, y=50 * number))
    (tmp_path / "hardness.csv").write_text("x_um,hardness\n2,4\n10,5\n30,6\n50,7\n")
    values: dict[str, Any] = {
        "input": {"paths": [str(folder)], "pixel_um": 0.2},
        "denoise": {"method": "median"},
        "analyse": {"grid": {"cell_px": [70, 70]}, "hardness": {"file": "hardness.csv"}},
    }
    file = tmp_path / "config.yaml"

    def again(**changes: Any) -> set[str]:
        values.update(changes)
        file.write_text(yaml.safe_dump(values))
        done("run", file, "--out", out, "--cluster", scheduler, "--until", "analyse")
        return redone(out)

    # a mosaic this small has no coarser levels
    assert again() == {"frames", "register", "denoise", "blend", "segment", "analyse"}
    assert again() == set()
    first = (out / "tables" / "correlation.csv").read_text()
    (tmp_path / "hardness.csv").write_text("x_um,hardness\n2,4\n10,5\n30,6\n50,1\n")
    assert again() == {"analyse"}
    assert (out / "tables" / "correlation.csv").read_text() != first
    assert again(blend={"method": "average"}) == {"blend", "segment", "analyse"}
    os.utime(folder / "a.mkv", (1, 1))
    assert again() == {"frames", "register", "denoise", "blend", "segment", "analyse"}
    again(frames={"overlap_min": 0.5, "overlap_max": 0.8})
    assert reused(out)["frames"] == (2, 0)
    # what is switched off leaves nothing old behind
    again(denoise=None, segment=None, analyse=None)
    assert not (out / "frames.zarr" / "denoised").exists()
    assert not (out / "mosaic.ome.zarr" / "labels").exists()
    assert not list((out / "tables").glob("c*"))


# ---------------------------------------------------------------- one step alone


def test_denoise_keeps_names_shapes_and_types(tmp_path: Path, scheduler: str, done: Words) -> None:
    folder = write_grid(tmp_path / "in", texture(1))
    more = ["--method", "median", "--cluster", scheduler]
    assert "6 denoised frame(s)" in done("denoise", folder, tmp_path / "out", *more)
    assert sorted(contents(tmp_path / "out")) == sorted(contents(folder))
    for target in ("one.tif", "one.png"):
        done("denoise", folder / "tile_r0_c0.tif", tmp_path / "single" / target, *more)
    tiff = tifffile.imread(tmp_path / "single" / "one.tif")
    assert (tiff.shape, tiff.dtype) == ((HEIGHT, WIDTH), np.uint8)
    np.testing.assert_array_equal(tiff, tifffile.imread(tmp_path / "out" / "tile_r0_c0.tif"))
    png = cv2.imread(str(tmp_path / "single" / "one.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(png, tiff)
    video = write_video(tmp_path / "row.mkv", row(texture(1), 10))
    done("denoise", video, tmp_path / "frames", *more)
    assert min(contents(tmp_path / "frames")) == "row_00000.tif"


def test_denoise_refuses_targets_that_do_not_fit(tmp_path: Path, refused: Words) -> None:
    folder = write_grid(tmp_path / "in", texture(1))
    tile, before = folder / "tile_r0_c0.tif", contents(folder)
    for source, target, message in (
        (tile, tmp_path / "x.jpg", r"must end in \.png or \.tif"),
        (tile, tmp_path / "x", r"must end in \.png or \.tif"),
        (folder, tmp_path / "x.tif", "must be a folder"),
        (tile, tile, "is IN itself"),
        (folder, folder, "is IN itself"),
    ):
        assert re.search(message, refused(2, "denoise", source, target))
    assert "does not exist" in refused(1, "denoise", tmp_path / "no.tif", tmp_path / "x.tif")
    wrong = refused(2, "denoise", tile, tmp_path / "x.tif", "--method", "medan")
    assert re.search("'medan', did you mean 'median'.*'fourier'", wrong)
    assert contents(folder) == before


def test_stitch_takes_its_options_and_any_folder_name(
    tmp_path: Path, scheduler: str, done: Words, refused: Words
) -> None:
    folder = write_grid(tmp_path / "in", texture(1))
    pd.DataFrame(
        [(f"tile_r{r}_c{c}.tif", 100 * c, 60 * r) for r in range(2) for c in range(3)],
        columns=["file", "x", "y"],
    ).to_csv(tmp_path / "stage.csv", index=False)
    out = tmp_path / "mein Präparat 3"
    told = done(
        *("stitch", *sorted(folder.glob("*.tif")), "--out", out, "--cluster", scheduler),
        *("--pixel-size", 0.2, "--positions", tmp_path / "stage.csv", "--position-unit", "px"),
        *("--crop", "2,3,4,5", "--blend", "nearest"),
    )
    assert f"The report is {out / 'report.html'}" in told
    positions = pd.read_csv(out / "tables" / "positions.csv")
    assert positions["x_px"].tolist() == pytest.approx([0, 100, 200] * 2, abs=0.05)
    assert json.loads((out / "run.json").read_text())["pixel_um"] == 0.2
    again = ["stitch", folder, "--out", out]
    assert "top,bottom,left,right" in refused(2, *again, "--crop", "1,2")
    assert "'feather'" in refused(2, *again, "--blend", "fether")
    assert "'px' or 'um'" in refused(
        2, *again, "--positions", tmp_path / "stage.csv", "--position-unit", "furlong"
    )


def test_analyse_measures_a_tiff_in_px_and_says_so(
    finished: RunResult, scheduler: str, tmp_path: Path, done: Words
) -> None:
    import zarr

    picture = tmp_path / "picture.tif"
    tifffile.imwrite(picture, np.asarray(zarr.open_array(finished.mosaic / "0", mode="r")))
    out = tmp_path / "px"
    told = done("analyse", picture, "--out", out, "--grid", "3x5", "--cluster", scheduler)
    assert "Warning: No pixel size is known: lengths are in px" in told
    cells = pd.read_csv(out / "tables" / "cells.csv")
    assert (cells["row"].max() + 1, cells["col"].max() + 1) == (3, 5)
    um = [name for name in cells.columns if name.endswith(("_um", "_um_se"))]
    assert cells[um].isna().all(axis=None)
    assert cells["lamella_width_px"].notna().any()
    assert "No pixel size is known" in (out / "report.html").read_text()
    # the same pixels with a pixel size: the same fractions, and the widths in um
    sized = ["--pixel-size", 0.222, "--grid", "3x5", "--cluster", scheduler]
    done("analyse", picture, "--out", tmp_path / "um", *sized)
    known = pd.read_csv(tmp_path / "um" / "tables" / "cells.csv")
    pd.testing.assert_series_equal(known["bcc_fraction"], cells["bcc_fraction"])
    np.testing.assert_allclose(
        known["lamella_width_um"], 0.222 * cells["lamella_width_px"], rtol=1e-9
    )


def test_analyse_reads_a_run_folder_and_redoes_nothing(
    ingot: Path, finished: RunResult, scheduler: str, tmp_path: Path, done: Words
) -> None:
    command = ["analyse", finished.out, "--out", tmp_path, "--cell", "128x104"]
    done(*command, "--hardness", ingot.parent / "hardness.csv", "--cluster", scheduler)
    for table in ("cells", "profile", "correlation"):
        name = f"tables/{table}.csv"
        assert (tmp_path / name).read_text() == (finished.out / name).read_text(), table
    done(*command, "--hardness", ingot.parent / "hardness.csv", "--cluster", scheduler)
    assert redone(tmp_path) == set()


def test_analyse_reads_an_ome_zarr_of_other_software(
    scheduler: str, tmp_path: Path, done: Words
) -> None:
    import zarr

    group = zarr.open_group(tmp_path / "other.zarr", mode="w")
    array = group.create_array("s0", shape=(200, 300), chunks=(64, 64), dtype="uint8")
    array[:] = texture(1)[:200, :300]
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "yx"]
    scale = [{"type": "scale", "scale": [200.0, 200.0]}]
    datasets = [{"path": "s0", "coordinateTransformations": scale}]
    multiscales = [{"name": "x", "axes": axes, "datasets": datasets}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    out = tmp_path / "out"
    done(
        "analyse",
        tmp_path / "other.zarr",
        "--out",
        out,
        "--cell",
        "100x100",
        "--cluster",
        scheduler,
    )
    cells = pd.read_csv(out / "tables" / "cells.csv")
    assert len(cells) == 6
    assert cells["width_um"].tolist() == pytest.approx([20.0] * 6)


def test_analyse_refuses_what_it_cannot_measure(
    finished: RunResult, tmp_path: Path, refused: Words
) -> None:
    mosaic, out = finished.mosaic, tmp_path / "out"
    video = write_video(tmp_path / "a.mkv", row(texture(1), 4, step=60))
    for status, arguments, message in (
        (2, [finished.out, "--out", finished.out], "lies in --out"),
        (2, [mosaic, "--out", finished.out], "lies in --out"),
        (1, [mosaic, "--out", out, "--pixel-size", 0.5], "states a pixel size of 0.222"),
        (2, [mosaic, "--out", out, "--grid", "2y3"], "form 19x243"),
        (1, [finished.tables, "--out", out], "no OME-Zarr mosaic"),
        (1, [tmp_path / "gone", "--out", out], "Cannot read .*gone: No such file"),
        (1, [video, "--out", out], "video of several frames.*cemi stitch"),
        (1, [mosaic, "--out", out, "--hardness", tmp_path / "gone.csv"], "gone.csv: No such"),
    ):
        assert re.search(message, refused(status, "analyse", *arguments)), message
    assert not out.exists()


def test_a_run_without_pixel_size_works_in_px_and_says_so(
    ingot: Path, finished: RunResult, scheduler: str, tmp_path: Path, done: Words
) -> None:
    config = write_config(
        ingot,
        input={"paths": ["row_*"], "kind": "videos"},
        analyse={"grid": {"cell_px": [104, 128]}},
    )
    told = done("run", config, "--out", tmp_path, "--cluster", scheduler)
    assert "Warning: No pixel size is known" in told
    cells = pd.read_csv(tmp_path / "tables" / "cells.csv")
    known = pd.read_csv(finished.tables / "cells.csv")
    assert cells["lamella_width_um"].isna().all()
    pd.testing.assert_series_equal(cells["bcc_fraction"], known["bcc_fraction"])
    assert "No pixel size is known" in (tmp_path / "report.html").read_text()


def test_bars_show_text_with_brackets_as_it_is() -> None:
    from rich.console import Console

    console = Console(record=True, width=80, file=open(os.devnull, "w"))  # noqa: SIM115
    with progress.Bars(console) as bars:
        bars.say("tile [Grid@3 4].tif is [bold]blank")
    assert "tile [Grid@3 4].tif is [bold]blank" in console.export_text()
