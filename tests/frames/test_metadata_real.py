"""Real TIFFs of three microscopes: what is read is what stands in the file's own text."""

from __future__ import annotations

import configparser
import math
import zipfile
from pathlib import Path

import pytest
import tifffile

from cemi_dask.frames import Crop, FrameMetadata, InputOptions, find_sources, prepare, read_metadata

pytestmark = pytest.mark.real

ZEISS, FEI = "meta_zeiss_fei_gpl3", ("meta_fei_tfs_mit", "meta_fei_and_plain_tiff_mit")


@pytest.fixture(scope="session")
def unpacked(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures of both archives."""
    folder = tmp_path_factory.mktemp("unpacked")
    for archive in sorted((real_data / ZEISS).glob("*.zip")):
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                if member.filename.endswith(".tif"):
                    (folder / Path(member.filename).name).write_bytes(opened.read(member))
    return folder


def raw_tag(path: Path, code: int) -> str | None:
    """The text of a tag of the first page, byte for byte."""
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages.first.tags.get(code)
        if tag is None:
            return None
        tif.filehandle.seek(tag.valueoffset)
        return tif.filehandle.read(tag.valuebytecount).decode("latin-1").replace("\0", "")


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def fei_expected(text: str) -> dict[str, float | str | None]:
    """The statements of an FEI text, by Python's own reader of INI files."""
    ini = configparser.ConfigParser(strict=False, interpolation=None)
    # One text was cut off within a line, which configparser refuses.
    ini.read_string("\n".join(line for line in text.splitlines() if line[:1] == "[" or "=" in line))

    def value(section: str, key: str, factor: float) -> float | None:
        known = number(ini.get(section, key, fallback=""))
        return None if known is None else known * factor

    return {
        "pixel_um": value("Scan", "PixelWidth", 1e6),
        "accelerating_kv": value("Beam", "HV", 1e-3),
        "working_distance_mm": value("Stage", "WorkingDistance", 1e3),
        "stage_x_um": value("Stage", "StageX", 1e6),
        "stage_y_um": value("Stage", "StageY", 1e6),
        "stage_z_um": value("Stage", "StageZ", 1e6),
        "stage_rotation_deg": value("Stage", "StageR", math.degrees(1)),
        "stage_tilt_deg": value("Stage", "StageT", math.degrees(1)),
        "dwell_us": value("Scan", "Dwelltime", 1e6),
        "frame_time_s": value("Scan", "FrameTime", 1.0),
        "line_time_s": value(ini.get("Beam", "Scan") or "-", "LineTime", 1.0),
        "picture_width_px": value("Image", "ResolutionX", 1),
        "picture_height_px": value("Image", "ResolutionY", 1),
        "bar_height_px": value("PrivateFei", "DatabarHeight", 1),
        "detector": ini.get("Detectors", "Name"),
        "instrument": ini.get("System", "SystemType"),
        "acquired": f"{ini.get('User', 'Date')} {ini.get('User', 'Time')}",
    }


UNITS = {"nm": 1e-3, "µm": 1.0, "mm": 1e3, "kV": 1.0, "ns": 1e-3, "ms": 1e-3, "°": 1.0}


def zeiss_expected(text: str) -> dict[str, float | None]:
    """The statements of a SmartSEM text, each found by its key and the line after it."""
    lines = [line.strip() for line in text.splitlines()]

    def value(key: str, per: float = 1.0) -> float | None:
        if key not in lines:
            return None
        digits, unit = lines[lines.index(key) + 1].split("=")[1].split()
        return float(digits) * UNITS[unit] * per

    return {
        "accelerating_kv": value("AP_ACTUALKV"),
        "working_distance_mm": value("AP_WD", 1e-3),
        "stage_x_um": value("AP_STAGE_AT_X"),
        "stage_y_um": value("AP_STAGE_AT_Y"),
        "stage_z_um": value("AP_STAGE_AT_Z"),
        "stage_rotation_deg": value("AP_STAGE_AT_R"),
        "stage_tilt_deg": value("AP_STAGE_AT_T"),
        "dwell_us": value("DP_DWELL_TIME"),
        "line_time_s": value("AP_LINE_TIME"),
    }


def assert_states(found: FrameMetadata, expected: dict[str, float | str | None]) -> None:
    for name, value in expected.items():
        exact = value is None or isinstance(value, str)
        assert getattr(found, name) == (value if exact else pytest.approx(value, rel=1e-9)), name


def test_every_fei_picture_is_read_as_its_text_says(real_data: Path, unpacked: Path) -> None:
    pictures = [
        *unpacked.glob("FEI*.tif"),
        *(p for f in FEI for p in (real_data / f).glob("*.tif")),
    ]
    texts = {path: raw_tag(path, 34682) for path in pictures}
    tagged = {path: text for path, text in texts.items() if text is not None}
    assert len(tagged) == 7
    for path, text in tagged.items():
        found, expected = read_metadata(path), fei_expected(text)
        if path.stem == "FEI-Helios-navcam":  # no PixelWidth: 0.202732 m on 768 px
            assert expected["pixel_um"] is None
            expected["pixel_um"] = 0.202732e6 / 768
        assert_states(found, expected)
        assert found.vendor == "FEI"


def test_known_values_of_fei_pictures(real_data: Path, unpacked: Path) -> None:
    rebco = read_metadata(real_data / "meta_fei_tfs_mit" / "REBCO.tif")
    assert rebco.pixel_um == pytest.approx(1.90805e-3)
    assert (rebco.accelerating_kv, rebco.detector, rebco.dwell_us) == (3.0, "TLD", 10.0)
    assert rebco.magnification == pytest.approx(65000, rel=1e-4)
    assert (rebco.stage_x_um, rebco.stage_y_um) == (-18329.7, -2521.06)
    needle = read_metadata(real_data / "meta_fei_and_plain_tiff_mit" / "test_image_2.tif")
    assert (needle.pixel_um, needle.dwell_us, needle.detector) == (0.0976562, 1.0, "ETD")
    for bits in (8, 16):
        assert read_metadata(unpacked / f"FEI-Helios-Ebeam-{bits}bits.tif").pixel_um == 3.3724


def test_malformed_floats_are_none_and_told(unpacked: Path) -> None:
    found = read_metadata(unpacked / "FEI-Helios-navcam-with-no-IRBeam-bad-floats.tif")
    assert (found.accelerating_kv, found.working_distance_mm, found.pixel_um) == (None, None, None)
    assert found.stage_x_um == 69919.7
    assert len(found.notes) == 2
    assert all("'notafloat'" in note for note in found.notes)


def test_a_plain_tiff_states_nothing(real_data: Path) -> None:
    found = read_metadata(real_data / "meta_fei_and_plain_tiff_mit" / "test_image.tif")
    assert found == FrameMetadata()


@pytest.mark.parametrize(
    ("name", "pixel_um", "magnification", "detector", "instrument"),
    [
        ("test_tiff_Zeiss_SEM_1k", 2.615, 105, "HE-SE2", "Merlin"),
        ("ZEISS_SEM_multipage", 0.01233, 4530, "InLens", "Auriga 60"),
        # "Pixel Size = 5.825 nm" is that of 1024 screen pixels; the field of 5.965 um on 512
        # picture pixels makes 11.65 nm.
        ("test_tiff_Zeiss_SEM_512pix", 0.01165, 50000, "InLens", "ULTRA 55-36-06"),
    ],
)
def test_zeiss_pictures_are_read_as_their_text_says(
    unpacked: Path,
    name: str,
    pixel_um: float,
    magnification: float,
    detector: str,
    instrument: str,
) -> None:
    path = unpacked / f"{name}.tif"
    text, found = raw_tag(path, 34118), read_metadata(path)
    assert text is not None
    assert_states(found, {**zeiss_expected(text), "pixel_um": pixel_um})
    assert found.magnification == magnification
    assert (found.detector, found.instrument) == (detector, instrument)
    assert found.notes == ()
    # An independent check: the width of the field, stated in the same text.
    lines = [line.strip() for line in text.splitlines()]
    digits, unit = lines[lines.index("AP_WIDTH") + 1].split("=")[1].split()
    with tifffile.TiffFile(path) as tif:
        width_px = tif.pages.first.imagewidth
    assert found.pixel_um == pytest.approx(float(digits) * UNITS[unit] / width_px, rel=1e-3)


def test_the_stated_height_crops_the_data_bar(real_data: Path) -> None:
    options = InputOptions(paths=(str(real_data / "meta_fei_tfs_mit" / "REBCO.tif"),))
    (source,) = prepare(find_sources(options), options)
    assert source.crop == Crop(bottom=59)
    assert source.pixel_um == pytest.approx(1.90805e-3)
