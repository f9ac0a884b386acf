"""Sources by name, so that one more needs no change here.

A name is one that was registered, or ``package.module:function`` for a builder that is imported on demand.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from ..errors import ConfigError
from .protocol import GeometrySource, SourceSettings
from .sensor_source import SensorSource
from .vggt_source import build_vggt_source

SourceBuilder = Callable[[SourceSettings], GeometrySource]

_BUILDERS: dict[str, SourceBuilder] = {
    "vggt": build_vggt_source,
    "sensor": lambda settings: SensorSource(context=settings.context),
}


def register_source(name: str, build: SourceBuilder) -> None:
    """Make ``geometry=name`` mean what ``build(settings)`` gives.

    Raises:
        ConfigError: the name is taken by another builder, or contains a colon.
    """
    if ":" in name or not name:
        raise ConfigError(f"a geometry source's name has no colon and is not empty, got {name!r}")
    if _BUILDERS.get(name, build) is not build:
        raise ConfigError(f"a geometry source is called {name!r} already; choose another name")
    _BUILDERS[name] = build


def source_names() -> list[str]:
    """Names that were registered."""
    return list(_BUILDERS)


def build_source(name: str, settings: SourceSettings) -> GeometrySource:
    """Build the source of that name.

    Raises:
        ConfigError: there is none, or what was built is no source.
        WeightsError: as the source.
    """
    build = _BUILDERS.get(name) or _imported(name)
    source = build(settings)
    if not isinstance(source, GeometrySource):
        raise ConfigError(
            f"geometry={name} gave a {type(source).__name__}, which is no geometry source: it needs a name "
            "and __call__(frames, recorded) -> DepthAndCameras (docs/geometry-sources.md)"
        )
    return source


def _imported(name: str) -> SourceBuilder:
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(
            f"no geometry source is called {name!r}; there are {', '.join(_BUILDERS)}. A source of your own "
            "is named package.module:function (docs/geometry-sources.md)"
        )
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"geometry={name}: {error}. The module must be importable, from an installed package or from a "
            "folder in PYTHONPATH"
        ) from error
