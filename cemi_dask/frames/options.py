"""What a user says about the input: `InputOptions`, `TileOptions`, `Crop`, `SelectionOptions`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

FROZEN = ConfigDict(frozen=True, extra="forbid")
FROM_TAGS = "tags"  # in place of a table of positions


class Crop(BaseModel):
    """Pixels cut off each side of every frame before anything else sees it."""

    model_config = FROZEN

    top: int = Field(default=0, ge=0, description="px cut off the top")
    bottom: int = Field(
        default=0, ge=0, description="px cut off the bottom (where a data bar mostly is)"
    )
    left: int = Field(default=0, ge=0, description="px cut off the left")
    right: int = Field(default=0, ge=0, description="px cut off the right")

    def kept(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """The (y, x) slices of a frame of `shape` that stay."""
        height, width = shape
        return slice(self.top, height - self.bottom), slice(self.left, width - self.right)

    def shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(height, width) in px of a frame of `shape` after cropping."""
        height, width = shape
        return height - self.top - self.bottom, width - self.left - self.right


class TileOptions(BaseModel):
    """Where tiles lie: from their names, from a table of stage positions, or unknown."""

    model_config = FROZEN

    pattern: str | None = Field(
        default=None,
        description="file name with {row} and {col} in place of the numbers, * for anything: "
        "'tile_r{row}_c{col}.tif'; without it the names are searched for a grid",
    )
    order: Literal["auto", "row_col", "col_row"] = Field(
        default="auto",
        description="which of two bare numbers in a name comes first; auto: letters in the name "
        "decide, else the pictures' overlaps do",
    )
    positions: str | None = Field(
        default=None,
        description="CSV of stage positions: a file name (or col and row) and x, y per tile; or "
        "'tags': as the files' metadata state them, which is tried unasked where neither names nor "
        "a table give a layout",
    )
    position_unit: Literal["px", "um"] | None = Field(
        default=None, description="unit of positions whose column names state none"
    )
    position_x: Literal["auto", "right", "left"] = Field(
        default="auto",
        description="which way x of the positions grows in the pictures; auto: right in a table, "
        "as the tiles overlap for positions from metadata",
    )
    position_y: Literal["auto", "down", "up"] = Field(
        default="auto",
        description="which way y of the positions grows in the pictures; auto: down in a table, "
        "as the tiles overlap for positions from metadata",
    )
    columns: int | None = Field(
        default=None,
        ge=1,
        description="number of columns of numbered pictures (row by row, or by order col_row "
        "column by column); without it the pictures' overlaps tell",
    )
    snake: bool = Field(
        default=False,
        description="with columns: every second row (or column) is numbered backwards",
    )
    overlap: float = Field(
        default=0.1, ge=0.0, lt=0.95, description="overlap of neighbours in a grid, as a guess"
    )

    @model_validator(mode="after")
    def _snake_of_columns(self) -> Self:
        if self.snake and self.columns is None:
            raise ValueError("snake says how numbered rows run: give columns as well")
        return self

    @property
    def positions_file(self) -> str | None:
        """The table of positions; None where there is none, or metadata are asked."""
        return None if self.positions == FROM_TAGS else self.positions


class InputOptions(BaseModel):
    """The files of one specimen, and how to read them."""

    model_config = FROZEN

    paths: tuple[str, ...] = Field(
        min_length=1, description="files, folders or globs; videos: one per row, sorted by name"
    )
    kind: Literal["auto", "videos", "tiles"] = Field(
        default="auto", description="what the files are; auto: by their suffixes"
    )
    pixel_um: float | None = Field(
        default=None,
        gt=0,
        description="pixel size in micrometres; default: as the files' metadata state it",
    )
    metadata: Literal["auto", "none"] = Field(
        default="auto",
        description="auto: read TIFF tags and sidecar files (Zeiss, FEI, TESCAN, JEOL, Hitachi, "
        "ImageJ, OME) for pixel size, data bar and stage positions; none: do not",
    )
    crop: Literal["auto", "none"] | Crop = Field(
        default="auto", description="px to cut off each side; auto: find a data bar"
    )
    tiles: TileOptions = TileOptions()

    @field_validator("paths", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class ScanTiming(BaseModel):
    """How fast lines are scanned, where the recording does not show it."""

    model_config = FROZEN

    frame_time_s: float = Field(
        gt=0, description="seconds from a frame's first to its last line, in the video's time"
    )
    velocity_px_s: float | None = Field(
        default=None, description="stage velocity along x in px/s; default: as tracked"
    )


class SelectionOptions(BaseModel):
    """Which recorded frames are taken, which are refused, and what is done to them."""

    model_config = FROZEN

    overlap_min: float = Field(
        default=0.3,
        gt=0,
        lt=1,
        description="smallest overlap of neighbouring frames along the motion",
    )
    overlap_max: float = Field(
        default=0.6,
        gt=0,
        lt=1,
        description="largest overlap of neighbouring frames along the motion",
    )
    overlap_target: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="overlap aimed at; default: 40 % of the way from min to max",
    )
    min_score: float = Field(
        default=0.03,
        gt=0,
        lt=1,
        description="smallest correlation of two frames that counts as a match",
    )
    blank_correlation: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="a frame whose pixels correlate less than this with their neighbours is blank",
    )
    blank_contrast: float = Field(
        default=1.0,
        ge=0,
        description="an 8-bit frame whose structure is weaker than so many grey levels is blank",
    )
    saturated_fraction: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="a frame with more pixels at the top grey level is refused",
    )

    shear: Literal["auto", "none"] | ScanTiming = Field(
        default="auto",
        description="shear of frames whose lines were scanned while the stage moved; auto: from "
        "the refresh line or from changes of the motion; none: frames are not sheared",
    )
    flat_field: Literal["auto", "none"] = Field(
        default="auto",
        description="auto: the shading that all frames share is estimated from them and divided "
        "out where it stands out from its error; none: frames stay as recorded",
    )
    average: Literal["none", "motion"] = Field(
        default="none",
        description="motion: other recorded pictures of the same place are aligned with each "
        "frame taken and averaged into it, for less noise (videos; each is read twice)",
    )
    average_looks: int = Field(
        default=8,
        ge=1,
        le=64,
        description="with average: other recorded pictures averaged into a frame at most; the "
        "noise falls with the square root of their number, the time grows with it",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.overlap_min < self.overlap_max:
            raise ValueError(
                f"overlap_min ({self.overlap_min}) must be smaller than "
                f"overlap_max ({self.overlap_max})"
            )
        if not self.overlap_min <= self.target <= self.overlap_max:
            raise ValueError(
                f"overlap_target ({self.target}) must lie between overlap_min "
                f"({self.overlap_min}) and overlap_max ({self.overlap_max})"
            )
        return self

    @property
    def target(self) -> float:
        """The overlap aimed at."""
        if self.overlap_target is not None:
            return self.overlap_target
        return self.overlap_min + 0.4 * (self.overlap_max - self.overlap_min)
