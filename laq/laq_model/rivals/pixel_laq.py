"""The pixels-only rival: patches of two frames → action codes → predicted change of the patches.

LAPA's scheme (Ye et al., arXiv 2410.11758, §3.1): an inverse dynamics model reads both frames, a forward
dynamics model reads the first frame and the codes. Built of the same blocks as ``ConcertoLAQ``, with its
widths, depths, quantizer and schedule, so that what differs is what is looked at. Two departures from LAPA
make it stronger: the target is the standardised change, and every query is a token of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ..quantizers.build import build_quantizer
from ..quantizers.nsvq import hard_share_at
from ..quantizers.protocol import Quantizer, Usage
from ..transformer import ReadingBlock, SelfAttentionBlock, rotation_angles
from .config import PixelLAQConfig
from .patches import patch_centres, to_patches

HEAD_START = 0.1  # the head's first weights, as a share of the usual: training starts near "no change"


@dataclass(frozen=True)
class PixelOutput:
    """One training step's losses, means over all patches of all pairs.

    Attributes:
        loss: what training minimises: prediction_loss and the loss terms.
        prediction_loss: error of the predicted change from what the quantizer gave.
        hard_code_loss: the same from the hard codes; no gradient.
        copy_loss: the same of predicting no change.
        loss_terms: of the quantizer.
        usage: of the codebook, over the last training steps.
    """

    loss: Float[Tensor, ""]
    prediction_loss: Float[Tensor, ""]
    hard_code_loss: Float[Tensor, ""]
    copy_loss: Float[Tensor, ""]
    loss_terms: dict[str, Float[Tensor, ""]]
    usage: Usage

    def scalars(self) -> dict[str, Tensor]:
        """All that is worth a curve, by name."""
        return {
            "loss": self.loss,
            "prediction_loss": self.prediction_loss,
            "hard_code_loss": self.hard_code_loss,
            "copy_loss": self.copy_loss,
            **self.loss_terms,
            "codes_used_fraction": self.usage.used_fraction,
            "perplexity": self.usage.perplexity,
        }


class PixelLAQ(nn.Module):
    """Latent actions of pairs of frames, from their pixels alone."""

    patch_mean: Tensor
    patch_std: Tensor
    angles: Tensor

    def __init__(self, config: PixelLAQConfig):
        super().__init__()
        self.config = config
        self.register_buffer("patch_mean", torch.zeros(config.channels))
        self.register_buffer("patch_std", torch.ones(config.channels))
        centres = patch_centres(config.patches_per_side)[None]
        angles = rotation_angles(centres, head_dim=config.dim // config.num_heads)
        self.register_buffer("angles", angles, persistent=False)
        self.inverse_dynamics = PixelInverseDynamics(config)
        self.latent_norm = nn.RMSNorm(config.quantizer_dim, elementwise_affine=False)
        self.quantizer: Quantizer = build_quantizer(
            config.quantizer,
            codebook_size=config.codebook_size,
            dim=config.quantizer_dim,
            num_positions=config.code_seq_len,
        )
        self.forward_dynamics = PixelForwardDynamics(config)

    def set_patch_statistics(self, mean: Float[Tensor, " channels"], std: Float[Tensor, " channels"]) -> None:
        """Fix what the target is measured in; once, before training (see ``patch_statistics``)."""
        self.patch_mean.copy_(mean)
        self.patch_std.copy_(std)

    def forward(
        self,
        frames: UInt8[Tensor, "pairs 2 height width 3"],
        *,
        generator: torch.Generator | None = None,
        progress: float = 0.0,
        hard_share: float | None = None,
    ) -> PixelOutput:
        """Losses of a batch.

        Args:
            frames: RGB, current first.
            generator: of the quantizer's noise, in training mode.
            progress: share of the training that is done, 0 to 1; the schedules of the quantizer follow it.
            hard_share: share of pairs whose prediction is trained on hard codes; by default it follows
                progress.
        """
        patches = self.patches(frames)
        quantized = self.quantizer(
            self._latent(patches),
            generator=generator,
            hard_share=hard_share_at(progress) if hard_share is None else hard_share,
            progress=progress,
        )
        error = self._errors(patches, quantized.quantized).mean()
        hard_error = error.detach()
        if self.training and not bool(quantized.is_hard.all()):
            with torch.no_grad():
                hard_error = self._errors(patches, self.quantizer.lookup(quantized.code_index)).mean()
        return PixelOutput(
            loss=torch.stack([error, *quantized.loss_terms.values()]).sum(),
            prediction_loss=error,
            hard_code_loss=hard_error,
            copy_loss=copy_errors(patches).mean(),
            loss_terms=quantized.loss_terms,
            usage=quantized.usage,
        )

    def patches(
        self, frames: UInt8[Tensor, "pairs 2 height width 3"]
    ) -> Float[Tensor, "pairs 2 patches channels"]:
        """Standardised patches."""
        patches = to_patches(frames, patch_size=self.config.patch_size)
        return (patches - self.patch_mean) / self.patch_std

    @torch.no_grad()
    def encode_continuous(
        self, frames: UInt8[Tensor, "pairs 2 height width 3"]
    ) -> Float[Tensor, "pairs code_seq_len quantizer_dim"]:
        """The vectors before the quantizer; the codes are the nearest to them."""
        return self._latent(self.patches(frames))

    @torch.no_grad()
    def prediction_errors(
        self,
        frames: UInt8[Tensor, "pairs 2 height width 3"],
        vectors: Float[Tensor, "pairs code_seq_len quantizer_dim"],
    ) -> tuple[Float[Tensor, "pairs patches"], Float[Tensor, "pairs patches"]]:
        """Mean square error at each patch of the change predicted from the codes' vectors, and of none."""
        patches = self.patches(frames)
        return self._errors(patches, vectors), copy_errors(patches)

    def _latent(self, patches: Tensor) -> Tensor:
        return self.latent_norm(self.inverse_dynamics(patches, self.angles))

    def _errors(self, patches: Tensor, vectors: Tensor) -> Float[Tensor, "pairs patches"]:
        change = self.forward_dynamics(patches[:, 0], vectors, self.angles)
        return (change - (patches[:, 1] - patches[:, 0])).square().mean(-1)


def copy_errors(patches: Float[Tensor, "pairs 2 patches channels"]) -> Float[Tensor, "pairs patches"]:
    """Mean square error at each patch of predicting no change."""
    return (patches[:, 1] - patches[:, 0]).square().mean(-1)


class PixelInverseDynamics(nn.Module):
    """Patches of both frames → one vector for each action token, not yet quantized."""

    def __init__(self, config: PixelLAQConfig):
        super().__init__()
        self.embedding = nn.Linear(config.channels, config.dim)
        self.place = nn.Parameter(torch.randn(config.patches_per_side**2, config.dim) * 0.5)
        block = (config.dim, config.num_heads, config.mlp_ratio)
        self.spatial = nn.ModuleList(SelfAttentionBlock(*block) for _ in range(config.spatial_depth))
        self.spatial_norm = nn.LayerNorm(config.dim, bias=False)  # a bias would cancel in the difference
        self.changed_place = nn.Parameter(torch.randn(config.patches_per_side**2, config.dim) * 0.5)
        self.queries = nn.Parameter(torch.randn(config.code_seq_len, config.dim))
        self.temporal = nn.ModuleList(SelfAttentionBlock(*block) for _ in range(config.temporal_depth))
        self.head = nn.Sequential(nn.LayerNorm(config.dim), nn.Linear(config.dim, config.quantizer_dim))

    def forward(
        self,
        patches: Float[Tensor, "pairs 2 patches channels"],
        angles: Float[Tensor, "1 patches rotations"],
    ) -> Float[Tensor, "pairs code_seq_len quantizer_dim"]:
        """The spatial blocks see one frame at a time, the temporal ones the difference of what they say."""
        pairs, num_queries = len(patches), len(self.queries)
        x = (self.embedding(patches) + self.place).flatten(0, 1)
        is_valid = x.new_ones(x.shape[:2], dtype=torch.bool)
        for block in self.spatial:
            x = block(x, is_valid, angles.expand(len(x), -1, -1))
        frames = self.spatial_norm(x).unflatten(0, (pairs, 2))
        change = frames[:, 1] - frames[:, 0] + self.changed_place
        x = torch.cat([self.queries.expand(pairs, -1, -1), change], dim=1)
        is_valid = x.new_ones(x.shape[:2], dtype=torch.bool)
        turned = F.pad(angles, (0, 0, num_queries, 0)).expand(pairs, -1, -1)
        *blocks, last = self.temporal
        for block in blocks:
            x = block(x, is_valid, turned)
        return self.head(last(x, is_valid, turned, num_asking=num_queries))


class PixelForwardDynamics(nn.Module):
    """Patches of the current frame and the codes' vectors → the change of every patch."""

    def __init__(self, config: PixelLAQConfig):
        super().__init__()
        self.embedding = nn.Linear(config.channels, config.dim)
        self.place = nn.Parameter(torch.randn(config.patches_per_side**2, config.dim) * 0.5)
        self.context_norm = nn.LayerNorm(config.dim)
        self.code = nn.Linear(config.quantizer_dim, config.dim)
        self.code_position = nn.Parameter(torch.randn(config.code_seq_len, config.dim) * 0.5)
        self.code_norm = nn.LayerNorm(config.dim)
        self.blocks = nn.ModuleList(
            ReadingBlock(config.dim, config.num_heads, config.mlp_ratio)
            for _ in range(config.predictor_depth)
        )
        self.head_norm = nn.LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, config.channels)
        with torch.no_grad():
            self.head.weight.mul_(HEAD_START)
            self.head.bias.zero_()

    def forward(
        self,
        current: Float[Tensor, "pairs patches channels"],
        vectors: Float[Tensor, "pairs code_seq_len quantizer_dim"],
        angles: Float[Tensor, "1 patches rotations"],
    ) -> Float[Tensor, "pairs patches channels"]:
        """Each patch reads the codes, then the current frame."""
        x = self.embedding(current) + self.place
        memory = self.context_norm(x)
        codes = self.code_norm(self.code(vectors) + self.code_position)
        is_valid = x.new_ones(x.shape[:2], dtype=torch.bool)
        turned = angles.expand(len(x), -1, -1)
        for block in self.blocks:
            x = block(x, codes, memory, is_valid, (turned, turned))
        return self.head(self.head_norm(x))
