"""The exception tree: every error says what, where, which value, and the next step.

Each class has two parents, `CemiError` and the built-in it is a kind of, so that both
``except CemiError`` and ``except ValueError`` do what a caller expects.
"""

from __future__ import annotations


class CemiError(Exception):
    """Anything that cemi_dask refuses or fails to do, with a message made for its user."""


class ConfigError(CemiError, ValueError):
    """A config file, option or argument that is wrong before any pixel was read."""


class InputError(CemiError, ValueError):
    """Input data that can be read but not used as asked (mixed sizes, no frames, NaN)."""


class UnreadableError(CemiError, OSError):
    """A file that is missing, truncated beyond use, or not what its name says."""


class NoOverlapError(CemiError, ValueError):
    """Frames that were expected to overlap and share no measurable content."""


class DisconnectedError(CemiError, ValueError):
    """Frames that form several islands where one was required.

    `islands` holds the numbers of their frames, the largest island first.
    """

    def __init__(self, message: str, islands: tuple[tuple[int, ...], ...] = ()) -> None:
        super().__init__(message)
        self.islands = islands


class QualityError(CemiError, ValueError):
    """A stitching that is worse than the limits of the config allow."""


class StoreError(CemiError, OSError):
    """A mosaic, table or frame store that cannot be written or read as it stands."""


class PluginError(CemiError, ImportError):
    """A method plug-in that is broken, or whose name is taken; names its distribution."""


class MissingExtraError(CemiError, ImportError):
    """An optional dependency that this installation lacks; says which extra brings it."""


class ResourceError(CemiError, RuntimeError):
    """Workers, memory or disk that the job needs and that will not come."""


class RunError(CemiError, RuntimeError):
    """A run that failed in a stage: which one, on which item, and what to do."""
