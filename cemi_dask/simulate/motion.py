"""Where the stage stands at any moment of a row: its way, its stops, turns and jumps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from cemi_dask.simulate.lattice import Float64
from cemi_dask.simulate.recording import RETURN_SPEED, Recording


@dataclass(frozen=True)
class Motion:
    """The stage's place over time; the unit of time is the recorded frame.

    `y_px`, `x_px` (n,) are the corner's places at the steps 0, 1, .. of the row's way.
    `step` at the times `time` (both (m,)) says where on its way the stage is; between them it
    runs evenly. A change of its speed takes `ramp` frames, from those times on. At the times
    `jump_time` it jumps by `jump_px` along x, for good.
    """

    y_px: Float64
    x_px: Float64
    time: Float64
    step: Float64
    ramp: float
    jump_time: Float64
    jump_px: Float64

    @property
    def frames(self) -> int:
        """How many frames are recorded: at the times 0, 1, .. until the stage has arrived."""
        return round(float(self.time[-1])) + math.ceil(self.ramp) + 1

    def y_at(self, time: Float64) -> Float64:
        """Places in y; the stage rests before the first and after the last time."""
        return np.interp(self._steps(time), np.arange(len(self.y_px)), self.y_px)

    def x_at(self, time: Float64) -> Float64:
        """Places in x, with the jumps up to each time."""
        x = np.interp(self._steps(time), np.arange(len(self.x_px)), self.x_px)
        if len(self.jump_time):
            sums = np.concatenate([[0.0], np.cumsum(self.jump_px)])
            x = x + sums[np.searchsorted(self.jump_time, time, side="right")]
        return np.asarray(x, np.float64)

    def with_jumps(self, time: Float64, size_px: float) -> Motion:
        """The same motion with jumps at the times `time` (ascending), forth and back in turn."""
        return replace(
            self, jump_time=time, jump_px=size_px * (-1.0) ** np.arange(len(time), dtype=np.float64)
        )

    def _steps(self, time: Float64) -> Float64:
        if self.ramp == 0:
            return np.interp(time, self.time, self.step)
        # The mean over the time before: speed then changes evenly instead of at once.
        return (self._summed(time) - self._summed(time - self.ramp)) / self.ramp

    def _summed(self, time: Float64) -> Float64:
        """Integral of the steps over time, from the first time on."""
        pieces = np.diff(self.time) * (self.step[1:] + self.step[:-1]) / 2
        whole = np.concatenate([[0.0], np.cumsum(pieces)])
        k = np.maximum(np.searchsorted(self.time, time, side="right") - 1, 0)
        here = np.interp(time, self.time, self.step)
        return whole[k] + (time - self.time[k]) * (self.step[k] + here) / 2


def plan_motion(
    y_px: Float64,
    x_px: Float64,
    recording: Recording,
    *,
    reversal_steps: int,
    rng: np.random.Generator,
) -> Motion:
    """The way (y, x) with the stops, turns and the way back that `recording` asks for.

    A turn goes back by `reversal_steps` steps of the way, or to its start where it is nearer.
    """
    last = len(x_px) - 1
    time, step = [0.0], [0.0]

    def go(to: float, frames: float) -> None:
        if frames > 0:
            time.append(time[-1] + frames)
            step.append(to)

    go(0.0, recording.still_start)
    for place, turns in _events(recording, last, reversal_steps, rng):
        go(place, place - step[-1])
        if turns:
            back = min(reversal_steps, int(place))
            go(place - back, back)
            go(place, back)
        else:
            go(place, recording.pause_frames)
    go(last, last - step[-1])
    if recording.return_to_start:
        go(0.0, float(np.ceil(last / RETURN_SPEED)))
    ramp, none = recording.stage_ramp * (recording.scan_frames or 1.0), np.zeros(0)
    return Motion(y_px, x_px, np.array(time), np.array(step), ramp, none, none)


def _events(
    recording: Recording, last: int, reversal_steps: int, rng: np.random.Generator
) -> list[tuple[float, bool]]:
    """Places on the way (steps, ascending) and whether the stage turns there (else it stops).

    Places are random within equal parts of the way, so that events keep apart, and half-way
    between two frames, so that a stop of so many frames shows in exactly so many.
    """
    total = recording.pauses + recording.reversals
    turns = np.zeros(total, np.bool_)
    turns[rng.permutation(total)[: recording.reversals]] = True
    share = (np.arange(total) + 0.25 + 0.5 * rng.random(total)) / max(total, 1)
    place = np.floor(share * last) + 0.5
    place = np.where(turns, np.maximum(place, reversal_steps + 0.5), place)
    place = np.clip(place, 0.0, last)
    return sorted(zip(place.tolist(), turns.tolist(), strict=True))
