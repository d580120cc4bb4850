"""The run folder: its places, what each stage leaves there, and what may be deleted."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cemi_dask.errors import ConfigError
from cemi_dask.store import remove_partial_files, storing

# What each stage writes, so that a stage that starts anew leaves nothing old beside the new.
# The mosaic's levels are not listed: whoever writes a level deletes the old ones.
OUTPUTS: dict[str, tuple[str, ...]] = {
    "frames": ("frames.zarr/raw", "tables/frames.*", "figures/recorded.png"),
    "solve": ("tables/pairs.*", "tables/positions.*"),
    "train": ("models/denoiser.safetensors",),
    "denoise": ("frames.zarr/denoised",),
    "segment": ("mosaic.ome.zarr/labels",),
    "analyse": (
        "tables/cells.*",
        "tables/profile.*",
        "tables/correlation*.*",
        "tables/models.*",
    ),
}


@dataclass(frozen=True)
class RunFolder:
    """The places of a run folder (a contract: other people's scripts read them)."""

    path: Path

    # Everything a run writes at the top of its folder, and so may delete with --fresh.
    OWN = (
        "mosaic.ome.zarr",
        "frames.zarr",
        "models",
        "tables",
        "figures",
        "run.json",
        "report.html",
        "zoom.gif",
        "zoom.mp4",
        "dask-report.html",
    )

    @property
    def mosaic(self) -> Path:
        """The OME-Zarr mosaic."""
        return self.path / "mosaic.ome.zarr"

    @property
    def frames(self) -> Path:
        """The frames taken, and their denoised versions, one array per source."""
        return self.path / "frames.zarr"

    @property
    def models(self) -> Path:
        """Weights that the run has trained, and what the training left."""
        return self.path / "models"

    @property
    def tables(self) -> Path:
        """CSV and Parquet tables."""
        return self.path / "tables"

    @property
    def ledger(self) -> Path:
        """Resume state."""
        return self.path / "ledger"

    @property
    def run_json(self) -> Path:
        """Versions, config, timings, memory, warnings."""
        return self.path / "run.json"

    def refuse_foreign(self, *, fresh: bool = False) -> None:
        """Raise ConfigError where a run would write over, or delete, what no run has left."""
        if self.ledger.is_dir() or not self.path.exists():
            return
        if not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file, not a run folder. Give another --out.")
        if fresh and any(self.path.iterdir()):
            raise ConfigError(
                f"--fresh: {self.path} holds files but no ledger, so it is no run folder. "
                "Give another --out."
            )
        foreign = [name for name in self.OWN if (self.path / name).exists()]
        if foreign:
            raise ConfigError(
                f"{self.path} holds {', '.join(foreign)} but no ledger: no run has left them, and "
                "this one would write over them. Move them away, or give another --out."
            )

    def clear(self) -> None:
        """Delete what an earlier run wrote here, and nothing else; hold the ledger's lock."""
        with storing(self.path):
            # The ledger first: it must never speak of pixels that are gone.
            for ledger in self.ledger.glob("*.jsonl"):
                ledger.unlink()
            for name in self.OWN:
                _delete(self.path / name)

    def sweep(self) -> None:
        """Delete the half-written files that a killed run has left."""
        for name in self.OWN:
            if (self.path / name).is_dir():
                remove_partial_files(self.path / name)

    def forget(self, stage: str) -> None:
        """Delete what an earlier run of `stage` wrote, under other parameters or inputs."""
        with storing(self.path):
            for pattern in OUTPUTS.get(stage, ()):
                for path in self.path.glob(pattern):
                    _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
