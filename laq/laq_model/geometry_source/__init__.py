"""Where depth and cameras come from: sources behind one protocol, found by name.

``vggt`` predicts them, ``sensor`` hands over what was recorded. A source of your own is one file and one
registration; ``docs/geometry-sources.md`` shows how.
"""

from .protocol import GeometryContext, GeometrySource, SourceSettings
from .registry import build_source, register_source, source_names
from .scenes import (
    check_geometry,
    copy_repeated_views,
    first_equal_view,
    join_scenes,
    scenes_of,
    scenes_per_batch,
)
from .sensor_source import SensorSource
from .vggt_source import VGGTSource, resolve_dtype

__all__ = [
    "GeometryContext",
    "GeometrySource",
    "SensorSource",
    "SourceSettings",
    "VGGTSource",
    "build_source",
    "check_geometry",
    "copy_repeated_views",
    "first_equal_view",
    "join_scenes",
    "register_source",
    "resolve_dtype",
    "scenes_of",
    "scenes_per_batch",
    "source_names",
]
