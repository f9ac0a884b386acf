"""The latent action model: tokens of two frames → action codes → predicted change of the tokens.

The inverse dynamics model reads the places of the world that both frames see and that changed most; the
forward dynamics model reads the current frame and the codes alone. The target is fixed: the change of the
frozen features and of the raw geometry, standardised by statistics of the training set.

The scheme is LAPA's (Ye et al., arXiv 2410.11758, §3.1), moved from image patches to places of the world,
where a camera's motion is no change.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from jaxtyping import Bool, Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn

from .errors import ConfigError, RunError, WeightsError
from .metrics.prediction import masked_mean_per_pair
from .quantizers.nsvq import NSVQ, hard_share_at
from .quantizers.protocol import Quantizer, Usage
from .structures import GEOMETRY_CHANNELS, OCCUPIED, UNKNOWN, LatentAction, PairTokens
from .transformer import POSITION_CHANNELS, ReadingBlock, SelfAttentionBlock, position_code, rotation_angles
from .weights import load_strict, read_weights

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
CHANGED_QUERY_SHARE = 0.5  # of the queried places: those that changed most; the others are drawn evenly


_AT_LEAST_ONE = (
    *(
        "feature_channels",
        "dim",
        "spatial_depth",
        "temporal_depth",
        "predictor_depth",
        "num_heads",
        "mlp_ratio",
    ),
    *("num_changed_tokens", "num_context_tokens", "num_query_tokens"),
)


@dataclass(frozen=True)
class ConcertoLAQConfig:
    """Sizes of the latent action model."""

    feature_channels: int = 512
    """Network channels of a token; training takes them from the encoder."""
    dim: int = 512
    """Width of the transformers."""
    codebook_size: int = 256
    """Number of codes, shared by all action tokens."""
    code_seq_len: int = 4
    """Action tokens for each pair of frames, 1 to 16."""
    spatial_depth: int = 4
    """Blocks that read the places of one frame."""
    temporal_depth: int = 4
    """Blocks that read the change between the frames."""
    predictor_depth: int = 4
    """Blocks of the forward dynamics model."""
    num_heads: int = 8
    """Attention heads; they divide dim."""
    mlp_ratio: int = 4
    """Hidden width of a block's MLP, in multiples of dim."""
    quantizer: Literal["nsvq"] = "nsvq"
    """The bottleneck's scheme."""
    quantizer_dim: int = 32
    """Dimensions of a code."""
    num_changed_tokens: int = 96
    """Places that the action encoder reads: those seen in both frames that changed most."""
    num_context_tokens: int = 96
    """Occupied places of the current frame that the predictor reads."""
    num_query_tokens: int = 64
    """Places whose change is predicted: half are those that changed most, half are spread over the rest."""
    geometry_weight: float = 1.0
    """Weight of the geometry channels' error beside the network channels' error."""

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 1 <= self.code_seq_len <= 16:
            raise ConfigError(f"code_seq_len must be 1 to 16, got {self.code_seq_len}")
        for name in (
            "codebook_size",
            "quantizer_dim",
        ):  # one code, or vectors of one length on a line, say nothing
            if getattr(self, name) < 2:
                raise ConfigError(f"{name} must be at least 2, got {getattr(self, name)}")
        if self.dim % self.num_heads:
            raise ConfigError(f"num_heads must divide dim, got {self.num_heads} heads for dim {self.dim}")
        if self.quantizer != "nsvq":
            raise ConfigError(f"quantizer must be 'nsvq', got {self.quantizer!r}")
        if self.geometry_weight < 0:
            raise ConfigError(f"geometry_weight must not be negative, got {self.geometry_weight}")

    @property
    def channels(self) -> int:
        """All channels of a token: the network's, then the raw geometry."""
        return self.feature_channels + GEOMETRY_CHANNELS


@dataclass(frozen=True)
class LAQOutput:
    """One forward pass; every loss is a mean over the pairs that see some place twice.

    Attributes:
        loss: what training minimises: prediction_loss and the loss terms.
        prediction_loss: error of the predicted change from what the predictor was given: in training, the
            quantizer's training output for some pairs and hard codes for the others.
        hard_code_loss: the same error when every pair is given its hard codes; no gradient.
        copy_loss: the same error of predicting no change.
        code_index: the hard codes.
        loss_terms: of the quantizer; empty in eval mode.
        usage: of the codebook, over the last training steps.
    """

    loss: Float[Tensor, ""]
    prediction_loss: Float[Tensor, ""]
    hard_code_loss: Float[Tensor, ""]
    copy_loss: Float[Tensor, ""]
    code_index: Int[Tensor, "pairs code_seq_len"]
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


@dataclass(frozen=True)
class _Places:
    """PairTokens made comparable: standardised, zero where nothing is, with what may be compared."""

    feat: Float[Tensor, "pairs 2 tokens channels"]
    is_occupied: Bool[Tensor, "pairs 2 tokens"]
    position: Float[Tensor, "pairs tokens 3"]
    is_seen: Bool[Tensor, "pairs tokens"]  # by both frames
    is_context: Bool[Tensor, "pairs tokens"]  # occupied in the current frame
    change_size: Float[Tensor, "pairs tokens"]  # of the raw geometry


@dataclass(frozen=True)
class _Task:
    """What the forward dynamics model reads and is asked of each pair."""

    context: tuple[Int[Tensor, "pairs context"], Bool[Tensor, "pairs context"]]
    query_index: Int[Tensor, "pairs queries"]
    is_query: Bool[Tensor, "pairs queries"]


class TokenEmbedding(nn.Module):
    """A place of one frame → a vector: what is there, whether anything is there, and where it is."""

    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.content = nn.Linear(channels, dim)
        self.state = nn.Embedding(2, dim)
        self.position = nn.Linear(POSITION_CHANNELS, dim, bias=False)

    def forward(
        self,
        feat: Float[Tensor, "*batch channels"],
        is_occupied: Bool[Tensor, "*batch"],
        position: Float[Tensor, "*batch 3"],
    ) -> Float[Tensor, "*batch dim"]:
        """Sum of the three."""
        return self.content(feat) + self.state(is_occupied.long()) + self.position(position_code(position))


class InverseDynamics(nn.Module):
    """Both frames at the places that changed most → one vector for each action token, not yet quantized."""

    def __init__(self, config: ConcertoLAQConfig):
        super().__init__()
        self.num_changed_tokens = config.num_changed_tokens
        self.head_dim = config.dim // config.num_heads
        self.embedding = TokenEmbedding(config.channels, config.dim)
        block = (config.dim, config.num_heads, config.mlp_ratio)
        self.scene_token = nn.Parameter(torch.randn(config.dim))  # a key that is there when no place is
        self.spatial = nn.ModuleList(SelfAttentionBlock(*block) for _ in range(config.spatial_depth))
        self.spatial_norm = nn.LayerNorm(config.dim, bias=False)  # a bias would cancel in the difference
        self.position = nn.Linear(POSITION_CHANNELS, config.dim)
        self.queries = nn.Parameter(torch.randn(config.code_seq_len, config.dim))
        self.temporal = nn.ModuleList(SelfAttentionBlock(*block) for _ in range(config.temporal_depth))
        self.head = nn.Sequential(nn.LayerNorm(config.dim), nn.Linear(config.dim, config.quantizer_dim))

    def forward(self, places: _Places) -> Float[Tensor, "pairs code_seq_len quantizer_dim"]:
        """Places that only one frame sees have no influence; nor has any when nothing changed."""
        index, is_chosen = take_largest(places.change_size, places.is_seen, self.num_changed_tokens)
        position = gather_places(places.position, index)
        angles = rotation_angles(position, head_dim=self.head_dim)
        frames = []
        for frame in (0, 1):
            feat = gather_places(places.feat[:, frame], index)
            x = self.embedding(feat, places.is_occupied[:, frame].gather(1, index), position)
            frames.append(self._read_frame(x, is_chosen, angles))
        change = frames[1] - frames[0] + self.position(position_code(position))
        is_changed = is_chosen & (places.change_size.gather(1, index) > 0)
        num_queries = len(self.queries)
        x = torch.cat([self.queries.expand(len(change), -1, -1), change], dim=1)
        is_valid = torch.cat([is_changed.new_ones(len(change), num_queries), is_changed], dim=1)
        angles = F.pad(angles, (0, 0, num_queries, 0))
        for block in self.temporal:
            x = block(x, is_valid, angles)
        return self.head(x[:, :num_queries])

    def _read_frame(self, x: Tensor, is_chosen: Tensor, angles: Tensor) -> Tensor:
        x = torch.cat([x, self.scene_token.expand(len(x), 1, -1)], dim=1)
        is_valid = torch.cat([is_chosen, is_chosen.new_ones(len(x), 1)], dim=1)
        angles = F.pad(angles, (0, 0, 0, 1))
        for block in self.spatial:
            x = block(x, is_valid, angles)
        return self.spatial_norm(x[:, :-1])


class ForwardDynamics(nn.Module):
    """The current frame and the codes → how the standardised channels of the queried places change."""

    def __init__(self, config: ConcertoLAQConfig):
        super().__init__()
        self.head_dim = config.dim // config.num_heads
        self.embedding = TokenEmbedding(config.channels, config.dim)
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
        with torch.no_grad():  # start near "no change"
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()

    def forward(
        self,
        places: _Places,
        vectors: Float[Tensor, "pairs code_seq_len quantizer_dim"],
        *,
        context: tuple[Int[Tensor, "pairs context"], Bool[Tensor, "pairs context"]],
        query_index: Int[Tensor, "pairs queries"],
    ) -> Float[Tensor, "pairs queries channels"]:
        """Reads frame 0 only; each query is answered without regard to the others."""
        context_index, is_valid = context
        memory = self.context_norm(self._embed(places, context_index))
        codes = self.code_norm(self.code(vectors) + self.code_position)
        x = self._embed(places, query_index)
        angles = tuple(
            rotation_angles(gather_places(places.position, index), head_dim=self.head_dim)
            for index in (query_index, context_index)
        )
        for block in self.blocks:
            x = block(x, codes, memory, is_valid, angles)
        return self.head(self.head_norm(x))

    def _embed(self, places: _Places, index: Tensor) -> Tensor:
        return self.embedding(
            gather_places(places.feat[:, 0], index),
            places.is_occupied[:, 0].gather(1, index),
            gather_places(places.position, index),
        )


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

    def __init__(self, config: ConcertoLAQConfig):
        super().__init__()
        self.config = config
        self.register_buffer("feature_mean", torch.zeros(config.channels))
        self.register_buffer("feature_std", torch.ones(config.channels))
        self.inverse_dynamics = InverseDynamics(config)
        # Vectors of one length: a codebook that starts on them stays on them, and cannot be outrun by growth.
        self.latent_norm = nn.RMSNorm(config.quantizer_dim, elementwise_affine=False)
        self.quantizer: Quantizer = NSVQ(
            codebook_size=config.codebook_size, dim=config.quantizer_dim, num_positions=config.code_seq_len
        )
        self.forward_dynamics = ForwardDynamics(config)

    def set_feature_statistics(
        self, mean: Float[Tensor, " channels"], std: Float[Tensor, " channels"]
    ) -> None:
        """Fix what the target is measured in; once, before training (see ``feature_statistics``)."""
        if mean.shape != self.feature_mean.shape or std.shape != self.feature_std.shape:
            raise ValueError(
                f"statistics of {self.config.channels} channels are needed, "
                f"got {len(mean)} means and {len(std)} deviations"
            )
        if not bool((std > 0).all()) or not bool(torch.isfinite(mean).all() & torch.isfinite(std).all()):
            raise ValueError("every mean must be finite, every std positive and finite")
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(std)

    def forward(
        self,
        pair: PairTokens,
        *,
        generator: torch.Generator | None = None,
        progress: float = 0.0,
        hard_share: float | None = None,
    ) -> LAQOutput:
        """Losses of a batch. In eval mode: hard codes only, no randomness, and nothing is changed.

        Args:
            generator: of the quantizer's noise and of the places drawn, in training mode.
            progress: share of the training that is done, 0 to 1; the schedules of the quantizer follow it.
            hard_share: share of pairs whose prediction is trained on hard codes; by default it follows
                progress.

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
        error = self._prediction_error(places, task, quantized.quantized)
        hard_error = error.detach()
        if self.training and not bool(quantized.is_hard.all()):
            with torch.no_grad():
                hard_error = self._prediction_error(places, task, self.quantizer.lookup(quantized.code_index))
        has_query = task.is_query.any(-1)
        prediction_loss = _mean_over(error, has_query)
        loss = torch.stack([prediction_loss, *quantized.loss_terms.values()]).sum()
        return LAQOutput(
            loss=loss,
            prediction_loss=prediction_loss,
            hard_code_loss=_mean_over(hard_error, has_query),
            copy_loss=_mean_over(self._copy_error(places, task), has_query),
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
        change = self.forward_dynamics(places, vectors, context=task.context, query_index=every_place)
        return (places.feat[:, 0] + change.float()) * self.feature_std + self.feature_mean

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

    def _places(self, pair: PairTokens) -> _Places:
        """Check the tokens, and make them comparable."""
        if pair.feat.shape[-1] != self.config.channels:
            raise ValueError(
                f"this model reads tokens of {self.config.feature_channels} network channels and "
                f"{GEOMETRY_CHANNELS} of geometry, got {pair.feat.shape[-1]} channels in all; "
                "use the encoder that it was trained with"
            )
        if not bool(torch.isfinite(pair.feat).all() & torch.isfinite(pair.position).all()):
            raise ValueError(
                "the tokens hold NaN or infinite values; look for damaged frames or a faulty encoder"
            )
        is_valid = pair.is_valid[:, None]
        is_occupied = (pair.state == OCCUPIED) & is_valid
        feat = (pair.feat.float() - self.feature_mean) / self.feature_std * is_occupied[..., None]
        geometry = feat[..., -GEOMETRY_CHANNELS:]
        return _Places(
            feat=feat,
            is_occupied=is_occupied,
            position=pair.position.float(),
            is_seen=(pair.state != UNKNOWN).all(1) & pair.is_valid,
            is_context=is_occupied[:, 0],
            change_size=(geometry[:, 1] - geometry[:, 0]).square().mean(-1),
        )

    def _latent(self, places: _Places) -> Tensor:
        return self.latent_norm(self.inverse_dynamics(places).float())

    def _task(self, places: _Places, *, is_random: bool, generator: torch.Generator | None = None) -> _Task:
        """What the predictor reads and is asked; the context is chosen without a look at the future."""
        if is_random:
            order = torch.rand(places.is_seen.shape, generator=generator, device=places.is_seen.device)
        else:
            order = place_order(places.position)
        num_changed = round(CHANGED_QUERY_SHARE * self.config.num_query_tokens)
        changed, is_changed = take_largest(places.change_size, places.is_seen, num_changed)
        is_rest = places.is_seen.scatter(1, changed, False)
        rest, is_drawn = take_largest(order, is_rest, self.config.num_query_tokens - num_changed)
        return _Task(
            context=take_largest(order, places.is_context, self.config.num_context_tokens),
            query_index=torch.cat([changed, rest], dim=1),
            is_query=torch.cat([is_changed, is_drawn], dim=1),
        )

    def _prediction_error(self, places: _Places, task: _Task, vectors: Tensor) -> Float[Tensor, " pairs"]:
        change = self.forward_dynamics(places, vectors, context=task.context, query_index=task.query_index)
        return self._error(places, task, change.float())

    def _copy_error(self, places: _Places, task: _Task) -> Float[Tensor, " pairs"]:
        return self._error(places, task, torch.zeros((), device=places.feat.device))

    def _error(self, places: _Places, task: _Task, change: Tensor) -> Float[Tensor, " pairs"]:
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
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(tensors, save_directory / WEIGHTS_FILE, metadata={"format": "pt"})
        text = json.dumps(dataclasses.asdict(self.config), indent=2, sort_keys=True)
        (save_directory / CONFIG_FILE).write_text(text + "\n")

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
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = _download(
                str(pretrained_model_name_or_path),
                force_download=force_download,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                revision=revision,
            )
        model = cls(_read_config(folder / CONFIG_FILE))
        if not (folder / WEIGHTS_FILE).is_file():
            raise WeightsError(
                f"{folder} has no {WEIGHTS_FILE}; give a folder that save_pretrained or a training run made"
            )
        load_strict(model, read_weights(folder / WEIGHTS_FILE).tensors, source=f"weights in {folder}")
        return model.eval()


def feature_statistics(
    batches: Iterable[PairTokens],
) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Mean and standard deviation of each channel over all occupied places of both frames.

    A channel that does not vary gets 1 for its deviation. Occupancy gets mean 0 and deviation 1: it is 1 at
    every occupied place, and it must still differ from that of a free one.

    Raises:
        ValueError: no occupied place in any batch, or features that are not finite.
    """
    count = 0
    total = squares = torch.zeros((), dtype=torch.float64)
    for batch in batches:
        _check_finite(batch)
        is_counted = (batch.state == OCCUPIED) & batch.is_valid[:, None]
        rows = batch.feat[is_counted].double()
        count += len(rows)
        total, squares = total.to(rows.device) + rows.sum(0), squares.to(rows.device) + rows.square().sum(0)
    if count == 0:
        raise ValueError("no place is occupied in any of these pairs; feature statistics need at least one")
    mean = total / count
    if not bool(torch.isfinite(squares).all()):
        raise ValueError(
            "the tokens hold NaN or infinite values; look for damaged frames or a faulty encoder"
        )
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    # Rounding in float16 stores makes constants vary by about a thousandth.
    is_constant = std <= 1e-3 * mean.abs() + 1e-6
    std = torch.where(is_constant, torch.ones_like(std), std)
    mean[-GEOMETRY_CHANNELS], std[-GEOMETRY_CHANNELS] = 0.0, 1.0
    return mean.float(), std.float()


def take_largest(
    key: Float[Tensor, "pairs tokens"], is_candidate: Bool[Tensor, "pairs tokens"], count: int
) -> tuple[Int[Tensor, "pairs taken"], Bool[Tensor, "pairs taken"]]:
    """The (at most) ``count`` candidates of largest key in each pair, largest first; of equals, the first.

    Where candidates run out, rows are filled with others, marked False.
    """
    ranked = key.masked_fill(~is_candidate, -torch.inf).argsort(dim=1, descending=True, stable=True)
    index = ranked[:, :count]
    return index, is_candidate.gather(1, index)


def gather_places(
    value: Float[Tensor, "pairs tokens channels"], index: Int[Tensor, "pairs taken"]
) -> Float[Tensor, "pairs taken channels"]:
    """Rows of ``value``, for each pair its own."""
    return value.gather(1, index[..., None].expand(-1, -1, value.shape[-1]))


def place_order(position: Float[Tensor, "pairs tokens 3"]) -> Float[Tensor, "pairs tokens"]:
    """A number in [0, 1) for each place that depends on the place alone: an even draw without randomness.

    Neither the order of the tokens nor what happens there has a say (the tokens may come sorted by change).
    """
    cell = (position.double() * 4096).round().long()
    mixed = cell[..., 0] * 73_856_093 ^ cell[..., 1] * 19_349_663 ^ cell[..., 2] * 83_492_791
    for _ in range(
        2
    ):  # spreads neighbouring cells over the whole range (Steele et al. 2014's mixer, 31 bits)
        mixed = ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & 0x7FFFFFFF
    return mixed.double().div(2**31).to(position.dtype)


def _check_finite(pair: PairTokens) -> None:
    if not bool(torch.isfinite(pair.feat).all() & torch.isfinite(pair.position).all()):
        raise ValueError(
            "the tokens hold NaN or infinite values; look for damaged frames or a faulty encoder"
        )


def _mean_over(error: Float[Tensor, " pairs"], is_counted: Bool[Tensor, " pairs"]) -> Float[Tensor, ""]:
    return (error * is_counted).sum() / is_counted.sum().clamp(min=1)


def _read_config(file: Path) -> ConcertoLAQConfig:
    if not file.is_file():
        raise RunError(
            f"{file.parent} has no {file.name}; give a folder that save_pretrained or a training run made"
        )
    try:
        values = json.loads(file.read_text())
        known = {part.name for part in dataclasses.fields(ConcertoLAQConfig)}
        unknown, absent = sorted(set(values) - known), sorted(known - set(values))
    except (ValueError, TypeError) as error:
        raise RunError(f"{file} is damaged ({error})") from error
    if unknown or absent:
        raise RunError(
            f"{file} is of another version or another model: "
            f"unknown settings {unknown}, missing settings {absent}"
        )
    return ConcertoLAQConfig(**values)


def _download(name: str, **options: Any) -> Path:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise RunError(f"no folder {name}; give a run folder, or the id of a model on the Hub (owner/name)")
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE], **options))
    except Exception as error:  # huggingface_hub, requests and httpx each raise their own kinds
        raise RunError(
            f"no folder {name}, and no model of that name can be had from the Hub "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'})"
        ) from error
