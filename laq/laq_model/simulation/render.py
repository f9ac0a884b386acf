"""Colour and depth pictures of recorded states."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .camera_paths import CameraPath
from .instances import bodies_of_pixels
from .simulator import load_mujoco, no_graphics

CAMERA = "corner2"  # a camera of every Meta-World scene, moved to where we want it


class SceneRenderer:
    """Draws states of one model; goal markers stay hidden. Close it when done.

    Depth may be drawn at another size than colour: averaging or skipping pixels of a large depth map would
    put points where nothing is, or shift them against the camera.
    """

    def __init__(self, model: Any, *, size: int, depth_size: int | None = None):
        """Raises ConfigError where there are no graphics."""
        self._mujoco = load_mujoco()
        # Multisampling and large shadow maps cost most of the time and change little at these sizes.
        model.vis.quality.offsamples = 0
        model.vis.quality.shadowsize = 1024
        self._model = model
        self._data = self._mujoco.MjData(model)
        self._size = size
        self._options = self._mujoco.MjvOption()
        self._options.sitegroup[:] = 0
        self._camera = model.camera(CAMERA).id
        try:
            self._color = self._mujoco.Renderer(model, size, size)
            small = depth_size not in (None, size)
            self._depth = self._mujoco.Renderer(model, depth_size, depth_size) if small else self._color
        except Exception as error:  # each graphics library has its own way to fail
            raise no_graphics(error) from error

    def close(self) -> None:
        """Free the graphics contexts."""
        for renderer in {id(self._color): self._color, id(self._depth): self._depth}.values():
            renderer.close()

    def draw_depth(self, qpos: NDArray[np.float64], path: CameraPath, frame: int) -> NDArray[np.float32]:
        """Depth alone, in metres along the optical axis [depth_size, depth_size]."""
        self._place(path.cam_from_world[frame], path.intrinsics)
        self._data.qpos[:] = qpos
        self._mujoco.mj_forward(self._model, self._data)
        self._depth.update_scene(self._data, camera=self._camera, scene_option=self._options)
        self._depth.enable_depth_rendering()
        depth = self._depth.render().copy()
        self._depth.disable_depth_rendering()
        return depth

    def draw(
        self, qpos: NDArray[np.float64], path: CameraPath, frame: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """RGB [size, size, 3] and depth in metres along the optical axis [depth_size, depth_size]."""
        depth = self.draw_depth(qpos, path, frame)
        self._color.update_scene(self._data, camera=self._camera, scene_option=self._options)
        return self._color.render().copy(), depth

    def draw_instances(self) -> NDArray[np.uint8]:
        """Body that each pixel of the last picture shows [depth_size, depth_size]."""
        self._depth.update_scene(self._data, camera=self._camera, scene_option=self._options)
        self._depth.enable_segmentation_rendering()
        segmentation = self._depth.render().copy()
        self._depth.disable_segmentation_rendering()
        return bodies_of_pixels(self._model, segmentation, int(self._mujoco.mjtObj.mjOBJ_GEOM))

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
