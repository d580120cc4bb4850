"""Methods that plug in: `Method` (a frozen model whose fields are its YAML keys) and `Registry`.

A kind of method (denoiser, blender, segmenter, analyser) has one registry. Built-ins are
listed explicitly; other distributions add theirs through the entry-point group
``cemi_dask.<kind>s``. A duplicate or broken plug-in is an error that names its distribution.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated, Any, Generic, TypeVar, Union, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from cemi_dask.errors import ConfigError, PluginError
from cemi_dask.explain import explain


class Method(BaseModel):
    """Base of every method: immutable, unknown keys refused, called to do its work.

    A subclass adds ``method: Literal["name"] = "name"`` and `__call__`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __dask_tokenize__(self) -> tuple[str, dict[str, Any]]:
        # Not pydantic's own state: it remembers which fields were given, and equal methods
        # would get different task names.
        return type(self).__qualname__, self.model_dump(mode="json")

    @property
    def halo_px(self) -> int:
        """How many pixels around a block the method must see for the block to be exact."""
        return 0


M = TypeVar("M", bound=Method)


def method_name(cls: type[Method]) -> str:
    """The name a method goes by in YAML: the one value of its `method` field."""
    if "method" not in cls.model_fields:
        raise PluginError(f"{cls.__module__}.{cls.__qualname__} has no field 'method'.")
    names = get_args(cls.model_fields["method"].annotation)
    if len(names) != 1:
        raise PluginError(f"{cls.__module__}.{cls.__qualname__}.method must be one Literal name.")
    return str(names[0])


@dataclass(frozen=True)
class Registry(Generic[M]):
    """All methods of one kind: `builtins` plus the entry points ``cemi_dask.<kind>s``."""

    kind: str
    base: type[M]
    builtins: tuple[type[M], ...]

    @property
    def group(self) -> str:
        """Entry-point group in which other distributions list their methods."""
        return f"cemi_dask.{self.kind}s"

    def classes(self) -> dict[str, type[M]]:
        """Name -> class of every method, built-ins first.

        Raises PluginError for a plug-in that cannot be imported, is no such method, or
        takes a name that is in use.
        """
        found = {method_name(cls): cls for cls in self.builtins}
        for point in entry_points(group=self.group):
            home = point.dist.name if point.dist else "?"
            origin = f"plug-in {point.value!r} of distribution {home!r}"
            try:
                cls = point.load()
            except Exception as error:
                raise PluginError(
                    f"The {self.kind} {origin} cannot be imported: {error}. Update or remove it."
                ) from error
            if not (isinstance(cls, type) and issubclass(cls, self.base)):
                raise PluginError(f"The {self.kind} {origin} is not a {self.base.__name__}.")
            name = method_name(cls)
            if name in found:
                raise PluginError(
                    f"The {self.kind} {origin} is called {name!r}, which "
                    f"{found[name].__module__}.{found[name].__qualname__} has taken."
                )
            found[name] = cls
        return found

    def field_type(self) -> Any:
        """The pydantic type of a config field: a union told apart by `method`.

        A bare name stands for the method with its defaults.
        """
        classes = tuple(self.classes().values())
        union: Any = classes[0]
        if len(classes) > 1:
            union = Annotated[Union[classes], Field(discriminator="method")]  # noqa: UP007
        return Annotated[union, BeforeValidator(_from_name)]

    def parse(self, value: Any) -> M:
        """A method from its name, from a mapping as in YAML, or as it is.

        Raises ConfigError that lists the valid names or names the wrong key.
        """
        if isinstance(value, self.base):
            return value
        try:
            return cast(M, _adapter(self).validate_python(value))
        except ValidationError as error:
            told = explain(error, given=_from_name(value))
            raise ConfigError(f"Not a valid {self.kind}: {told}") from error

    def __hash__(self) -> int:
        return hash(self.kind)


def _from_name(value: Any) -> Any:
    return {"method": value} if isinstance(value, str) else value


@functools.cache
def _adapter(registry: Registry[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(registry.field_type())
