"""`cemi train segment`: configs, kinds of labelled data, and what a training learns."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from cemi_dask.cli import main
from cemi_dask.errors import ConfigError, InputError, UnreadableError
from cemi_dask.pipeline.segment_data import CocoFile, LabelmeFiles, MaskPictures, read_labelled
from cemi_dask.pipeline.train_segment import load_segment_training, train_segmenter
from cemi_dask.segment import Network
from cemi_dask.segment.checkpoints import load_model

SIZE = 96
TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 4,
    "network": {
        "architecture": "Unet",
        "encoder": "tu-mobilenetv3_small_050",
        "options": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
    },
    "data": {"kind": "labelme", "folder": "labelled"},
    "batch": 7,
    "patch_px": 64,
    "fit": {"epochs": 1, "device": "cpu", "precision": "float32"},
}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes TINY with changes; the file."""

    def written(**changes: Any) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(TINY | changes))
        return path

    return written


def specimen(number: int) -> tuple[np.ndarray, np.ndarray]:
    """(picture uint8, polygon of (x, y)): lamellae inside of a polygon, globules around it."""
    rng = np.random.default_rng(number)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 7))
    reach = rng.uniform(26, 44, 7)
    ring = SIZE / 2 + np.stack([reach * np.cos(angle), reach * np.sin(angle)], 1)
    inside = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(inside, [np.rint(ring).astype(np.int32)], 1)
    y, x = np.mgrid[:SIZE, :SIZE]
    way = rng.uniform(0, np.pi)
    lamellae = np.sin(2 * np.pi * (x * np.cos(way) + y * np.sin(way)) / rng.uniform(4, 7)) > 0.3
    globules = cv2.GaussianBlur(rng.normal(size=inside.shape), (0, 0), 2.2) > 0.05
    dark = np.where(inside, lamellae, globules)
    grey = cv2.GaussianBlur(160.0 - 90.0 * dark, (0, 0), 0.7) + rng.normal(0, 8, inside.shape)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8), ring


def labelme(folder: Path, numbers: range, *, embedded: bool = False, **changes: Any) -> None:
    """Labelme files of some specimens; pictures beside them, or within."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture, ring = specimen(number)
        png = cv2.imencode(".png", picture)[1].tobytes()
        name = f"s{number:02d}.png"
        (folder / "pictures").mkdir(exist_ok=True)
        if not embedded:
            (folder / "pictures" / name).write_bytes(png)
        document = {
            "version": "5.5.0",
            "shapes": [
                {"label": "lamellar", "shape_type": "polygon", "points": ring.tolist()},
            ],
            "imagePath": f"pictures\\{name}",
            "imageData": base64.b64encode(png).decode() if embedded else None,
            "imageHeight": SIZE,
            "imageWidth": SIZE,
        }
        (folder / f"s{number:02d}.json").write_text(json.dumps(document | changes))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"netwrok": "paper"}, "no such key.*did you mean 'network'"),
        ({"network": "papr"}, "network: should be compact or paper, or keys of a network"),
        ({"data": {"kind": "labelmee"}}, "there is no kind 'labelmee'.*valid are.*'coco'"),
        ({"fit": {"loss": "dise"}}, "fit.loss: should be dice or dice_bce"),
        ({"patch_px": 96, "network": "compact"}, "patch_px: should be a multiple of 128"),
        ({"labels": ["a", "a"]}, "labels: should have different names"),
    ],
)
def test_a_wrong_key_or_name_is_answered_with_the_valid_ones(
    write: Write, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        load_segment_training(write(**changes))


def test_a_segmenter_learns_from_labelme_files(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """21 pictures to train on and 3 held out, as in the paper, on the CPU in seconds."""
    labelme(tmp_path / "labelled", range(24))
    fit = TINY["fit"] | {"epochs": 24, "learning_rate": {"start": 3e-3}}
    config, out = write(fit=fit, per_picture=2), tmp_path / "out"
    assert main(["train", "segment", str(config), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"The trained weights are {out / 'model.safetensors'}" in said
    card = load_model(out / "model.safetensors").card
    assert card.metrics["iou"] > 0.75
    assert card.metrics["dice"] > card.metrics["iou"]
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") == 1 + 3
    assert len(list((out / "figures").glob("*.png"))) == 1 + 3
    # What it has learnt is of use for pictures that it has not seen, through the method.
    picture, ring = specimen(99)
    truth = cv2.fillPoly(np.zeros((SIZE, SIZE), np.uint8), [np.rint(ring).astype(np.int32)], 1)
    found = Network(model=str(out / "model.safetensors"), tile_px=64, overlap_px=32)(picture)
    assert (found & truth).sum() / (found | truth).sum() > 0.65
    # Run again it is done; the same config elsewhere gives the same bytes.
    before = (out / "model.safetensors").read_bytes()
    assert train_segmenter(config, out=out).read_bytes() == before


def test_the_same_seed_gives_the_same_weights(write: Write, tmp_path: Path) -> None:
    labelme(tmp_path / "labelled", range(4), embedded=True)
    first = train_segmenter(write(), out=tmp_path / "a")
    second = train_segmenter(write(), out=tmp_path / "b")
    weights, again = (load_model(model).net.state_dict() for model in (first, second))
    for name, tensor in weights.items():
        assert (tensor == again[name]).all(), name
    with pytest.raises(ConfigError, match=r"\(seed differ\)"):
        train_segmenter(write(seed=5), out=tmp_path / "a")


def test_training_goes_on_from_own_weights(write: Write, tmp_path: Path) -> None:
    labelme(tmp_path / "labelled", range(4), embedded=True)
    first = train_segmenter(write(), out=tmp_path / "a")
    fit = TINY["fit"] | {"learning_rate": {"start": 1e-12}}  # so small that nothing is learnt
    second = train_segmenter(write(init="a/model.safetensors", fit=fit), out=tmp_path / "b")
    after = dict(load_model(second).net.named_parameters())
    for name, value in load_model(first).net.named_parameters():
        np.testing.assert_allclose(after[name].detach(), value.detach(), atol=1e-9)
    with pytest.raises(ConfigError, match="Give the same `network` and `labels`"):
        train_segmenter(write(init="a/model.safetensors", labels=["x"]), out=tmp_path / "c")


def test_labelme_masks_and_coco_give_the_same_labels(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    folder = tmp_path / "labelled"
    labelme(folder, range(3))
    labels = ("lamellar",)
    drawn = read_labelled(LabelmeFiles(folder="labelled"), labels, tmp_path)
    (tmp_path / "masks").mkdir()
    annotations, images = [], []
    for number, each in enumerate(drawn):
        cv2.imwrite(str(tmp_path / "masks" / f"s{number:02d}.png"), 255 * each.labels)
        images.append({"id": number, "file_name": f"s{number:02d}.png"})
        ring = specimen(number)[1].ravel().tolist()
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "segmentation": [ring]}
        )
    categories = [{"id": 1, "name": "lamellae"}]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    masks = MaskPictures(pictures="labelled/pictures", masks="masks")
    rename = {"lamellae": "lamellar"}
    file = CocoFile(file="coco.json", pictures="labelled/pictures", rename=rename)
    for data, same in ((masks, 1.0), (file, 0.98)):
        for ours, theirs in zip(read_labelled(data, labels, tmp_path), drawn, strict=True):
            np.testing.assert_array_equal(ours.picture, theirs.picture)
            # COCO's programs decide otherwise where a border cuts a pixel.
            assert (ours.labels == theirs.labels).mean() >= same


@pytest.mark.parametrize("path", ["../outside.png", "..\\outside.png", "/etc/hostname"])
def test_pictures_outside_of_the_folder_are_refused(path: str, tmp_path: Path) -> None:
    labelme(tmp_path / "labelled", range(2), imagePath=path)
    cv2.imwrite(str(tmp_path / "outside.png"), specimen(0)[0])
    with pytest.raises(InputError, match=r"does not lie in.*Set data.pictures"):
        read_labelled(LabelmeFiles(folder="labelled"), ("lamellar",), tmp_path)


def test_pictures_elsewhere_are_found_by_name(tmp_path: Path) -> None:
    labelme(tmp_path / "labelled", range(2), imagePath="..\\..\\x\\s00.png")
    data = LabelmeFiles(folder="labelled", pictures="labelled/pictures")
    assert len(read_labelled(data, ("lamellar",), tmp_path)) == 2


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    def told(error: type[Exception], match: str, data: Any) -> None:
        with pytest.raises(error, match=match):
            read_labelled(data, ("lamellar",), tmp_path)

    files = LabelmeFiles(folder="labelled")
    told(ConfigError, r"no \.json files at", files)
    labelme(tmp_path / "labelled", range(1), imageHeight=50)
    told(InputError, r"s00\.json was drawn on a picture of 96 x 50 px", files)
    labelme(tmp_path / "labelled", range(1), shapes="none")
    told(InputError, r"s00\.json has no list of shapes", files)
    labelme(tmp_path / "labelled", range(1), imagePath=None)
    told(InputError, r"s00\.json names no picture", files)
    labelme(tmp_path / "labelled", range(1), imageData="AAAA")
    told(UnreadableError, r"s00\.json cannot be read as a picture", files)
    (tmp_path / "labelled" / "s00.json").write_text("{")
    told(UnreadableError, r"s00\.json is no JSON", files)
    told(ConfigError, r"coco\.json cannot be read", CocoFile(file="coco.json"))
    (tmp_path / "coco.json").write_text("{}")
    told(InputError, "no COCO file", CocoFile(file="coco.json"))
    (tmp_path / "masks").mkdir()
    masks = MaskPictures(pictures="labelled/pictures", masks="masks")
    told(ConfigError, "without a partner: s00", masks)
