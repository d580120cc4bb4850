"""A denoiser of one's own: a frozen model, its fields are its options, `clean` does the work."""

import argparse
from typing import Literal

import numpy as np
from pydantic import Field
from skimage.restoration import denoise_tv_chambolle

from cemi_dask.denoise import Denoiser, denoise
from cemi_dask.frameset import Frames
from cemi_dask.simulate import Specimen


class TotalVariation(Denoiser):
    """The picture of least total variation near the frame (Chambolle 2004, scikit-image)."""

    # To make it known to config files, list the class in your own distribution under
    # [project.entry-points."cemi_dask.denoisers"].
    method: Literal["total_variation"] = "total_variation"
    weight: float = Field(default=15.0, gt=0, description="Grey levels; more removes more.")

    def clean(self, frame: np.ndarray) -> np.ndarray:
        """The filtered picture; the base class checks the frame, rounds and clips the result."""
        return denoise_tv_chambolle(frame.astype(np.float32), weight=self.weight)


def main() -> None:
    """Denoise one simulated frame with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=512, help="of the frame, px")
    width = parser.parse_args().width
    clean = Specimen().image(0, 0, (width // 2, width))
    noisy = np.clip(clean + np.random.default_rng(0).normal(0, 25, clean.shape), 0, 255)
    frames = Frames.from_array(noisy.astype(np.uint8)[None])
    for method in (TotalVariation(), TotalVariation(weight=8), "median", "fourier"):
        picture = denoise(frames, method=method).data[0].compute()
        print(f"{method!r}: rms error {np.sqrt(np.mean((picture - clean) ** 2)):.1f} grey levels")


if __name__ == "__main__":
    main()
