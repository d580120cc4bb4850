"""Pictures (TIFF, PNG, JPEG, BMP) as grey arrays, and what their headers say."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError, UnreadableError

GREY_TYPES = ("uint8", "uint16", "float32")


def describe_file(path: str | Path) -> str:
    """What is found at `path`, in words, for error messages."""
    path = Path(path)
    if not path.exists():
        return "it does not exist"
    size = path.stat().st_size
    if not size:
        return "it is empty (0 bytes)"
    with path.open("rb") as stream:
        head = stream.read(64)
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return f"it is a text file ({size} bytes) that begins {head[:24].decode('ascii')!r}"
    return f"it has {size} bytes and begins with {head[:8].hex(' ')}"


def read_image(path: str | Path) -> npt.NDArray[Any]:
    """The grey picture (y, x), uint8, uint16 or float32, of a TIFF, PNG, JPEG or BMP file.

    Colour becomes luma (ITU-R BT.601); an alpha channel is ignored; float64 becomes
    float32. Raises UnreadableError for a file that is missing, empty, truncated or no
    picture, InputError for a stack, an unsupported grey type, or NaN in it.
    """
    return _usable(*_decode(Path(path)), path)


def decode_image(data: bytes, origin: str) -> npt.NDArray[Any]:
    """The grey picture (y, x) of the bytes of a PNG, JPEG or BMP file; see `read_image`.

    `origin` names them in errors.
    """
    image = _decode_bytes(data)
    if isinstance(image, str):
        raise UnreadableError(f"{origin} cannot be read as a picture: {image}. Save it again.")
    return _usable(image, "bgr", origin)


def _usable(raw: npt.NDArray[Any], colour_order: str, path: str | Path) -> npt.NDArray[Any]:
    grey = _to_grey(raw, colour_order, path)
    if grey.dtype.kind == "f":
        grey = grey.astype(np.float32, copy=False)
        bad = int(grey.size - np.count_nonzero(np.isfinite(grey)))
        if bad:
            raise InputError(
                f"{path} holds {bad} pixels that are NaN or infinite. Replace them (by the mean "
                "of their neighbours, say) or leave the file out."
            )
    if grey.dtype.name not in GREY_TYPES:
        raise InputError(
            f"{path} has grey type {grey.dtype}; {', '.join(GREY_TYPES)} can be used. Convert it."
        )
    return np.ascontiguousarray(grey)


def _decode(path: Path) -> tuple[npt.NDArray[Any], str]:
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            with tifffile.TiffFile(path) as tif:
                return np.asarray(tif.asarray()), "rgb"
        data = path.read_bytes()
    except Exception as error:  # tifffile raises whatever its codecs raise
        raise _unreadable(path, str(error)) from error
    image = _decode_bytes(data)
    if isinstance(image, str):
        raise _unreadable(path, image)
    return image, "bgr"


def _decode_bytes(data: bytes) -> npt.NDArray[Any] | str:
    """The picture, or why there is none."""
    if not _complete(data):
        return "the picture ends before its end mark: the file is truncated"
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    return "no picture could be decoded" if image is None else np.asarray(image)


def _complete(data: bytes) -> bool:
    """False where a JPEG or PNG lacks its end mark: OpenCV would fill the rest in silence."""
    if data[:2] == b"\xff\xd8":
        return data.rfind(b"\xff\xd9") > len(data) // 2
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return b"IEND" in data[-64:]
    if data[:2] == b"BM" and len(data) >= 6:
        return len(data) >= int(struct.unpack("<I", data[2:6])[0])
    return True


def _unreadable(path: Path, why: str) -> UnreadableError:
    return UnreadableError(
        f"{path} cannot be read as a picture: {describe_file(path)} ({why}). "
        "Save it again or leave it out."
    )


def _to_grey(image: npt.NDArray[Any], colour_order: str, path: str | Path) -> npt.NDArray[Any]:
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim == 2:
        return image
    if image.ndim != 3 or image.shape[2] not in (2, 3, 4):
        raise InputError(
            f"{path} holds an array of shape {image.shape}, not one picture. "
            "Save each picture as its own file."
        )
    if image.shape[2] == 2:
        return image[:, :, 0]  # grey and alpha
    code = cv2.COLOR_RGB2GRAY if colour_order == "rgb" else cv2.COLOR_BGR2GRAY
    if image.dtype == np.float64:
        image = image.astype(np.float32)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image[:, :, :3]), code))


def image_header(path: str | Path) -> tuple[tuple[int, int], str]:
    """((height, width) in px, grey type) of a picture, from its header where that is enough."""
    path = Path(path)
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        try:
            with tifffile.TiffFile(path) as tif:
                page = tif.pages.first
                name = np.dtype(page.dtype).name
                size = int(page.imagelength), int(page.imagewidth)
        except Exception as error:
            raise _unreadable(path, str(error)) from error
        return size, "float32" if name == "float64" else name
    try:
        with path.open("rb") as stream:
            head = stream.read(65536)
    except OSError as error:
        raise _unreadable(path, str(error)) from error
    found = _header(head)
    if found is not None:
        return found
    image = read_image(path)
    return (image.shape[0], image.shape[1]), image.dtype.name


def _header(head: bytes) -> tuple[tuple[int, int], str] | None:
    """Size and depth from the first bytes of a PNG, BMP or JPEG; None where they do not tell."""
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) > 25:
        width, height, depth = struct.unpack(">IIB", head[16:25])
        return (height, width), "uint16" if depth == 16 else "uint8"
    if head[:2] == b"BM" and len(head) > 26 and struct.unpack("<I", head[14:18])[0] >= 40:
        width, height = struct.unpack("<ii", head[18:26])
        return (abs(height), width), "uint8"
    if head[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", head[at + 5 : at + 9])
            return (height, width), "uint8"
        at += 2 + int(struct.unpack(">H", head[at + 2 : at + 4])[0])
    return None
