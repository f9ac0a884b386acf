"""Does an action survive the bottleneck? One quantizer, pairs with a known action, two minutes on one core.

    python benchmarks/quantizer_synthetic.py                     # NSVQ as the model uses it
    python benchmarks/quantizer_synthetic.py --scheme ema        # EMA-VQ, the scheme to compare with
    python benchmarks/quantizer_synthetic.py --scheme none       # no bottleneck: the bound

Data: f0 is a rank-64 Gaussian in R^512; f1 = f0 + W(a) + noise, a uniform in [-1, 1]^4, W a fixed random
two-layer tanh network with 10 % of f0's variance, the noise 1 %. The inverse dynamics model reads (f0, f1),
the forward model predicts the standardised f1 − f0 from f0 and 4 tokens. All figures are of held-out pairs,
errors with hard codes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "laq"))
from laq_model.metrics.codebook import code_usage
from laq_model.metrics.probes import ridge_probe
from laq_model.quantizers.codebook import nearest_code
from laq_model.quantizers.nsvq import NSVQ, hard_share_at, substitute_noise
from laq_model.quantizers.protocol import Quantized

FEATURE_DIM, RANK, ACTION_DIM = 512, 64, 4
NUM_TRAIN, NUM_TEST = 16_000, 4_000
TOKENS, CODES, DIM = 4, 256, 32


def make_data(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """f0, f1 (both divided by f0's standard deviation) and the action."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    count = NUM_TRAIN + NUM_TEST
    f0 = normal(count, RANK) @ normal(RANK, FEATURE_DIM) / math.sqrt(RANK)
    action = torch.rand(count, ACTION_DIM, generator=generator) * 2 - 1
    change = torch.tanh(action @ normal(ACTION_DIM, 64)) @ normal(64, FEATURE_DIM)
    change = (change - change.mean(0)) * (0.1 * f0.var() / change.var()).sqrt()
    f1 = f0 + change + normal(count, FEATURE_DIM) * (0.01 * f0.var()).sqrt()
    std = f0[:NUM_TRAIN].std(0)
    return f0 / std, f1 / std, action


class EMAQuantizer(nn.Module):
    """The yardstick: codes are moving averages of the vectors that chose them; unused ones are restarted."""

    def __init__(self, *, rotation: bool = True):
        super().__init__()
        self.rotation = rotation
        self.register_buffer("codes", torch.zeros(CODES, DIM))
        self.register_buffer("size", torch.ones(CODES))
        self.is_started = False

    def forward(self, x: Tensor, *, generator: torch.Generator, **_: float) -> Quantized:
        rows = x.detach().flatten(0, 1)
        if self.training and not self.is_started:
            self.codes.copy_(k_means(rows, CODES, generator))
            self.is_started = True
        index = nearest_code(x.detach(), self.codes)
        chosen = self.codes[index]
        loss = {}
        if self.training:
            loss = {"commitment": 1.0 * (x - chosen).square().mean()}
            one_hot = torch.nn.functional.one_hot(index.flatten(), CODES).float()
            self.size.mul_(0.9).add_(one_hot.sum(0), alpha=0.1)
            mean = one_hot.T @ rows / one_hot.sum(0).clamp(min=1)[:, None]
            share = (0.1 * one_hot.sum(0) / self.size.clamp(min=1e-5)).clamp(max=1)[:, None]
            self.codes.lerp_(mean, share)
            dead = self.size < 0.5
            picks = torch.randint(len(rows), (CODES,), generator=generator)
            self.codes.copy_(torch.where(dead[:, None], rows[picks], self.codes))
            self.size.copy_(torch.where(dead, torch.ones_like(self.size), self.size))
        out = rotate(x, chosen) if self.training and self.rotation else x + (chosen - x).detach()
        hard = torch.ones(len(x), dtype=torch.bool)
        return Quantized(out, index, hard, loss, None)  # type: ignore[arg-type]

    def lookup(self, index: Tensor) -> Tensor:
        return self.codes[index]


def k_means(rows: Tensor, count: int, generator: torch.Generator, rounds: int = 10) -> Tensor:
    centres = rows[torch.randperm(len(rows), generator=generator)[:count]].clone()
    for _ in range(rounds):
        one_hot = torch.nn.functional.one_hot(nearest_code(rows, centres), count).float()
        mean = one_hot.T @ rows / one_hot.sum(0).clamp(min=1)[:, None]
        centres = torch.where(one_hot.sum(0)[:, None] > 0, mean, centres)
    return centres


def rotate(x: Tensor, code: Tensor) -> Tensor:
    """The rotation trick (Fifty et al., arXiv 2410.06424, §4): x is turned and scaled onto its code."""
    x_length, code_length = x.norm(dim=-1, keepdim=True), code.norm(dim=-1, keepdim=True)
    e, q = (x / x_length).detach(), code / code_length
    middle = torch.nn.functional.normalize(e + q, dim=-1).detach()
    turned = (
        x - 2 * (x * middle).sum(-1, keepdim=True) * middle + 2 * (x * e).sum(-1, keepdim=True) * q.detach()
    )
    return turned * (code_length / x_length).detach()


class NoQuantizer(nn.Module):
    def forward(self, x: Tensor, **_: object) -> Quantized:
        index = torch.zeros(x.shape[:2], dtype=torch.int64)
        return Quantized(x, index, torch.zeros(len(x), dtype=torch.bool), {}, None)  # type: ignore[arg-type]


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class Model(nn.Module):
    def __init__(self, quantizer: nn.Module, *, has_input_norm: bool, width: int = 256):
        super().__init__()
        self.inverse = mlp(2 * FEATURE_DIM, width, width, TOKENS * DIM)
        self.norm = nn.RMSNorm(DIM, elementwise_affine=False) if has_input_norm else nn.Identity()
        self.quantizer = quantizer
        self.forward_model = mlp(FEATURE_DIM + TOKENS * DIM, width, width, FEATURE_DIM)

    def latent(self, f0: Tensor, f1: Tensor) -> Tensor:
        x = self.inverse(torch.cat([f0, 3 * (f1 - f0)], -1)).unflatten(-1, (TOKENS, DIM))
        return self.norm(x)

    def predict(self, f0: Tensor, quantized: Tensor) -> Tensor:
        return self.forward_model(torch.cat([f0, quantized.flatten(1)], -1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scheme", choices=["nsvq", "ema", "none"], default="nsvq")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no_input_norm", action="store_true")
    parser.add_argument(
        "--hard_share", type=float, default=-1.0, help="constant; default: the model's schedule"
    )
    parser.add_argument("--nsvq", type=json.loads, default={}, help="JSON of NSVQ arguments")
    args = parser.parse_args()
    f0, f1, action = make_data(args.seed)
    torch.manual_seed(args.seed)
    if args.scheme == "nsvq":
        quantizer: nn.Module = NSVQ(codebook_size=CODES, dim=DIM, num_positions=TOKENS, **args.nsvq)
    else:
        quantizer = EMAQuantizer() if args.scheme == "ema" else NoQuantizer()
    model = Model(quantizer, has_input_norm=not args.no_input_norm)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.learning_rate, weight_decay=0.01, betas=(0.9, 0.95)
    )
    generator = torch.Generator().manual_seed(args.seed + 1)
    started = time.perf_counter()
    for step in range(args.steps):
        progress = step / args.steps
        rate = min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * rate
        pick = torch.randint(NUM_TRAIN, (args.batch_size,), generator=generator)
        x = model.latent(f0[pick], f1[pick])
        share = args.hard_share if args.hard_share >= 0 else hard_share_at(progress)
        out = model.quantizer(x, generator=generator, hard_share=share, progress=progress)
        loss = (model.predict(f0[pick], out.quantized) - (f1 - f0)[pick]).square().mean()
        optimizer.zero_grad()
        (loss + sum(out.loss_terms.values())).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    seconds = time.perf_counter() - started
    print(describe(args), figures(model, (f0, f1, action), generator), f"{seconds:.0f} s")


def describe(args: argparse.Namespace) -> str:
    share = "scheduled" if args.hard_share < 0 else f"{args.hard_share:g}"
    settings = f" {args.nsvq or ''} hard share {share}" if args.scheme == "nsvq" else ""
    return f"{args.scheme}{settings}, {args.steps} steps, seed {args.seed}:"


@torch.no_grad()
def figures(model: Model, data: tuple[Tensor, Tensor, Tensor], generator: torch.Generator) -> str:
    f0, f1, action = (rows[NUM_TRAIN:] for rows in data)

    def ratio(quantized: Tensor) -> float:
        error = (model.predict(f0, quantized) - (f1 - f0)).square().mean()
        return float(error / (f1 - f0).square().mean())

    x = model.latent(f0, f1)
    gap = ""
    if isinstance(model.quantizer, NSVQ):  # its training output, without touching the codebook
        code = model.quantizer.lookup(model.quantizer.nearest(x))
        gap = f" (NSVQ's training output {ratio(substitute_noise(x, code, generator=generator)):.4f})"
    model.eval()
    out = model.quantizer(x, generator=generator)
    usage = code_usage(out.code_index, codebook_size=CODES)
    tokens, half = out.quantized.flatten(1), NUM_TEST // 2
    probe = ridge_probe(tokens[:half], action[:half], tokens[half:], action[half:])
    return (
        f"error / copy error {ratio(out.quantized):.4f}{gap}, probe R² {probe.r2_mean:.3f}, "
        f"perplexity {usage.perplexity:.0f}, used {100 * usage.used_fraction:.0f} %,"
    )


if __name__ == "__main__":
    main()
