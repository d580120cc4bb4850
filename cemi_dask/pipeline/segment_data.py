"""The labelled pictures that a config of `cemi train segment` names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cemi_dask.denoise.inference import grey_scale
from cemi_dask.denoise.training.degradation import MicroscopeNoise
from cemi_dask.errors import ConfigError, InputError, UnreadableError
from cemi_dask.frames.images import decode_image, read_image
from cemi_dask.learn.batches import split
from cemi_dask.learn.options import Options
from cemi_dask.pipeline.single import PICTURES
from cemi_dask.segment.annotations import (
    LabelNames,
    coco_labels,
    decode_base64,
    labelme_labels,
    mask_labels,
)
from cemi_dask.segment.training import Labelled
from cemi_dask.segment.training.patches import Degrade
from cemi_dask.simulate.labelled import labelled_picture

HELD_OUT_SEED = 1_000_003  # held-out specimens share no seed with those trained on
SHARE = Field(
    default=0.125,
    gt=0,
    lt=1,
    description="Share of the pictures that is held out to validate on, at least one.",
)
RENAME: Any = Field(
    default={},
    description="What names in the files stand for: a label, background or unknown.",
)


class SimulatedSpecimens(Options):
    """Random specimens of the simulator, of periods of 3 to 20 px, with the microscope's noise."""

    kind: Literal["simulated"] = "simulated"
    pictures: int = Field(default=400, ge=1, description="Specimens, rendered at the start.")
    held_out: int = Field(default=40, ge=1, description="Further specimens to validate on.")
    size_px: int = Field(default=384, ge=64, description="Side of the pictures.")
    degradation: MicroscopeNoise = Field(
        default=MicroscopeNoise(sigma=(3.0, 40.0)), description="Noise, drawn in each step."
    )


class LabelmeFiles(Options):
    """Files of the program Labelme: one .json per picture, which it names or holds."""

    kind: Literal["labelme"] = "labelme"
    folder: str = Field(description="Folder of the .json files, relative to this file.")
    pictures: str | None = Field(
        default=None,
        description="Folder of the pictures where they do not lie in `folder`; null: there.",
    )
    rename: dict[str, str] = RENAME
    line_width_px: int | None = Field(
        default=None, ge=1, description="Width in which lines are drawn; null: lines are refused."
    )
    held_out_share: float = SHARE


class MaskPictures(Options):
    """Pictures, and mask pictures of the same names whose grey levels mean labels."""

    kind: Literal["masks"] = "masks"
    pictures: str = Field(description="Folder of pictures, relative to this file.")
    masks: str = Field(description="Folder of masks of the same names (PNG or TIFF).")
    values: dict[int, str] = Field(
        default={},
        description="What each grey level means; without it any but 0 the only label, or level k "
        "the label k.",
    )
    held_out_share: float = SHARE


class CocoFile(Options):
    """A COCO file of instances: polygons and run lengths."""

    kind: Literal["coco"] = "coco"
    file: str = Field(description="The .json file, relative to this file.")
    pictures: str | None = Field(
        default=None, description="Folder of the pictures; null: that of the file."
    )
    rename: dict[str, str] = RENAME
    held_out_share: float = SHARE


AnyLabelled = SimulatedSpecimens | LabelmeFiles | MaskPictures | CocoFile
SegmentData = Annotated[AnyLabelled, Field(discriminator="kind")]


@dataclass(frozen=True)
class SegmentSource:
    """Labelled pictures to train on, held-out ones, and what makes them noisy."""

    train: Sequence[Labelled]
    held: Sequence[Labelled]
    degrade: Degrade | None = None


def open_labelled(
    data: AnyLabelled, labels: tuple[str, ...], base: Path, *, seed: int
) -> SegmentSource:
    """The data, read or rendered, some of the pictures held out; paths start at `base`.

    Raises ConfigError where a path leads to nothing, UnreadableError for a file that is
    damaged, InputError for labels that cannot be used.
    """
    if isinstance(data, SimulatedSpecimens):
        print(f"Rendering {data.pictures + data.held_out} specimens", flush=True)
        return SegmentSource(
            [_specimen(data.size_px, seed, k) for k in range(data.pictures)],
            [_specimen(data.size_px, seed + HELD_OUT_SEED, k) for k in range(data.held_out)],
            data.degradation,
        )
    train, held = split(read_labelled(data, labels, base), seed=seed, share=data.held_out_share)
    return SegmentSource(train, held)


def _specimen(size_px: int, seed: int, number: int) -> Labelled:
    grey, lamellar = labelled_picture(size_px, seed=seed, number=number)
    return Labelled(f"specimen {number}", grey, lamellar)


def read_labelled(
    data: LabelmeFiles | MaskPictures | CocoFile, labels: tuple[str, ...], base: Path
) -> list[Labelled]:
    """All labelled pictures of the files, in the order of their names; see `open_labelled`."""
    if isinstance(data, LabelmeFiles):
        return list(_labelme(data, LabelNames(labels, data.rename), base))
    if isinstance(data, CocoFile):
        return list(_coco(data, LabelNames(labels, data.rename), base))
    return list(_masks(data, LabelNames(labels, {}), base))


def _labelme(data: LabelmeFiles, names: LabelNames, base: Path) -> Iterator[Labelled]:
    folder = base / data.folder
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        raise ConfigError(f"data.folder: there are no .json files at {folder}. Give their folder.")
    for file in files:
        document = _read_json(file)
        shapes = document.get("shapes")
        if not isinstance(shapes, list) or not all(isinstance(s, Mapping) for s in shapes):
            raise InputError(f"{file} has no list of shapes; it is no file of Labelme.")
        if document.get("imageData"):
            where = f"the picture in {file}"
            picture = decode_image(decode_base64(document["imageData"], where), where)
        else:
            pictures = None if data.pictures is None else base / data.pictures
            picture = read_image(picture_beside(folder, document.get("imagePath"), pictures, file))
        said = document.get("imageHeight"), document.get("imageWidth")
        if None not in said and said != picture.shape:
            raise InputError(
                f"{file} was drawn on a picture of {said[1]} x {said[0]} px, and its picture has "
                f"{picture.shape[1]} x {picture.shape[0]}. Give the right one."
            )
        shape = (picture.shape[0], picture.shape[1])
        found = labelme_labels(
            shapes, shape, names, line_width_px=data.line_width_px, where=file.name
        )
        yield _labelled(file.stem, picture, found)


def _coco(data: CocoFile, names: LabelNames, base: Path) -> Iterator[Labelled]:
    file = base / data.file
    document = _read_json(file)
    parts = [document.get(key) for key in ("images", "annotations", "categories")]
    if not all(isinstance(part, list) for part in parts):
        raise InputError(f"{file} lacks images, annotations or categories; it is no COCO file.")
    images, annotations, categories = parts
    numbers = {c["id"]: names.number(str(c["name"]), file.name) for c in categories or ()}
    of_picture: dict[Any, list[Any]] = {}
    for each in annotations or ():
        of_picture.setdefault(each.get("image_id"), []).append(each)
    pictures = None if data.pictures is None else base / data.pictures
    for image in sorted(images or (), key=lambda image: str(image.get("file_name"))):
        path = picture_beside(file.parent, image.get("file_name"), pictures, file)
        picture = read_image(path)
        shape = (picture.shape[0], picture.shape[1])
        found = coco_labels(of_picture.get(image["id"], ()), shape, numbers, where=file.name)
        yield _labelled(path.stem, picture, found)


def _masks(data: MaskPictures, names: LabelNames, base: Path) -> Iterator[Labelled]:
    pictures, masks = (pictures_by_stem(base / folder) for folder in (data.pictures, data.masks))
    alone = sorted(set(pictures) ^ set(masks))
    if alone or not pictures:
        told = f"without a partner: {', '.join(alone[:8])}" if alone else "there are none"
        raise ConfigError(
            f"data.pictures and data.masks must hold pictures of equal names; {told}. Rename or "
            "remove them."
        )
    for name, path in pictures.items():
        mask = read_image(masks[name])
        yield _labelled(
            name, read_image(path), mask_labels(mask, names, data.values, where=masks[name].name)
        )


def pictures_by_stem(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by their names without suffix, in order."""
    if not folder.is_dir():
        raise ConfigError(f"data: {folder} is no folder. Correct the path.")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    return {path.stem: path for path in found}


def picture_beside(folder: Path, given: Any, pictures: Path | None, file: Path) -> Path:
    """The picture that an annotation in `file` names, perhaps with backslashes.

    It lies in `folder` or below, or by its last name in `pictures` where that is set. Raises
    InputError for a path that leads elsewhere: files are not to reach beyond what was given.
    """
    if not isinstance(given, str) or not given:
        raise InputError(f"{file} names no picture and holds none.")
    plain = PurePosixPath(given.replace("\\", "/"))
    if pictures is not None:
        return pictures / plain.name
    path = (folder / plain).resolve()
    if plain.is_absolute() or not path.is_relative_to(folder.resolve()):
        raise InputError(
            f"{file} names the picture {given!r}, which does not lie in {folder}. Set "
            "data.pictures to the folder that it lies in."
        )
    return path


def _labelled(name: str, picture: npt.NDArray[Any], labels: npt.NDArray[np.uint8]) -> Labelled:
    return Labelled(name, grey_scale(picture).to_unit(picture), labels)


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"data: {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UnreadableError(f"{path} is no JSON ({error}). Save it again.") from error
    if not isinstance(document, Mapping):
        raise UnreadableError(f"{path} holds a {type(document).__name__}, not keys and values.")
    return document
