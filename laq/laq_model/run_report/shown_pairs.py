"""The pairs that a page is about: their codes, where their matter moved, their frames and their geometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..action_model.motion import mass_centres, moved_mass
from ..checkpoint import RunFolder
from ..concerto_wrapper import build_encoder
from ..encoder_config import EncoderConfig
from ..errors import ConfigError, DatasetError
from ..feature_store import FeatureStore, PairName
from ..geometry_source import GeometrySource
from ..known_actions.actions import episode_and_view
from ..published_weights import has_vggt_weights
from ..report.code_groups import CodedPairs
from ..scene_observation import build_geometry_source
from ..token_batches import Batches, encoded_batches, stored_batches
from ..trained_run import TrainedRun
from ..video.index import VideoIndex, build_index
from ..webm_dataset import VideoDataConfig
from .config import RunReportConfig

_ADVICE = "Report with the encoder that the model was trained with"
_TASK = "codes"

BuildSource = Callable[[], GeometrySource]


@dataclass(frozen=True)
class ShownPairs:
    """Coded pairs, and what is needed to show them.

    Attributes:
        centres: of what is gone and of what is new (``action_model.motion.mass_centres``).
        mass: how much is gone, or how much is new, whichever is less; in places.
        data: how their frames look.
        index: their videos; None where these are not there.
        encoder: settings of their geometry.
        build_source: of their depth and cameras; None where its weights would have to be fetched.
    """

    pairs: CodedPairs
    centres: Float[Tensor, "pairs 2 3"]
    mass: Float[Tensor, " pairs"]
    data: VideoDataConfig
    index: VideoIndex | None
    encoder: EncoderConfig
    build_source: BuildSource | None


def shown_pairs(
    config: RunReportConfig,
    run: TrainedRun,
    folder: RunFolder | None,
    *,
    device: torch.device,
    missing: list[str],
) -> ShownPairs | None:
    """Read or encode the pairs; None, and why in ``missing``, where the run's own videos are not there.

    Raises:
        LAQError: the videos or the store that the flags name are not there or hold no such pair; missing
            weights; tokens of another encoder.
    """
    features = config.features or _own_store(config, folder)
    data = replace(
        run.data,
        data_dir=config.data_dir or run.data.data_dir,
        view=config.view,
        camera=config.camera or run.data.camera,
        max_videos=0,  # counted below, among the videos that are shown
    )
    is_wanted = _wanted(config, folder)
    index = _index(config, data, missing, has_store=bool(features))
    encoder = replace(run.encoder, vggt_weights=config.vggt_weights or run.encoder.vggt_weights)

    def build_source() -> GeometrySource:
        return build_geometry_source(encoder, device=device)

    source: BuildSource | None = build_source
    if features:
        store = FeatureStore(features)
        run.refuse_other_store(store, advice=_ADVICE)
        print(f"tokens of {features}")
        batches = stored_batches(
            store,
            is_wanted=is_wanted,
            every_n=config.every_n or 1,
            max_videos=config.max_videos,
            batch_size=config.batch_size,
            task=_TASK,
        )
        if encoder.geometry == "vggt" and not has_vggt_weights(encoder.vggt_model, file=encoder.vggt_weights):
            source = None
    elif index is None:
        return None
    else:
        batches, source = _encoded(config, run, data, index, is_wanted=is_wanted, device=device)
    names, codes, centres, mass = _coded(batches, run, device)
    if not names:
        raise DatasetError(_nothing_wanted(config))
    pairs = CodedPairs(names, torch.cat(codes), run.model.config.codebook_size)
    return ShownPairs(pairs, torch.cat(centres), torch.cat(mass), data, index, encoder, source)


def _own_store(config: RunReportConfig, folder: RunFolder | None) -> str:
    """The store that the run was trained from, if it is the one to show and still there."""
    store = str(folder.config.get("features") or "") if folder and not config.data_dir else ""
    return store if store and Path(store).is_dir() else ""


def _wanted(config: RunReportConfig, folder: RunFolder | None) -> Callable[[str], bool]:
    is_held_out = config.videos == "held_out" and folder is not None
    seen = (
        {episode_and_view(video)[0] for video in folder.trained_videos} if folder and is_held_out else set()
    )

    def is_wanted(video: str) -> bool:
        episode, view = episode_and_view(video)
        return episode not in seen and config.view in ("", view)

    return is_wanted


def _index(
    config: RunReportConfig, data: VideoDataConfig, missing: list[str], *, has_store: bool
) -> VideoIndex | None:
    """The videos; where none were asked for by name, they may be gone."""
    try:
        index = build_index(data)
    except (ConfigError, DatasetError) as error:
        if config.data_dir:
            raise
        what = "clips" if has_store else "codes and clips"
        missing.append(f"No {what}, because the run's videos are not here ({error}).")
        return None
    print(index.summary())
    return index


def _encoded(
    config: RunReportConfig,
    run: TrainedRun,
    data: VideoDataConfig,
    index: VideoIndex,
    *,
    is_wanted: Callable[[str], bool],
    device: torch.device,
) -> tuple[Batches, BuildSource]:
    settings = run.encoder_here(
        data,
        vggt_weights=config.vggt_weights,
        concerto_weights=config.concerto_weights,
        advice=_ADVICE,
    )
    videos = [entry for entry in index.videos if is_wanted(entry.name)]
    chosen = replace(index, videos=tuple(videos[: config.max_videos] if config.max_videos else videos))
    encoder = build_encoder(settings, device=device)
    batches = encoded_batches(
        encoder,
        chosen,
        data,
        every_n=config.every_n or data.frame_offset,
        batch_size=config.batch_size,
        device=device,
        with_sensor=settings.geometry != "vggt",
        task=_TASK,
    )
    return batches, lambda: encoder.source


@torch.no_grad()
def _coded(
    batches: Batches, run: TrainedRun, device: torch.device
) -> tuple[list[PairName], list[Tensor], list[Tensor], list[Tensor]]:
    """Names, and for each batch codes, centres and mass."""
    names: list[PairName] = []
    codes, centres, mass = [], [], []
    for batch_names, batch in batches:
        tokens = batch.to(device)
        names += batch_names
        codes.append(run.model.encode(tokens).codes.cpu())
        centres.append(mass_centres(tokens).cpu())
        mass.append(moved_mass(tokens).sum(-1).amin(1).cpu())
    return names, codes, centres, mass


def _nothing_wanted(config: RunReportConfig) -> str:
    view = f" of the view {config.view!r}" if config.view else ""
    if config.videos == "all":
        return f"there is no pair{view} to show; choose others by --data_dir, --features, --view or --every_n"
    return (
        f"there is no pair{view} of a video that the run was not trained on; give others with --data_dir or "
        "--features, or show those with --videos all"
    )
