"""Rendered clips with known depth and cameras: read from shards, drawn by (seed, step), and changed.

A folder holds, for each shard number: ``rgb_XXXX.npy`` uint8 [clips, views, height, width, 3],
``depth_XXXX.npy`` uint16 millimetres along the optical axis [clips, views, height, width] (0: none), and
``cameras_XXXX.npz`` with ``K`` [clips, 3, 3] and ``cam_from_world`` [clips, views, 3, 4] (OpenCV axes,
metres, world z up). ``rgb`` is written last. The files of held-out shards have the same names after
a prefix of ``HELD_OUT``. ``instances_XXXX.npy`` uint8 [clips, views, height, width] says which thing a pixel
shows, and ``kind_of_instance`` [clips, 255] beside the cameras of what kind that is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Integer
from torch import Tensor

from ..errors import DatasetError
from ..structures import DepthAndCameras

HELD_OUT = {
    "unseen tasks": "heldout_",
    "tabletop": "heldout_tabletop_",
    "room": "heldout_room_",
}
"""Held-out families of scenes, and how the names of their shards begin."""
METRES_PER_MILLIMETRE = 1e-3
MAX_ZOOM = 0.3  # beyond 1, of a turned camera
SMALLEST_AREA_PX = 16  # of a thing that weighs by its area; less is an edge or a rivet
# Of room, furniture, arm, hand and object. What acts is few pixels, and a network that is not sure of a pixel
# answers what most likely is there: the hand lay 13 % too far away, towards what is behind it.
WEIGHT_OF_KIND = (1.0, 1.0, 2.0, 4.0, 1.5)
TURN_RAD_PER_ZOOM = 0.25  # about each axis: a zoom of 1.3 leaves room for five degrees at 50 degrees of view


@dataclass(frozen=True)
class SceneBatch:
    """Frames of independent scenes, RGB in [0, 1], and what is known of them, in metres.

    Attributes:
        pixel_weight: what each pixel counts, 1 on average: a thing counts by what it is and by the root of
            its area, so that a hand of seventy pixels is not drowned by the table.
    """

    frames: Float[Tensor, "scenes views 3 height width"]
    recorded: DepthAndCameras
    pixel_weight: Float[Tensor, "scenes views height width"]

    def to(self, device: torch.device) -> SceneBatch:
        """The same scenes on another device."""
        return SceneBatch(self.frames.to(device), self.recorded.to(device), self.pixel_weight.to(device))


class TrainingScenes:
    """All clips of one folder, memory-mapped; clip numbers run through the shards in order of name."""

    def __init__(self, folder: str | Path, *, held_out: str = ""):
        """Training clips, or those of a family of ``HELD_OUT``.

        Raises:
            DatasetError: the folder has no such shards, or the files of one disagree.
        """
        folder = Path(folder)
        prefix = HELD_OUT[held_out] if held_out else ""
        names = [
            path.stem.removeprefix(f"{prefix}rgb_") for path in sorted(folder.glob(f"{prefix}rgb_*.npy"))
        ]
        names = [name for name in names if "." not in name]  # a dot: still being written
        if not names:
            family = f"held-out ({held_out})" if held_out else "training"
            raise DatasetError(f"no {family} shards in {folder}; render them first")
        self._rgb = [np.load(folder / f"{prefix}rgb_{name}.npy", mmap_mode="r") for name in names]
        self._depth_mm = [np.load(folder / f"{prefix}depth_{name}.npy", mmap_mode="r") for name in names]
        self._instances = [np.load(folder / f"{prefix}instances_{name}.npy", mmap_mode="r") for name in names]
        self._cameras = [_read_cameras(folder / f"{prefix}cameras_{name}.npz") for name in names]
        for name, rgb, depth_mm, instances, cameras in zip(
            names, self._rgb, self._depth_mm, self._instances, self._cameras, strict=True
        ):
            if len({len(part) for part in (rgb, depth_mm, instances, *cameras)}) != 1:
                raise DatasetError(f"the files of shard {prefix}{name} in {folder} disagree; render it again")
        self._shard_end = np.cumsum([len(rgb) for rgb in self._rgb])

    def __len__(self) -> int:
        return int(self._shard_end[-1])

    @property
    def views_per_clip(self) -> int:
        """Views stored for every clip."""
        return int(self._rgb[0].shape[1])

    def read(self, clips: np.ndarray, views: np.ndarray) -> SceneBatch:
        """Clips by number, each with its own list of views [clips, views]."""
        parts = [
            (
                self._rgb[s][r][v],
                self._depth_mm[s][r][v],
                things := self._instances[s][r][v],
                self._cameras[s].kind_of_instance[r][things],
                self._cameras[s].intrinsics[r],
                self._cameras[s].cam_from_world[r][v],
            )
            for s, r, v in zip(*self._places(clips), views, strict=True)
        ]
        rgb, depth_mm, instances, kinds, intrinsics, cam_from_world = (
            np.stack(part) for part in zip(*parts, strict=True)
        )
        depth = torch.from_numpy(depth_mm.astype(np.float32)) * METRES_PER_MILLIMETRE
        recorded = DepthAndCameras(
            depth=depth,
            confidence=(depth > 0).float(),
            intrinsics=torch.from_numpy(intrinsics.astype(np.float32))[:, None].expand(
                -1, views.shape[1], 3, 3
            ),
            cam_from_world=torch.from_numpy(cam_from_world[..., :3, :].astype(np.float32)),
            world_up=torch.tensor([0.0, 0.0, 1.0]).expand(len(clips), 3),
            is_metric=True,
        )
        frames = rearrange(torch.from_numpy(rgb).float() / 255, "b s h w c -> b s c h w")
        weight = weights_of_things(torch.from_numpy(instances), torch.from_numpy(kinds))
        return SceneBatch(frames, recorded, weight)

    def kinds(self, clips: np.ndarray, views: np.ndarray) -> Integer[np.ndarray, "clips views height width"]:
        """Of what kind the thing behind each pixel is, by number, for clips and views as in ``read``."""
        places = zip(*self._places(clips), views, strict=True)
        return np.stack(
            [self._cameras[s].kind_of_instance[r][self._instances[s][r][v]] for s, r, v in places]
        )

    def _places(self, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shard of each clip, and its row there."""
        shards = np.searchsorted(self._shard_end, clips, side="right")
        return shards, clips - np.concatenate([[0], self._shard_end])[shards]

    def draw(self, *, num_frames: int, num_views: int, seed: int, step: int) -> SceneBatch:
        """A training batch of about ``num_frames`` frames: the same for the same seed and step.

        Views come in random order, so any of them may be the first; half the scenes are mirrored, half
        have their cameras turned and zoomed, and all get new colours, with the same change for the views of a
        scene and a little noise of each frame's own.
        """
        rng = np.random.default_rng([seed, step])
        clips = rng.integers(len(self), size=max(1, num_frames // num_views))
        views = np.stack([rng.permutation(self.views_per_clip)[:num_views] for _ in clips])
        batch = self.read(clips, views)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        batch = mirror_scenes(batch, torch.rand(len(clips), generator=generator) < 0.5)
        zoom, rotation = draw_turns(len(clips), num_views, generator)
        batch = turn_cameras(batch, zoom, rotation)
        return replace(batch, frames=change_colors(batch.frames, generator))


def weights_of_things(
    instances: Integer[Tensor, "scenes views height width"],
    kinds: Integer[Tensor, "scenes views height width"],
) -> Float[Tensor, "scenes views height width"]:
    """Of a thing: WEIGHT_OF_KIND over the root of its area in the picture; 1 on average over a picture."""
    flat = instances.flatten(0, 1).flatten(1).long()
    area = torch.zeros(len(flat), 256).scatter_add_(1, flat, torch.ones(flat.shape))
    weight = area.clamp(min=SMALLEST_AREA_PX).rsqrt().gather(1, flat)
    weight = weight * torch.tensor(WEIGHT_OF_KIND)[kinds.flatten(0, 1).flatten(1).long()]
    return (weight / weight.mean(dim=1, keepdim=True)).view(instances.shape)


def mirror_scenes(batch: SceneBatch, is_mirrored: torch.Tensor) -> SceneBatch:
    """Turn left and right in some scenes: image, depth, and the cameras with the world, by x → −x.

    The principal point moves to width − 1 − cx. With M = diag(−1, 1, 1) in both camera and world, a camera
    R, t becomes M R M, M t, which is a rotation again.
    """
    recorded = batch.recorded
    width = recorded.depth.shape[-1]
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    intrinsics = recorded.intrinsics.clone()
    intrinsics[..., 0, 2] = width - 1 - intrinsics[..., 0, 2]
    cam_from_world = recorded.cam_from_world * mirror[:, None]
    cam_from_world = cam_from_world * torch.tensor([-1.0, 1.0, 1.0, 1.0])

    def choose(mirrored: Tensor, plain: Tensor) -> Tensor:
        return torch.where(is_mirrored.view(-1, *[1] * (plain.ndim - 1)), mirrored, plain)

    return SceneBatch(
        frames=choose(batch.frames.flip(-1), batch.frames),
        recorded=replace(
            recorded,
            depth=choose(recorded.depth.flip(-1), recorded.depth),
            confidence=choose(recorded.confidence.flip(-1), recorded.confidence),
            intrinsics=choose(intrinsics, recorded.intrinsics),
            cam_from_world=choose(cam_from_world, recorded.cam_from_world),
            world_up=choose(recorded.world_up * mirror, recorded.world_up),
        ),
        pixel_weight=choose(batch.pixel_weight.flip(-1), batch.pixel_weight),
    )


def draw_turns(
    scenes: int, views: int, generator: torch.Generator
) -> tuple[Float[Tensor, " scenes"], Float[Tensor, "scenes views 3 3"]]:
    """A zoom for half the scenes, and for each view a turn that the zoom leaves room for."""
    is_turned = torch.rand(scenes, generator=generator) < 0.5
    room = MAX_ZOOM * torch.rand(scenes, generator=generator) * is_turned
    angle = (2 * torch.rand(scenes, views, 3, generator=generator) - 1) * TURN_RAD_PER_ZOOM
    angle = angle * room[:, None, None]
    x, y, z = angle.unbind(dim=-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    return 1 + room, torch.linalg.matrix_exp(cross)


def turn_cameras(
    batch: SceneBatch, zoom: Float[Tensor, " scenes"], rotation: Float[Tensor, "scenes views 3 3"]
) -> SceneBatch:
    """Turn each camera about its own centre and lengthen its lens: exact, since no view point changes.

    With K' the longer lens, the pixel p' shows what p = K Rᵀ K'⁻¹ p' showed, and its depth is that of p over
    the third component of Rᵀ K'⁻¹ p'. Depth is the nearest pixel's; what lies outside repeats the border.
    """
    recorded = batch.recorded
    height, width = recorded.depth.shape[-2:]
    lens = torch.ones_like(recorded.intrinsics)
    lens[..., 0, 0] = lens[..., 1, 1] = zoom[:, None]
    intrinsics = recorded.intrinsics * lens
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixel = torch.stack([u, v, torch.ones_like(u)], dim=-1).float()
    old_ray = torch.einsum("bsji,bsjk,hwk->bshwi", rotation, torch.linalg.inv(intrinsics), pixel)
    seen = torch.einsum("bsij,bshwj->bshwi", recorded.intrinsics, old_ray)
    place = (seen[..., :2] / seen[..., 2:] + 0.5) * seen.new_tensor([2 / width, 2 / height]) - 1
    place = rearrange(place, "b s h w two -> (b s) h w two")

    def sample(maps: Tensor, mode: str) -> Tensor:
        flat = F.grid_sample(maps.flatten(0, 1), place, mode=mode, padding_mode="border", align_corners=False)
        return flat.unflatten(0, maps.shape[:2])

    return SceneBatch(
        frames=sample(batch.frames, "bilinear"),
        recorded=replace(
            recorded,
            depth=sample(recorded.depth[:, :, None], "nearest")[:, :, 0] / old_ray[..., 2],
            confidence=sample(recorded.confidence[:, :, None], "nearest")[:, :, 0],
            intrinsics=intrinsics,
            cam_from_world=rotation @ recorded.cam_from_world,
        ),
        pixel_weight=sample(batch.pixel_weight[:, :, None], "nearest")[:, :, 0],
    )


def change_colors(
    frames: Float[Tensor, "scenes views 3 height width"], generator: torch.Generator
) -> Float[Tensor, "scenes views 3 height width"]:
    """Brightness, contrast, saturation and tint of each scene; blur and noise of each frame."""
    scenes, views = frames.shape[:2]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    grey = frames.mean(dim=2, keepdim=True)
    frames = grey + (frames - grey) * uniform(0.5, 1.4, scenes, 1, 1, 1, 1)
    centre = frames.mean(dim=(1, 2, 3, 4), keepdim=True)
    frames = centre + (frames - centre) * uniform(0.7, 1.3, scenes, 1, 1, 1, 1)
    frames = frames * uniform(0.7, 1.3, scenes, 1, 1, 1, 1) * uniform(0.9, 1.1, scenes, 1, 3, 1, 1)
    flat = rearrange(frames, "b s c h w -> (b s) c h w")
    blurred = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    flat = flat + (blurred - flat) * uniform(0.0, 0.8, len(flat), 1, 1, 1)
    noise = torch.randn(flat.shape, generator=generator) * uniform(0.0, 0.02, len(flat), 1, 1, 1)
    return rearrange((flat + noise).clamp(0, 1), "(b s) c h w -> b s c h w", s=views)


class _Cameras(NamedTuple):
    intrinsics: np.ndarray
    cam_from_world: np.ndarray
    kind_of_instance: np.ndarray


def _read_cameras(path: Path) -> _Cameras:
    with np.load(path, allow_pickle=False) as archive:
        return _Cameras(archive["K"], archive["cam_from_world"], archive["kind_of_instance"])
