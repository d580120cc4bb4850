"""How far the measured microstructure is from the truth of a simulated ingot.

Compares each cell of a run with the cell of the truth at the same place (`cemi simulate` writes
truth_cells.csv on the same grid), and each bin of the profile.

    cemi simulate demo/ingot --rows 3 --frames-per-row 24 --seed 1 --noise 25
    cemi run demo/ingot/ingot.yaml --out demo/run
    python benchmarks/measures.py demo/ingot demo/run
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measure import show

# Column of the run: column of the truth.
MEASURES = {
    "bcc_fraction": "bcc_fraction",
    "bcc_fraction_label": "bcc_fraction",
    "lamellar_fraction": "lamellar_fraction",
    "lamella_width_um": "lamella_width_um",
    "lamella_width_paper_um": "lamella_width_um",
    "dark_width_um": "bcc_width_um",
}


def main() -> None:
    """Print one row per measure, for the cells and for the profile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ingot", type=Path, help="folder that cemi simulate wrote")
    parser.add_argument("run", type=Path, help="run folder")
    given = parser.parse_args()
    cells = pd.read_csv(given.run / "tables" / "cells.csv")
    truth = pd.read_csv(given.ingot / "truth_cells.csv")
    both = cells.merge(truth, on=["row", "col"], suffixes=("", "_true"))
    both = both[both["valid_fraction"] > 0.9]
    header = [
        "measure",
        "true mean",
        "cells",
        "bias",
        "rms error",
        "profile bias",
        "profile rms",
        "r",
    ]
    show(header, [row(both, name, of) for name, of in MEASURES.items()])
    print("profile: cells averaged along y; r: correlation of the profile with the true one")


def row(both: pd.DataFrame, name: str, of: str) -> list[Any]:
    """Errors of one measure, by cell and by bin of the profile."""
    true = both[f"{of}_true"] if f"{of}_true" in both else both[of]
    known = both.assign(found=both[name], true=true).dropna(subset=["found", "true"])
    error = known["found"] - known["true"]
    profile = known.groupby("col")[["found", "true"]].mean()
    apart = profile["found"] - profile["true"]
    r = float(np.corrcoef(profile["found"], profile["true"])[0, 1])
    return [
        name,
        float(known["true"].mean()),
        len(known),
        float(error.mean()),
        float(np.sqrt((error**2).mean())),
        float(apart.mean()),
        float(np.sqrt((apart**2).mean())),
        r,
    ]


if __name__ == "__main__":
    main()
