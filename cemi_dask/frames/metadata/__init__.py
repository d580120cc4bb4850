"""What a microscope says about a picture: TIFF tags and sidecar files to `FrameMetadata`."""

from cemi_dask.frames.metadata.agreement import Agreement, agree
from cemi_dask.frames.metadata.model import FrameMetadata
from cemi_dask.frames.metadata.read import read_metadata
from cemi_dask.frames.metadata.sidecar import FolderNames

__all__ = ["Agreement", "FolderNames", "FrameMetadata", "agree", "read_metadata"]
