"""Files as microscopes write them: the text of their tags and sidecars, and TIFFs that hold it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tifffile import imwrite

ZEISS = (
    "\r\n0\r\n0\r\n0\r\n2.5e-07\r\n1\r\n"
    "DP_DETECTOR_CHANNEL\r\nSignal A = InLens\r\n"
    "DP_DWELL_TIME\r\nDwell Time = 100 ns\r\n"
    "DP_IMAGE_STORE\r\nStore resolution = {width} * {height}\r\n"
    "DP_SEM\r\nSem = Auriga 60\r\n"
    "DP_SCAN_ROT\r\nScan Rot = Off\r\n"
    "AP_SCANROTATION\r\nScan Rotation = 145.6 °\r\n"
    "AP_WD\r\nWD =  4.5 mm\r\n"
    "AP_MAG\r\nMag =    4.53 K X\r\n"
    "AP_MANUALKV\r\nEHT Target =  2.00 kV\r\n"
    "AP_FRAME_TIME\r\nCycle Time = 1.9  Mins\r\n"
    "AP_LINE_TIME\r\nLine Time = 74.34 ms\r\n"
    "AP_PIXEL_SIZE\r\nPixel Size = 24.65 nm\r\n"
    "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = {pixel}\r\n"
    "AP_STAGE_AT_X\r\nStage at X = {x} mm\r\n"
    "AP_STAGE_AT_Y\r\nStage at Y = 91.3161 mm\r\n"
    "AP_STAGE_AT_Z\r\nStage at Z = 41.676 mm\r\n"
    "AP_STAGE_AT_R\r\nStage at R = 113.6 °\r\n"
    "AP_STAGE_AT_T\r\nStage at T =  52.6 °\r\n"
    "AP_ACTUALKV\r\nEHT =  1.80 kV\r\n"
    "AP_MILL_LIST_TOTAL_TIME\r\nMill List Total Time Range Error 24575647.234200\r\n"
    "AP_DATE\r\nDate :18 Apr 2016\r\n"
    "AP_TIME\r\nTime :22:42:02\r\n"
)
FEI = (
    "[User]\r\nDate=07/24/2020\r\nTime=12:08:34 PM\r\n\r\n"
    "[System]\r\nSystemType=Strata DB\r\n\r\n"
    "[Beam]\r\nHV=3000\r\nScanRotation=0\r\nBeam=EBeam\r\nScan=EScan\r\n\r\n"
    "[EBeam]\r\nHV={hv}\r\nHFW={field}\r\nWD=0.00251849\r\nStageX=-0.0183312\r\n\r\n"
    "[Scan]\r\nDwelltime=1e-005\r\nPixelWidth={pixel}\r\nPixelHeight={pixel}\r\nFrameTime=9.06\r\n"
    "\r\n[EScan]\r\nDwell=1e-005\r\nLineTime=0.01024\r\n\r\n"
    "[Stage]\r\nStageX={x}\r\nStageY={y}\r\nStageZ=0.00249998\r\nStageR=-2.62355\r\nStageT=0\r\n"
    "WorkingDistance=0.00251849\r\n\r\n"
    "[Image]\r\nResolutionX={width}\r\nResolutionY={height}\r\nMagCanvasRealWidth=0.127\r\n\r\n"
    "[Detectors]\r\nNumber=1\r\nName=TLD\r\nMode=SE\r\n\r\n[PrivateFei]\r\nDatabarHeight=\r\n"
)
FEI_VALUES = {
    "hv": "3000",
    "field": "1.95385e-006",
    "pixel": "1.90805e-009",
    "x": "-0.0183297",
    "y": "-0.00252106",
    "width": 64,
    "height": 40,
}
TESCAN = (
    "AccFrames=1\r\nAccType=none\r\nCompany=TESCAN\r\nDate=2019-03-12\r\nDevice=MIRA3 LMH\r\n"
    "ImageStripSize={strip}\r\nMagnification=5000.0\r\nPixelSizeX={pixel}\r\nPixelSizeY={pixel_y}"
    "\r\nTime=10:22:13\r\n"
)
TESCAN_SEM = (
    "AcceleratorVoltage=15000.0\r\nDetector=SE\r\nDwellTime=3.2e-006\r\nHV=15000.0\r\n"
    "ScanRotation=0.0\r\nStageRotation=12.5\r\nStageTilt=0.0\r\nStageX=0.00123\r\n"
    "StageY=-0.00045\r\nStageZ=0.0031\r\nWD=0.0100\r\n"
)
JEOL = (
    "$CM_FORMAT JEOL/SEM\n$CM_VERSION 1.0\n$CM_INSTRUMENT JSM-7800F\n$CM_SIGNAL SEI\n"
    "$CM_MAG 5000\n$CM_ACCEL_VOLT 15.00\n$CM_DATE 2019/03/12\n$CM_TIME 10:21:55\n"
    "$CM_FULL_SIZE {width} {height}\n$CM_STAGE_POS 2.044 -0.704 10.2 11.0 0.0 0\n"
    "$$SM_WD 10.1\n$$SM_MICRON_BAR {bar}\n$$SM_MICRON_MARKER {marker}\n"
)
HITACHI = (
    "[SemImageFile]\r\nInstructName=SU8230\r\nSerialNumber=8230-01\r\nFormat=tif\r\n"
    "Date=2019/03/12\r\nTime=10:22:13\r\nDataSize=64x40\r\nPixelSize={pixel}\r\n"
    "SignalName=SE(U)\r\nAcceleratingVoltage=15000 Volt\r\nMagnification=10000\r\n"
    "WorkingDistance=8100 um\r\nStagePositionX={x}\r\nStagePositionY=55250000\r\n"
    "StagePositionR=0\r\n"
)


def picture(height: int = 40, width: int = 64) -> np.ndarray:
    """A small grey picture."""
    rng = np.random.default_rng(0)
    return rng.integers(60, 200, (height, width)).astype(np.uint8)


def write_tagged(
    path: Path, tag: int, text: str | bytes, pixels: np.ndarray | None = None, **more: Any
) -> Path:
    """A TIFF that holds `text` (Latin-1) in a private tag."""
    data = text if isinstance(text, bytes) else text.encode("latin-1")
    # Type 2 (ASCII) as Zeiss and FEI write it would be refused for non-ASCII bytes.
    extra = [(tag, 1, len(data), data, True)]
    imwrite(path, picture() if pixels is None else pixels, extratags=extra, metadata=None, **more)
    return path


def tescan_tag(**values: Any) -> bytes:
    """The blocks of a TESCAN tag: 4 bytes of length, 2 of type, then a thumbnail or text."""
    filled = {"strip": 0, "pixel": "4.1e-008", "pixel_y": "4.1e-008", **values}
    thumbnail = b"\xff\xd8\xff\xe0" + bytes(range(256)) + b"\xff\xd9"
    blocks = (
        (1, thumbnail),
        (2, TESCAN.format(**filled).encode("latin-1")),
        (3, TESCAN_SEM.encode("latin-1")),
        (0, b""),
    )
    return b"".join(
        (len(data) + 2).to_bytes(4, "little") + kind.to_bytes(2, "little") + data
        for kind, data in blocks
    )
