"""`TrainState`: everything that a resumed training needs, in one checkpoint file.

Imports torch, so import it late.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cemi_dask.errors import UnreadableError

BETAS = (0.9, 0.99)  # of Adam, as in Real-ESRGAN


class TrainState:
    """The network, its running average, the discriminator, their optimisers, and the step.

    `net` is trained in place, in channels-last memory. `step` counts finished iterations,
    `seconds` the time they took, `best` is the highest score of a validation so far, `stale`
    the number of validations since, `timed` says whether the time limit has shortened the
    training.
    """

    def __init__(
        self, net: nn.Module, device: str, *, discriminator: nn.Module | None = None
    ) -> None:
        self.device = device
        self.net = _placed(net, device)
        self.ema = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.net.parameters(), betas=BETAS)
        self.discriminator = None if discriminator is None else _placed(discriminator, device)
        self.critic = (
            None
            if self.discriminator is None
            else torch.optim.Adam(self.discriminator.parameters(), betas=BETAS)
        )
        self.step = 0
        self.seconds = 0.0
        self.best = float("-inf")
        self.stale = 0
        self.timed = False

    def average(self, decay: float) -> None:
        """Take the present weights into the running average.

        In the first steps the decay is smaller (that of a plain mean), or the random weights
        of the start would stay in the average for thousands of steps.
        """
        decay = min(decay, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for mean, now in zip(self.ema.parameters(), self.net.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
            # Running statistics of normalisation belong to the weights, and follow them.
            for kept, buffer in zip(self.ema.buffers(), self.net.buffers(), strict=True):
                if kept.is_floating_point():
                    kept.lerp_(buffer, 1 - decay)
                else:
                    kept.copy_(buffer)

    def take_score(self, score: float) -> bool:
        """True where the `score` of a validation is the best so far."""
        better = score > self.best
        self.best, self.stale = (score, 0) if better else (self.best, self.stale + 1)
        return better

    def save(self, path: Path) -> None:
        """Write the checkpoint: to a temporary name, then renamed."""
        temporary = path.with_name(f".{path.name}.part")
        torch.save(
            {name: part.state_dict() for name, part in self._parts().items()}
            | {"step": self.step, "seconds": self.seconds, "best": self.best}
            | {"timed": self.timed, "stale": self.stale},
            temporary,
        )
        temporary.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same network and losses.

        Raises UnreadableError for a file that is damaged or belongs to another training.
        """
        try:
            saved: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
            for name, part in self._parts().items():
                part.load_state_dict(saved[name])
            self.step, self.seconds = int(saved["step"]), float(saved["seconds"])
            self.best, self.timed = float(saved["best"]), bool(saved.get("timed"))
            self.stale = int(saved.get("stale", 0))
        except Exception as error:  # pickle, zip and torch each have their own errors
            told = " ".join(str(error).split())[:200]
            raise UnreadableError(
                f"The checkpoint {path} cannot be resumed from ({type(error).__name__}: {told}). "
                "Start anew with --fresh."
            ) from error

    def _parts(self) -> dict[str, Any]:
        parts = {
            "net": self.net,
            "ema": self.ema,
            "optimizer": self.optimizer,
            "discriminator": self.discriminator,
            "critic": self.critic,
        }
        return {name: part for name, part in parts.items() if part is not None}


def _placed(module: nn.Module, device: str) -> nn.Module:
    # Convolutions are 1.2 to 1.7 times faster with channels last.
    module.to(device=device)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module
