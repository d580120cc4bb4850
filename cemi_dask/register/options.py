"""What a user may set about registration: `RegisterOptions`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RegisterOptions(BaseModel):
    """Settings of pair measurement and of the choice of pairs; the defaults suit LD video."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    whitening: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="Exponent of spectral whitening: 1 phase-only, 0 plain cross-correlation.",
    )
    peaks: int = Field(default=6, ge=2, le=32, description="Candidate displacements per pair.")
    min_score: float = Field(
        default=0.08,
        ge=0,
        lt=1,
        description="Least normalised cross-correlation on the true overlap of an accepted pair.",
    )
    min_significance: float = Field(
        default=6.0,
        ge=0,
        description="Least score of an accepted pair in standard deviations of the score of "
        "unrelated frames with the same spectra and overlap.",
    )
    ambiguity: float = Field(
        default=0.03,
        ge=0,
        lt=1,
        description="A pair is ambiguous when another peak's score comes within this fraction.",
    )
    min_overlap: float = Field(
        default=0.03,
        gt=0,
        lt=1,
        description="Least overlap, as a fraction of the frame's area, of a pair worth measuring.",
    )
    highpass_px: int = Field(
        default=64, ge=8, description="Shading wider than this box is removed before matching."
    )
    smooth_px: float = Field(
        default=0.9,
        ge=0.5,
        le=4,
        description="Gaussian sigma of the smoothing under which a peak is refined.",
    )
    refine_steps: int = Field(
        default=4, ge=0, le=20, description="Most Gauss-Newton steps per refined peak."
    )
    stage_sigma_px: float = Field(
        default=16.0, gt=0, description="Standard deviation of stage positions from the truth."
    )
    track_sigma_px: float = Field(
        default=4.0, gt=0, description="Standard deviation of a displacement tracked in a video."
    )
    row_probes: int = Field(
        default=8, ge=2, description="Places along a video row where the next row is searched."
    )
    frames_per_item: int = Field(
        default=16, ge=1, description="Frames whose pairs are measured together in one task."
    )
    max_unplaced_frames: int = Field(
        default=400,
        ge=2,
        description="Most frames without positions: each is compared with every other, coarsely.",
    )
    thumbnail_px: int = Field(
        default=160,
        ge=48,
        le=512,
        description="Width of the small pictures by which frames without positions find partners.",
    )
    partners: int = Field(
        default=10,
        ge=2,
        description="Most likely partners of a frame without position that are measured in full.",
    )
