"""A training step of the latent action model on tokens that are in memory: pairs a second, memory.

python benchmarks/laq_step.py                                # the default sizes, batches of 8 and 64
python benchmarks/laq_step.py --preset tiny --batch 32
python benchmarks/laq_step.py --device cuda --batch 256 --dtype bfloat16 --save
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from measuring import Report, count_work, matmul_rate, peak_memory_gb, time_in_turn

from laq_model.concerto_laq import ConcertoLAQ, ConcertoLAQConfig
from laq_model.presets import with_preset
from laq_model.structures import OCCUPIED, PairTokens

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def random_tokens(pairs: int, config: ConcertoLAQConfig, *, tokens: int, device: torch.device) -> PairTokens:
    """Places that are all seen twice, the most work there can be."""
    generator = torch.Generator().manual_seed(0)
    return PairTokens(
        feat=torch.randn(pairs, 2, tokens, config.channels, generator=generator).to(device),
        state=torch.full((pairs, 2, tokens), OCCUPIED, device=device),
        position=(torch.rand(pairs, tokens, 3, generator=generator) * 2 - 1).to(device),
        is_valid=torch.ones(pairs, tokens, dtype=torch.bool, device=device),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="published", choices=["published", "tiny", "lapa"])
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--tokens", type=int, default=256, help="places of a pair")
    parser.add_argument("--feature_channels", type=int, default=1088, help="concerto_base, two finer levels")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/DATE-laq_step.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    config = replace(
        with_preset(ConcertoLAQConfig(), options.preset), feature_channels=options.feature_channels
    )
    model = ConcertoLAQ(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    generator = torch.Generator(device=device).manual_seed(0)
    report = Report("laq_step", f"LAQ training step, {options.preset} sizes, {options.dtype}, {device.type}")
    report.head(device=device)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    report.say(f"{num_parameters / 1e6:.1f} M parameters, {options.tokens} places a pair.")
    report.say()
    report.say(
        "| batch | work, GFLOP | time of a step | pairs a second | of the product rate | peak memory, GB |"
    )
    report.say("|---|---|---|---|---|---|")
    best = matmul_rate(
        [(4096, config.dim, config.mlp_ratio * config.dim)], dtype=DTYPES[options.dtype], device=device
    )
    for batch in options.batch:
        pairs = random_tokens(batch, config, tokens=options.tokens, device=device)

        def step(pairs: PairTokens = pairs) -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, dtype=DTYPES[options.dtype], enabled=options.dtype != "float32"):
                loss = model(pairs, generator=generator, progress=0.5).loss
            loss.backward()
            optimizer.step()

        work = count_work(step)
        timing = time_in_turn({"step": step}, rounds=options.rounds, device=device)["step"]
        report.say(
            f"| {batch} | {work / 1e9:.0f} | {timing.text()} | {batch / timing.seconds:.1f} | "
            f"{work / timing.seconds / best:.0%} of {best / 1e9:.0f} GFLOP/s | {peak_memory_gb(device):.2f} |"
        )
    if options.save:
        report.save()


if __name__ == "__main__":
    main()
