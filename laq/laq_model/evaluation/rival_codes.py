"""Trained rivals over the evaluated pairs: what one says of each, in the order of the run's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ..errors import DatasetError
from ..feature_store import FeatureStore, PairName
from ..rivals.frame_file import square_frames
from ..rivals.pixel_laq import PixelLAQ
from ..token_batches import Batches
from ..trained_run import TrainedRun
from ..video.index import VideoIndex
from ..webm_dataset import VideoDataConfig
from .coded_pairs import GROUPS, STANDSTILL_PAIRS, CodedPairs, Coder, code_pairs, join_coded
from .config import EvaluateConfig
from .run_batches import batches_of_run


@dataclass(frozen=True)
class EvaluatedVideos:
    """The pairs that every rival is asked about.

    Attributes:
        data: how the videos are read.
    """

    names: Sequence[PairName]
    index: VideoIndex
    data: VideoDataConfig


@runtime_checkable
class RivalCoder(Protocol):
    """A trained rival."""

    def code(self, videos: EvaluatedVideos, config: EvaluateConfig) -> CodedPairs:
        """Its codes of these pairs."""
        ...


@dataclass(frozen=True)
class PixelCoder:
    """A trained pixels-only rival."""

    model: PixelLAQ

    def code(self, videos: EvaluatedVideos, config: EvaluateConfig) -> CodedPairs:
        """Its codes of these pairs.

        Raises:
            VideoReadError: a frame that the index promised cannot be decoded.
            DatasetError: a pair's video is not in the folder.
        """
        found, parts = [], []
        for names, frames in _frame_batches(videos, self.model.config.frame_size, config.batch_size):
            found += names
            parts.append(_code_frames(self.model, frames.to(self.model.patch_mean.device)))
        return _in_order(videos.names, found, parts)


@dataclass(frozen=True)
class CameraFrameCoder:
    """A trained camera-frame rival, and its store where it has one."""

    run: TrainedRun
    store: FeatureStore | None
    device: torch.device

    def code(self, videos: EvaluatedVideos, config: EvaluateConfig) -> CodedPairs:
        """Its codes of these pairs: from its store if that has them all, else encoded now.

        Raises:
            LAQError: missing weights; a video that breaks while it is read, or is not in the folder.
        """
        batches = self._stored(videos.names, config.batch_size)
        if batches is None:
            own = replace(videos.data, frame_size=self.run.data.frame_size)
            batches = batches_of_run(config, self.run, videos.index, own, self.device)
        found, coded = code_pairs(batches, {"": Coder(self.run.model)}, device=self.device)
        return _in_order(videos.names, found, list(coded.values()))

    def _stored(self, names: Sequence[PairName], batch_size: int) -> Batches | None:
        if self.store is None:
            return None
        row_of = {_key(name): row for row, name in enumerate(self.store.names)}
        if any(_key(name) not in row_of for name in names):
            return None
        return self._read(self.store, [row_of[_key(name)] for name in names], batch_size)

    @staticmethod
    def _read(store: FeatureStore, rows: Sequence[int], batch_size: int) -> Batches:
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            yield [store.names[row] for row in batch], store.read(batch)


def _frame_batches(
    videos: EvaluatedVideos, side: int, batch_size: int
) -> Iterator[tuple[list[PairName], UInt8[Tensor, "pairs 2 height width 3"]]]:
    """The pairs video by video, in batches that end with their video."""
    of_video: dict[str, list[PairName]] = {}
    for name in videos.names:
        of_video.setdefault(name.video, []).append(name)
    for entry in videos.index.videos:
        wanted = of_video.get(entry.name, [])
        if not wanted:
            continue
        frames = np.stack(list(square_frames(videos.index, entry, side=side)))
        for start in range(0, len(wanted), batch_size):
            batch = wanted[start : start + batch_size]
            numbers = np.array([[name.current_index, name.future_index] for name in batch])
            yield batch, torch.from_numpy(frames[numbers])


@torch.no_grad()
def _code_frames(model: PixelLAQ, frames: UInt8[Tensor, "pairs 2 height width 3"]) -> CodedPairs:
    vectors = model.encode_continuous(frames)
    codes = model.quantizer.nearest(vectors)
    embedding = model.quantizer.lookup(codes)
    still = frames[:STANDSTILL_PAIRS, :1].expand(-1, 2, -1, -1, -1)
    error, copy_error = model.prediction_errors(frames, embedding)
    return CodedPairs(
        codes=codes.cpu(),
        embedding=embedding.flatten(1).float().cpu(),
        continuous=vectors.flatten(1).float().cpu(),
        standstill_codes=model.quantizer.nearest(model.encode_continuous(still)).cpu(),
        error=_grouped(error, copy_error).cpu(),
        copy_error=_grouped(copy_error, copy_error).cpu(),
    )


def _grouped(error: Tensor, change: Tensor) -> Tensor:
    """Mean over all patches, the half that changed most, and the others; the rest stays empty."""
    order = change.argsort(dim=1, descending=True, stable=True)
    half = order.shape[1] // 2
    ranked = error.gather(1, order)
    nothing = error.new_zeros(len(error))
    columns: dict[str, Any] = {
        "all": error.mean(1),
        "changed": ranked[:, :half].mean(1) if half else nothing,
        "others": ranked[:, half:].mean(1),
    }
    return torch.stack([columns.get(group, nothing) for group in GROUPS], dim=1)


def _in_order(
    names: Sequence[PairName], found: Sequence[PairName], parts: Sequence[CodedPairs]
) -> CodedPairs:
    """The same pairs in the order of ``names``."""
    row_of = {_key(name): row for row, name in enumerate(found)}
    absent = sorted({name.video for name in names if _key(name) not in row_of})
    if absent:
        raise DatasetError(
            f"rivals need every evaluated video, and {len(absent)} are not in --data_dir "
            f"({', '.join(absent[:3])}{', ...' if absent[3:] else ''})"
        )
    coded = join_coded(parts)
    rows = [row_of[_key(name)] for name in names]
    ordered = {
        name: value if name == "standstill_codes" else value[rows] for name, value in vars(coded).items()
    }
    return CodedPairs(**ordered)


def _key(name: PairName) -> tuple[str, int]:
    return name.video, name.current_index
