"""Does an action survive the bottleneck? Pairs with a known action, two minutes a scheme on one core.

    python benchmarks/quantizer_synthetic.py                                   # the model's default
    python benchmarks/quantizer_synthetic.py --schemes nsvq fsq ema none --seeds 0 1 2

Data: f0 is a rank-64 Gaussian in R^512; f1 = f0 + W(a) + noise, a uniform in [-1, 1]^4, W a fixed random
two-layer tanh network with 10 % of f0's variance, the noise 1 %. The inverse dynamics model reads (f0, f1),
the forward model predicts the standardised f1 − f0 from f0 and 4 tokens. All figures are of held-out pairs,
errors with hard codes, as a share of the error of copying. ``none`` has no bottleneck: the bound.

The gap is what training sees beyond the hard codes: hard-code error − error with the training output of the
last step; for NSVQ also with its noise, which training no longer uses by then (``leak``).
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import platform
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "laq"))
from laq_model.metrics.codebook import code_usage
from laq_model.metrics.probes import ridge_probe
from laq_model.quantizers.build import build_quantizer
from laq_model.quantizers.nsvq import NSVQ, hard_share_at, substitute_noise

FEATURE_DIM, RANK, ACTION_DIM = 512, 64, 4
NUM_TRAIN, NUM_TEST = 16_000, 4_000
TOKENS, CODES, DIM = 4, 256, 32
FORMATS = {"probe R²": ".3f", "perplexity": ".0f", "used": ".0%", "core seconds": ".0f"}

Data = tuple[Tensor, Tensor, Tensor]


def make_data(seed: int) -> Data:
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


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class Model(nn.Module):
    """The smallest model around a bottleneck; vectors of one length, as in ConcertoLAQ."""

    def __init__(self, scheme: str, *, width: int = 256):
        super().__init__()
        self.inverse = mlp(2 * FEATURE_DIM, width, width, TOKENS * DIM)
        self.norm = nn.RMSNorm(DIM, elementwise_affine=False)
        self.quantizer = None
        if scheme != "none":
            self.quantizer = build_quantizer(scheme, codebook_size=CODES, dim=DIM, num_positions=TOKENS)
        self.forward_model = mlp(FEATURE_DIM + TOKENS * DIM, width, width, FEATURE_DIM)

    def latent(self, f0: Tensor, f1: Tensor) -> Tensor:
        x = self.inverse(torch.cat([f0, 3 * (f1 - f0)], -1)).unflatten(-1, (TOKENS, DIM))
        return self.norm(x)

    def predict(self, f0: Tensor, quantized: Tensor) -> Tensor:
        return self.forward_model(torch.cat([f0, quantized.flatten(1)], -1))


def train(model: Model, data: Data, *, steps: int, batch_size: int, rate: float, seed: int) -> None:
    f0, f1, _ = data
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.95))
    generator = torch.Generator().manual_seed(seed + 1)
    for step in range(steps):
        progress = step / steps
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * progress))
        pick = torch.randint(NUM_TRAIN, (batch_size,), generator=generator)
        vectors, terms = model.latent(f0[pick], f1[pick]), {}
        if model.quantizer is not None:
            share = hard_share_at(progress)
            out = model.quantizer(vectors, generator=generator, hard_share=share, progress=progress)
            vectors, terms = out.quantized, out.loss_terms
        loss = (model.predict(f0[pick], vectors) - (f1 - f0)[pick]).square().mean()
        optimizer.zero_grad()
        (loss + sum(terms.values())).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@torch.no_grad()
def measure(model: Model, data: Data, *, seed: int) -> dict[str, float]:
    """Figures of the held-out pairs; the probe learns on their first half and is judged on the second."""
    f0, f1, action = (rows[NUM_TRAIN:] for rows in data)

    def ratio(vectors: Tensor) -> float:
        return float((model.predict(f0, vectors) - (f1 - f0)).square().mean() / (f1 - f0).square().mean())

    x = model.latent(f0, f1)
    figures = {}
    if model.quantizer is not None:
        codes = model.quantizer.nearest(x)
        hard = model.quantizer.lookup(codes)
        usage = code_usage(codes, codebook_size=CODES)
        training = copy.deepcopy(model.quantizer).train()  # counting must not touch the model's own
        generator = torch.Generator().manual_seed(seed)
        seen = training(x, generator=generator, hard_share=hard_share_at(1.0), progress=1.0).quantized
        figures = {
            "gap": ratio(hard) - ratio(seen),
            "perplexity": usage.perplexity,
            "used": usage.used_fraction,
        }
        if isinstance(model.quantizer, NSVQ):
            figures["leak"] = ratio(hard) - ratio(substitute_noise(x, hard, generator=generator))
        x = hard
    tokens, half = x.flatten(1), NUM_TEST // 2
    probe = ridge_probe(tokens[:half], action[:half], tokens[half:], action[half:])
    return {"error / copy": ratio(x), "probe R²": probe.r2_mean, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--schemes", nargs="+", choices=["nsvq", "fsq", "ema", "none"], default=["nsvq"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{platform.machine()}, 1 thread, torch {torch.__version__}, {args.steps} steps of {args.batch_size}"
    )
    for scheme in args.schemes:
        runs = []
        for seed in args.seeds:
            data = make_data(seed)
            torch.manual_seed(seed)
            model = Model(scheme)
            started = time.process_time()
            train(
                model,
                data,
                steps=args.steps,
                batch_size=args.batch_size,
                rate=args.learning_rate,
                seed=seed,
            )
            figures = measure(model, data, seed=seed)
            runs.append({**figures, "core seconds": time.process_time() - started})
            print(f"  {scheme}, seed {seed}: {readable(runs[-1])}", flush=True)
        if len(runs) > 1:
            print(f"{scheme}, median of {len(runs)}: {readable(middle_of(runs))}")


def middle_of(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(run[name] for run in runs) for name in runs[0]}


def readable(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:{FORMATS.get(name, '.4f')}}" for name, value in figures.items())


if __name__ == "__main__":
    main()
