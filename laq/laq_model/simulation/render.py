"""Colour and depth pictures of recorded states. The only file, with rollout.py, that touches the simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .camera_paths import CameraPath

_CAMERA = "corner2"  # a camera of every Meta-World scene, moved to where we want it


def _load_mujoco() -> Any:
    try:
        import mujoco  # noqa: PLC0415 (optional extra)
    except ImportError as error:
        raise ConfigError("the simulator is not installed; pip install 'concerto-laq[sim]'") from error
    return mujoco


class SceneRenderer:
    """Draws states of one model at one size; goal markers stay hidden. Close it when done."""

    def __init__(self, model: Any, *, size: int):
        self._mujoco = _load_mujoco()
        # Multisampling and large shadow maps cost most of the time and change little at these sizes.
        model.vis.quality.offsamples = 0
        model.vis.quality.shadowsize = 1024
        self._model = model
        self._data = self._mujoco.MjData(model)
        self._size = size
        self._renderer = self._mujoco.Renderer(model, size, size)
        self._options = self._mujoco.MjvOption()
        self._options.sitegroup[:] = 0
        self._camera = model.camera(_CAMERA).id

    def close(self) -> None:
        """Free the graphics context."""
        self._renderer.close()

    def draw(
        self, qpos: NDArray[np.float64], path: CameraPath, frame: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """RGB [size, size, 3] and depth in metres along the optical axis [size, size]."""
        self._place(path.cam_from_world[frame], path.intrinsics)
        self._data.qpos[:] = qpos
        self._mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, camera=self._camera, scene_option=self._options)
        rgb = self._renderer.render().copy()
        self._renderer.enable_depth_rendering()
        depth = self._renderer.render().copy()
        self._renderer.disable_depth_rendering()
        return rgb, depth

    def _place(self, cam_from_world: NDArray[np.float64], intrinsics: NDArray[np.float64]) -> None:
        rotation = cam_from_world[:3, :3]
        # MuJoCo's cameras look along -z with y up; OpenCV's look along z with y down.
        world_from_mujoco = rotation.T @ np.diag([1.0, -1.0, -1.0])
        quat_wxyz = np.zeros(4)
        self._mujoco.mju_mat2Quat(quat_wxyz, world_from_mujoco.ravel())
        self._model.cam_pos[self._camera] = -rotation.T @ cam_from_world[:3, 3]
        self._model.cam_quat[self._camera] = quat_wxyz
        fov_rad = 2 * np.arctan(self._size / 2 / intrinsics[1, 1])
        self._model.cam_fovy[self._camera] = np.degrees(fov_rad)
