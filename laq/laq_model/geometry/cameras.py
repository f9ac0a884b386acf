"""Camera algebra: pose encodings, quaternions, changes of world, intrinsics of a cropped or resized image.

Computes the decoding and encoding of VGGT's nine numbers per view, [t_x, t_y, t_z, q_x, q_y, q_z, q_w,
fov_height, fov_width] (Wang et al. 2025, arXiv 2503.11651, §3.1). Departure: an angle of zero, which the
network can give, is raised to MIN_FIELD_OF_VIEW_RAD, where the original gives an infinite focal length.

Products are written out as sums of three terms instead of matrix products: their rounding does not depend
on how many scenes are in the batch, nor on a scene's place in it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import GeometryError

# Half a degree: a lens that narrow is no video camera's. Angles are kept as far from 0 as from a half turn.
MIN_FIELD_OF_VIEW_RAD = 0.01


def rotate(
    rotation: Float[Tensor, "*#batch 3 3"], vector: Float[Tensor, "*#batch 3"]
) -> Float[Tensor, "*batch 3"]:
    """R v; leading axes broadcast."""
    x, y, z = vector[..., 0, None], vector[..., 1, None], vector[..., 2, None]
    return rotation[..., :, 0] * x + rotation[..., :, 1] * y + rotation[..., :, 2] * z


def matrix_from_quat_xyzw(quat_xyzw: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation of a quaternion of any length but zero, scalar last; q and −q give the same rotation.

    Raises:
        GeometryError: a quaternion is zero.
    """
    x, y, z, w = quat_xyzw.unbind(-1)
    squared_length = x * x + y * y + z * z + w * w
    if bool((squared_length == 0).any()):
        raise GeometryError(
            "a quaternion is zero and describes no rotation; check the network's weights and input"
        )
    s = 2 / squared_length
    rows = [
        torch.stack([1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)], dim=-1),
        torch.stack([s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)], dim=-1),
        torch.stack([s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def quat_xyzw_from_matrix(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion of a rotation, scalar last, w ≥ 0 (at w = 0 the largest component is positive).

    Row i of the table below is 4 q_i (x, y, z, w); the row whose q_i is largest loses no digits.
    """
    (m00, m01, m02), (m10, m11, m12), (m20, m21, m22) = (row.unbind(-1) for row in rotation.unbind(-2))
    xx, yy, zz = 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22
    ww = 1 + m00 + m11 + m22
    xy, xz, yz = m10 + m01, m02 + m20, m12 + m21
    xw, yw, zw = m21 - m12, m02 - m20, m10 - m01
    rows = [(xx, xy, xz, xw), (xy, yy, yz, yw), (xz, yz, zz, zw), (xw, yw, zw, ww)]
    table = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    largest = torch.stack([xx, yy, zz, ww], dim=-1).argmax(dim=-1, keepdim=True)
    row = torch.take_along_dim(table, largest[..., None], dim=-2).squeeze(-2)
    quat = row / (2 * torch.take_along_dim(row, largest, dim=-1).sqrt())
    return torch.where(quat[..., 3:] < 0, -quat, quat)


def decode_pose_encoding(
    pose_enc: Float[Tensor, "*batch 9"], *, height: int, width: int
) -> tuple[Float[Tensor, "*batch 3 4"], Float[Tensor, "*batch 3 3"]]:
    """VGGT's pose encoding as camera-from-world and intrinsics for an image of ``height`` × ``width`` pixels.

    f_y = (height / 2) / tan(fov_height / 2), likewise f_x; the principal point is (width / 2, height / 2).
    Angles outside [0.01, π − 0.01] rad are moved to that range's border, so that focal lengths are positive
    and finite. The tangent is taken in float64.

    Args:
        pose_enc: translation in scene units, quaternion scalar last, vertical before horizontal angle in
            rad.
        height: rows of the image that the network saw, not of the original file.
        width: its columns.
    """
    translation, quat, angles = pose_enc[..., :3], pose_enc[..., 3:7], pose_enc[..., 7:]
    cam_from_world = torch.cat([matrix_from_quat_xyzw(quat), translation[..., None]], dim=-1)
    half_angles = angles.double().clamp(MIN_FIELD_OF_VIEW_RAD, math.pi - MIN_FIELD_OF_VIEW_RAD) / 2
    half_size = half_angles.new_tensor([height / 2, width / 2])
    focal = (half_size / half_angles.tan()).to(pose_enc.dtype)
    fy, fx = focal.unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    rows = [
        torch.stack([fx, zero, one * (width / 2)], dim=-1),
        torch.stack([zero, fy, one * (height / 2)], dim=-1),
        torch.stack([zero, zero, one], dim=-1),
    ]
    return cam_from_world, torch.stack(rows, dim=-2)


def encode_pose(
    cam_from_world: Float[Tensor, "*batch 3 4"],
    intrinsics: Float[Tensor, "*batch 3 3"],
    *,
    height: int,
    width: int,
) -> Float[Tensor, "*batch 9"]:
    """The inverse of ``decode_pose_encoding``. A principal point away from the centre, and skew, are lost."""
    half_size = cam_from_world.new_tensor([height / 2, width / 2], dtype=torch.float64)
    focal = torch.stack([intrinsics[..., 1, 1], intrinsics[..., 0, 0]], dim=-1).double()
    angles = (2 * torch.atan(half_size / focal)).to(cam_from_world.dtype)
    quat = quat_xyzw_from_matrix(cam_from_world[..., :3])
    return torch.cat([cam_from_world[..., 3], quat, angles], dim=-1)


def camera_centre(cam_from_world: Float[Tensor, "*batch 3 4"]) -> Float[Tensor, "*batch 3"]:
    """Where the camera stands in the world: −Rᵀ t."""
    return -rotate(cam_from_world[..., :3].mT, cam_from_world[..., 3])


def relative_to_first(
    cam_from_world: Float[Tensor, "scenes views 3 4"],
) -> Float[Tensor, "scenes views 3 4"]:
    """The same cameras with each scene's first one as the world: [R R₀ᵀ | t − R R₀ᵀ t₀].

    The first camera, and each one equal to it, is the identity without any rounding.
    """
    rotation, translation = cam_from_world[..., :3], cam_from_world[..., 3]
    cam_from_first = _multiply(rotation, rotation[:, :1].mT)
    offset = translation - rotate(cam_from_first, translation[:, :1])
    moved = torch.cat([cam_from_first, offset[..., None]], dim=-1)
    identity = torch.eye(3, 4, dtype=cam_from_world.dtype, device=cam_from_world.device)
    is_first = (cam_from_world == cam_from_world[:, :1]).flatten(2).all(dim=-1)
    return torch.where(is_first[..., None, None], identity, moved)


def change_world(
    cam_from_world: Float[Tensor, "*batch 3 4"],
    *,
    rotation: Float[Tensor, "*batch 3 3"],
    origin: Float[Tensor, "*batch 3"],
    scale: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch 3 4"]:
    """The same cameras for the world x_new = scale · rotation (x_old − origin).

    With [R | t] the old camera, the new one is [R rotationᵀ | scale (R origin + t)].

    The camera's own frame grows by ``scale`` too: multiply depth by it as well. Intrinsics stay as they
    are.

    Args:
        cam_from_world: for the old world.
        rotation: new-from-old.
        origin: the point of the old world that becomes the origin, in old units.
        scale: new units in one old unit.
    """
    old_rotation, old_translation = cam_from_world[..., :3], cam_from_world[..., 3]
    translation = scale[..., None] * (rotate(old_rotation, origin) + old_translation)
    return torch.cat([_multiply(old_rotation, rotation.mT), translation[..., None]], dim=-1)


def crop_and_resize_intrinsics(
    intrinsics: Float[Tensor, "*batch 3 3"],
    *,
    crop_left_px: int | float,
    crop_top_px: int | float,
    scale_x: float,
    scale_y: float,
) -> Float[Tensor, "*batch 3 3"]:
    """Intrinsics after cutting off the left and top, and then resizing by ``scale`` = new size / old size.

    Pixel centres are integers, so an image starts at −0.5 and resizing maps u to (u + 0.5) · scale − 0.5.
    By this rule an image's middle is (width − 1) / 2. VGGT's principal point, width / 2, lies half a pixel
    beyond it and is kept there in the picture: resized to width′ it becomes width′ / 2 + (scale − 1) / 2.
    """
    left = intrinsics.new_tensor([crop_left_px, crop_top_px])
    scale = intrinsics.new_tensor([scale_x, scale_y])
    principal = (intrinsics[..., :2, 2] - left + 0.5) * scale - 0.5
    top_rows = torch.cat([intrinsics[..., :2, :2] * scale[:, None], principal[..., None]], dim=-1)
    return torch.cat([top_rows, intrinsics[..., 2:, :]], dim=-2)


def _multiply(
    a: Float[Tensor, "*#batch 3 3"], b: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "*batch 3 3"]:
    first, second, third = (a[..., :, k, None] * b[..., k, None, :] for k in range(3))
    return first + second + third
