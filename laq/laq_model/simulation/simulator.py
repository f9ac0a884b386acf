"""The optional packages, opened late, with one clear line when they or the graphics are not there."""

from __future__ import annotations

import os
from typing import Any

from ..errors import ConfigError

_INSTALL = "the simulator is not installed ({}); pip install 'concerto-laq[sim]'"


def load_mujoco() -> Any:
    """The mujoco module.

    Raises:
        ConfigError: not installed, or no graphics of the kind that MUJOCO_GL names.
    """
    try:
        import mujoco  # noqa: PLC0415 (optional extra)
    except ModuleNotFoundError as error:
        raise ConfigError(_INSTALL.format(error)) from error
    except Exception as error:  # each graphics library has its own way to be missing
        raise no_graphics(error) from error
    return mujoco


def load_metaworld() -> tuple[Any, Any]:
    """The metaworld module, and its table of scripted experts by task.

    Raises:
        ConfigError: as ``load_mujoco``.
    """
    load_mujoco()
    try:
        import metaworld  # noqa: PLC0415 (optional extra)
        from metaworld.policies import ENV_POLICY_MAP  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(_INSTALL.format(error)) from error
    return metaworld, ENV_POLICY_MAP


def no_graphics(error: Exception) -> ConfigError:
    """What to say when off-screen drawing cannot start."""
    kind = os.environ.get("MUJOCO_GL", "")
    return ConfigError(
        f"MuJoCo cannot draw off-screen with MUJOCO_GL={kind or '(unset)'} "
        f"({type(error).__name__}: {error}); "
        "install EGL (Debian: libegl1 libegl-mesa0 libgl1-mesa-dri), or libosmesa6 and set MUJOCO_GL=osmesa"
    )
