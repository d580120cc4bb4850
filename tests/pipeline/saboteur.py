"""A worker plugin that does harm as an item begins, once per kind of item."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from distributed import WorkerPlugin

# One kind of item per stage that has any.
KINDS = (
    "read-frames",
    "register-pair",
    "denoise",
    "blend-shard",
    "pyramid-shard",
    "segment-shard",
    "measure-cell",
)
TOO_MUCH = 900 << 20  # bytes, more than the workers of `tests.pipeline.test_faults` may use
SMALL_FILE = 512  # bytes that a file may have on a disk that counts as full


class Saboteur(WorkerPlugin):
    """Does `fault` (kill, stop, hoard, fill) to a worker that begins an item of `kinds`.

    The first worker that does is the only one, but for `fill`, which hits all; FOLDER/KIND holds
    its process id.
    """

    name = "saboteur"

    def __init__(self, folder: Path, fault: str, kinds: tuple[str, ...]) -> None:
        self.folder, self.fault, self.kinds = folder, fault, kinds

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        kind = str(key).rpartition("-")[0]
        if finish != "executing" or kind not in self.kinds:
            return
        try:
            with (self.folder / kind).open("x") as mark:
                mark.write(str(os.getpid()))
        except FileExistsError:
            if self.fault != "fill":
                return
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.fault == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self.fault == "hoard":
            hoard()
        else:
            limit_files(SMALL_FILE)


def hoard() -> None:
    """Take more memory than there is, and hang with it."""
    kept = np.ones(TOO_MUCH, np.uint8)
    time.sleep(60)
    del kept


def limit_files(size: int) -> None:
    """Let no file of this process grow beyond `size` bytes; -1 lifts the limit."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
