"""The latent action model: tokens of two frames → action codes → predicted change of the tokens.

The inverse dynamics model reads the places of the world that both frames see and that changed most; the
forward dynamics model reads the current frame and the codes alone. The target is fixed: the change of the
frozen features and of the raw geometry, standardised by statistics of the training set.

The scheme is LAPA's (Ye et al., arXiv 2410.11758, §3.1), moved from image patches to places of the world,
where a camera's motion is no change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .action_model.config import ConcertoLAQConfig
from .action_model.forward_dynamics import ForwardDynamics
from .action_model.inverse_dynamics import InverseDynamics
from .action_model.motion import MOTION_CHANNELS, MotionHead
from .action_model.places import Places, Task, choose_task, compare_places, gather_places
from .action_model.saved_model import load_saved_weights, read_config, save_model, saved_folder
from .action_model.statistics import feature_statistics
from .metrics.prediction import masked_mean_per_pair
from .quantizers.build import build_quantizer
from .quantizers.nsvq import hard_share_at
from .quantizers.protocol import Quantizer, Usage
from .structures import GEOMETRY_CHANNELS, LatentAction, LatentActions, PairTokens

__all__ = ["ConcertoLAQ", "ConcertoLAQConfig", "LAQOutput", "VideoEncoder", "feature_statistics"]


@runtime_checkable
class TimedPair(Protocol):
    """When the frames of a pair were shown, in seconds."""

    @property
    def current_time_s(self) -> float:
        """Of the current frame."""
        ...

    @property
    def future_time_s(self) -> float:
        """Of the future frame."""
        ...


@runtime_checkable
class VideoEncoder(Protocol):
    """From a video file to the tokens of its pairs; ``TrainedRun.video_encoder()`` makes one."""

    def __call__(self, video: str | Path) -> Iterable[tuple[Sequence[TimedPair], PairTokens]]:
        """Batches of pairs in time order, each with its tokens."""
        ...


@dataclass(frozen=True)
class LAQOutput:
    """One forward pass; every loss is a mean over the pairs that see some place twice.

    Attributes:
        loss: what training minimises: prediction_loss, the weighted motion_loss and the loss terms.
        prediction_loss: error of the predicted change from what the predictor was given: in training, the
            quantizer's training output for some pairs and hard codes for the others.
        hard_code_loss: the same error when every pair is given its hard codes; no gradient. None where it was
            not asked for.
        copy_loss: the same error of predicting no change.
        code_index: the hard codes.
        motion_loss: mean square error of the scene's motion as the codes tell it, in units of its size: about
            1 for codes that tell nothing.
        loss_terms: of the quantizer; empty in eval mode.
        usage: of the codebook, over the last training steps.
    """

    loss: Float[Tensor, ""]
    prediction_loss: Float[Tensor, ""]
    hard_code_loss: Float[Tensor, ""] | None
    copy_loss: Float[Tensor, ""]
    motion_loss: Float[Tensor, ""]
    code_index: Int[Tensor, "pairs code_seq_len"]
    loss_terms: dict[str, Float[Tensor, ""]]
    usage: Usage

    def scalars(self) -> dict[str, Tensor]:
        """All that is worth a curve, by name."""
        hard = {} if self.hard_code_loss is None else {"hard_code_loss": self.hard_code_loss}
        return {
            "loss": self.loss,
            "prediction_loss": self.prediction_loss,
            **hard,
            "copy_loss": self.copy_loss,
            "motion_loss": self.motion_loss,
            **self.loss_terms,
            "codes_used_fraction": self.usage.used_fraction,
            "perplexity": self.usage.perplexity,
        }


class ConcertoLAQ(  # type: ignore[call-arg]
    nn.Module,
    PyTorchModelHubMixin,
    library_name="concerto-laq",
    license="apache-2.0",
    tags=["latent-actions", "robotics"],
):
    """Latent actions of pairs of frames, given as PairTokens.

    ``save_pretrained`` writes config.json and model.safetensors; ``from_pretrained`` and ``push_to_hub`` are
    those of huggingface_hub, loading strictly.
    """

    feature_mean: Tensor
    feature_std: Tensor
    motion_size: Tensor

    def __init__(self, config: ConcertoLAQConfig):
        super().__init__()
        self.config = config
        self.register_buffer("feature_mean", torch.zeros(config.channels))
        self.register_buffer("feature_std", torch.ones(config.channels))
        self.register_buffer("motion_size", torch.ones(MOTION_CHANNELS))
        self.inverse_dynamics = InverseDynamics(config)
        # Vectors of one length: a codebook that starts on them stays on them, and cannot be outrun by growth.
        self.latent_norm = nn.RMSNorm(config.quantizer_dim, elementwise_affine=False)
        self.quantizer: Quantizer = build_quantizer(
            config.quantizer,
            codebook_size=config.codebook_size,
            dim=config.quantizer_dim,
            num_positions=config.code_seq_len,
        )
        self.forward_dynamics = ForwardDynamics(config)
        self.motion_head = MotionHead(code_seq_len=config.code_seq_len, quantizer_dim=config.quantizer_dim)

    def set_feature_statistics(
        self,
        mean: Float[Tensor, " channels"],
        std: Float[Tensor, " channels"],
        motion_size: Float[Tensor, " motion_channels"],
    ) -> None:
        """Fix what the target is measured in; once, before training (see ``feature_statistics``)."""
        if mean.shape != self.feature_mean.shape or std.shape != self.feature_std.shape:
            raise ValueError(
                f"statistics of {self.config.channels} channels are needed, "
                f"got {len(mean)} means and {len(std)} deviations"
            )
        sizes = torch.cat([std, motion_size])
        if not bool((sizes > 0).all()) or not bool(torch.isfinite(torch.cat([mean, sizes])).all()):
            raise ValueError("every mean must be finite, every std and motion size positive and finite")
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(std)
        self.motion_size.copy_(motion_size)

    def forward(
        self,
        pair: PairTokens,
        *,
        generator: torch.Generator | None = None,
        progress: float = 0.0,
        hard_share: float | None = None,
        shuffle_pairs: bool = False,
        is_reported: bool = True,
    ) -> LAQOutput:
        """Losses of a batch. In eval mode: hard codes only, no randomness, and nothing is changed.

        Args:
            generator: of the quantizer's noise and of the places drawn, in training mode.
            progress: share of the training that is done, 0 to 1; the schedules of the quantizer follow it.
            hard_share: share of pairs whose prediction is trained on hard codes; by default it follows
                progress.
            shuffle_pairs: predict each pair from the codes of its neighbour in the batch, so that codes can
                tell nothing: for a control.
            is_reported: find hard_code_loss too. Where pairs are trained on soft codes it takes another pass
                of the predictor, a fifteenth of a step, and nothing is learned from it.

        Raises:
            ValueError: features that are not finite, or not of this model's channels.
        """
        places = self._places(pair)
        quantized = self.quantizer(
            self._latent(places),
            generator=generator,
            hard_share=hard_share_at(progress) if hard_share is None else hard_share,
            progress=progress,
        )
        task = self._task(places, is_random=self.training, generator=generator)
        shift = 1 if shuffle_pairs else 0
        vectors, told_index = quantized.quantized.roll(shift, 0), quantized.code_index.roll(shift, 0)
        error = self._prediction_error(places, task, vectors)
        hard_error = error.detach()
        if is_reported and self.training and not bool(quantized.is_hard.all()):
            with torch.no_grad():
                hard_error = self._prediction_error(places, task, self.quantizer.lookup(told_index))
        has_query = task.is_query.any(-1)
        prediction_loss = _mean_over(error, has_query)
        motion_loss = _mean_over(self._motion_error(places, vectors), has_query)
        loss = prediction_loss + self.config.motion_weight * motion_loss
        loss = torch.stack([loss, *quantized.loss_terms.values()]).sum()
        return LAQOutput(
            loss=loss,
            prediction_loss=prediction_loss,
            hard_code_loss=_mean_over(hard_error, has_query) if is_reported else None,
            copy_loss=_mean_over(self._copy_error(places, task), has_query),
            motion_loss=motion_loss,
            code_index=quantized.code_index,
            loss_terms=quantized.loss_terms,
            usage=quantized.usage,
        )

    @torch.no_grad()
    def encode(self, pair: PairTokens) -> LatentAction:
        """The action codes of each pair, the same in training and eval mode.

        Raises:
            ValueError: as ``forward``.
        """
        codes = self.quantizer.nearest(self._latent(self._places(pair)))
        return LatentAction(codes=codes, vectors=self.quantizer.lookup(codes))

    def encode_video(self, video: str | Path, *, encoder: VideoEncoder) -> LatentActions:
        """The action codes of all pairs of a video.

        Args:
            encoder: of the frames that this model was trained on; it is handed in, so that the model needs
                neither its weights nor a video decoder.

        Raises:
            ValueError: the encoder gave no pair.
            LAQError: the encoder's own refusals.
        """
        times: list[TimedPair] = []
        actions = []
        for pairs, tokens in encoder(video):
            times += pairs
            actions.append(self.encode(tokens))
        if not actions:
            raise ValueError(f"{video} has no pair of frames to encode")
        return LatentActions(
            codes=torch.cat([action.codes for action in actions]),
            vectors=torch.cat([action.vectors for action in actions]),
            current_time_s=torch.tensor([pair.current_time_s for pair in times], dtype=torch.float64),
            future_time_s=torch.tensor([pair.future_time_s for pair in times], dtype=torch.float64),
        )

    @torch.no_grad()
    def encode_continuous(self, pair: PairTokens) -> Float[Tensor, "pairs code_seq_len quantizer_dim"]:
        """The vectors before the quantizer, for probes of what the bottleneck costs."""
        return self._latent(self._places(pair))

    @torch.no_grad()
    def predict_next(
        self, pair: PairTokens, codes: Int[Tensor, "pairs code_seq_len"]
    ) -> Float[Tensor, "pairs tokens channels"]:
        """The features that each place will have after this action, in the units of ``pair.feat``.

        Only frame 0 of ``pair`` is read. Channel ``feature_channels`` is the predicted occupancy: near 0 the
        place is expected to be free, and its other channels say nothing. Places that the current frame does
        not see are taken for free.

        Raises:
            ValueError: codes outside the codebook; features that are not finite.
        """
        current = dataclasses.replace(
            pair, feat=pair.feat[:, :1].expand_as(pair.feat), state=pair.state[:, :1].expand_as(pair.state)
        )
        places = self._places(current)
        vectors = self._look_up(codes, num_pairs=len(pair.feat))
        task = self._task(places, is_random=False)
        every_place = torch.arange(pair.feat.shape[2], device=pair.feat.device).expand(len(pair.feat), -1)
        change = self.forward_dynamics(
            places,
            vectors,
            context_index=task.context_index,
            is_context=task.is_context,
            query_index=every_place,
        )
        return (places.current + change.float()) * self.feature_std + self.feature_mean

    @torch.no_grad()
    def prediction_error(
        self, pair: PairTokens, codes: Int[Tensor, "pairs code_seq_len"]
    ) -> Float[Tensor, " pairs"]:
        """Error of the change predicted from these codes, at the places that evaluation queries.

        Zero for a pair that sees no place twice.

        Raises:
            ValueError: as ``predict_next``.
        """
        places = self._places(pair)
        vectors = self._look_up(codes, num_pairs=len(pair.feat))
        return self._prediction_error(places, self._task(places, is_random=False), vectors)

    @torch.no_grad()
    def copy_error(self, pair: PairTokens) -> Float[Tensor, " pairs"]:
        """Error of predicting no change, at the same places and in the same unit as ``prediction_error``."""
        places = self._places(pair)
        return self._copy_error(places, self._task(places, is_random=False))

    def _places(self, pair: PairTokens) -> Places:
        return compare_places(pair, self.feature_mean, self.feature_std, self.motion_size)

    def _latent(self, places: Places) -> Tensor:
        return self.latent_norm(self.inverse_dynamics(places).float())

    def _task(self, places: Places, *, is_random: bool, generator: torch.Generator | None = None) -> Task:
        return choose_task(
            places,
            num_context=self.config.num_context_tokens,
            num_query=self.config.num_query_tokens,
            is_random=is_random,
            generator=generator,
        )

    def _prediction_error(self, places: Places, task: Task, vectors: Tensor) -> Float[Tensor, " pairs"]:
        change = self.forward_dynamics(
            places,
            vectors,
            context_index=task.context_index,
            is_context=task.is_context,
            query_index=task.query_index,
        )
        return self._error(places, task, change.float())

    def _motion_error(self, places: Places, vectors: Tensor) -> Float[Tensor, " pairs"]:
        return (self.motion_head(vectors).float() - places.motion).square().mean(-1)

    def _copy_error(self, places: Places, task: Task) -> Float[Tensor, " pairs"]:
        return self._error(places, task, torch.zeros((), device=places.feat.device))

    def _error(self, places: Places, task: Task, change: Tensor) -> Float[Tensor, " pairs"]:
        target = gather_places(places.feat[:, 1] - places.feat[:, 0], task.query_index)
        squared = (change - target).square()
        network, geometry = squared.split([self.config.feature_channels, GEOMETRY_CHANNELS], dim=-1)
        weighted = network.mean(-1) + self.config.geometry_weight * geometry.mean(-1)
        return masked_mean_per_pair(weighted, task.is_query)

    def _look_up(self, codes: Tensor, *, num_pairs: int) -> Tensor:
        wanted = (num_pairs, self.config.code_seq_len)
        if tuple(codes.shape) != wanted:
            raise ValueError(
                f"codes of shape {wanted} are needed (pairs, code_seq_len), got {tuple(codes.shape)}"
            )
        if codes.numel() and (int(codes.min()) < 0 or int(codes.max()) >= self.config.codebook_size):
            raise ValueError(
                f"codes must be in 0 .. {self.config.codebook_size - 1}, "
                f"got {int(codes.min())} .. {int(codes.max())}"
            )
        return self.quantizer.lookup(codes)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(save_directory, self, self.config)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **unexpected: Any,
    ) -> ConcertoLAQ:
        """A model in eval mode, from a folder or, where no such folder exists, from the Hub.

        Raises:
            RunError: no such folder or model, or a configuration that is damaged or of another version.
            WeightsError: the weights are missing, damaged, or not of this configuration.
        """
        if unexpected:
            raise TypeError(
                f"from_pretrained() takes no {', '.join(sorted(unexpected))}: config.json decides the sizes"
            )
        folder = saved_folder(
            pretrained_model_name_or_path,
            force_download=force_download,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            revision=revision,
        )
        model = cls(read_config(folder))
        load_saved_weights(model, folder)
        return model.eval()


def _mean_over(error: Float[Tensor, " pairs"], is_counted: Bool[Tensor, " pairs"]) -> Float[Tensor, ""]:
    return (error * is_counted).sum() / is_counted.sum().clamp(min=1)
