"""What each choice of the model brings: one change at a time, several seeds, held-out episodes.

    concerto-laq benchmark make --episodes_per_task 9 --seed 2 --depth_reduction 2 --output DIR
    python benchmarks/ablations.py --data_dir DIR --work_dir WORK
    python benchmarks/ablations.py --data_dir DIR --work_dir WORK --rows default codes_64 --seeds 0 1 2

Every row is `precompute` (recorded depth and cameras, the embedded point network), `train` and the figures of
`evaluate`, through the same functions, with the preset tiny and the changes that ``ROWS`` names. Stores and
runs stay in WORK, so an interrupted call goes on where it was. The budget is small on purpose: rows are
compared with one another, not with the best figures of docs/results.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import measuring
import torch

from laq_model.checkpoint import find_run
from laq_model.encoder_config import EncoderConfig
from laq_model.evaluation.coded_pairs import Coder, code_pairs
from laq_model.evaluation.probing import split_episodes
from laq_model.evaluation.study import MAIN_TARGET, TRAINED, Study
from laq_model.feature_store import FeatureStore
from laq_model.known_actions.actions import episode_and_view, true_actions
from laq_model.precompute import PrecomputeConfig, precompute
from laq_model.presets import with_preset
from laq_model.token_batches import stored_batches
from laq_model.trained_run import open_trained_run
from laq_model.training.config import TrainConfig
from laq_model.training.loop import train

HELD_OUT_FRACTION = 0.34
_PROBE = f"probe.linear.{MAIN_TARGET}.r2_mean"
# Heading of a column, and the figure below it.
COLUMNS = {
    "fixed": f"view.fixed.{_PROBE}",
    "moving": f"view.moving.{_PROBE}",
    "fixed → moving": f"transfer.fixed_to_moving.{_PROBE}",
    "before the quantizer": f"view.moving.probe.linear_continuous.{MAIN_TARGET}.r2_mean",
    "same token": "agreement.same_code_fraction",
    "copy ratio": "copy_ratio_hard",
    "of changed": "copy_ratio_hard.changed",
    "codes used": "codes.used_fraction",
    "perplexity": "codes.perplexity",
}


@dataclass(frozen=True)
class Row:
    """One change, as the flags of the commands name it."""

    title: str
    encoder: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    optimization: Mapping[str, Any] = field(default_factory=dict)
    held_out_fraction: float = HELD_OUT_FRACTION


ROWS = {
    "default": Row("the default"),
    "no_motion_target": Row("`--motion_weight 0`", model={"motion_weight": 0.0}),
    "no_geometry_target": Row("`--geometry_weight 0`", model={"geometry_weight": 0.0}),
    "one_unit": Row("`--target_unit overall`", optimization={"target_unit": "overall"}),
    "never_soft": Row("`--hard_codes_from 0`", optimization={"hard_codes_from": 0.0}),
    "late_hard": Row("`--hard_codes_from 1`", optimization={"hard_codes_from": 1.0}),
    "fsq": Row("`--quantizer fsq`", model={"quantizer": "fsq"}),
    "ema": Row("`--quantizer ema`", model={"quantizer": "ema"}),
    "tokens_1": Row("`--code_seq_len 1`", model={"code_seq_len": 1}),
    "tokens_8": Row("`--code_seq_len 8`", model={"code_seq_len": 8}),
    "codes_64": Row("`--codebook_size 64`", model={"codebook_size": 64}),
    "codes_1024": Row("`--codebook_size 1024`", model={"codebook_size": 1024}),
    "no_displacement": Row("`--max_shift_m 0`", encoder={"max_shift_m": 0.0}),
    "patch": Row("`--pooling patch`", encoder={"pooling": "patch"}),
    "global": Row("`--pooling global`", encoder={"pooling": "global"}),
    "frame": Row("`--geometry_context frame`", encoder={"geometry_context": "frame"}),
    "no_normals": Row("`--no_use_normals`", encoder={"use_normals": False}),
    "offset_2": Row("`--frame_offset 2`", data={"frame_offset": 2}),
    "offset_10": Row("`--frame_offset 10`", data={"frame_offset": 10}),
    "twice_the_places": Row(
        "`--num_changed_tokens 96 --num_context_tokens 96 --num_query_tokens 64`",
        model={"num_changed_tokens": 96, "num_context_tokens": 96, "num_query_tokens": 64},
    ),
    "half_the_places": Row(
        "`--num_changed_tokens 24 --num_context_tokens 24 --num_query_tokens 16`",
        model={"num_changed_tokens": 24, "num_context_tokens": 24, "num_query_tokens": 16},
    ),
    # Fewer episodes to learn from; the held-out ones are those of the default, and what training lost.
    "fewer": Row("`--held_out_fraction 0.6`", held_out_fraction=0.6),
    "few": Row("`--held_out_fraction 0.8`", held_out_fraction=0.8),
    "fewest": Row("`--held_out_fraction 0.9`", held_out_fraction=0.9),
}


def store_of(row: Row, options: argparse.Namespace) -> Path:
    """The row's feature store; rows that do not change tokens share one."""
    changes = {**row.encoder, **row.data}
    name = "-".join(f"{key}_{value}" for key, value in changes.items()) or "default"
    config = with_preset(PrecomputeConfig(), "tiny")
    config = replace(
        config,
        output_dir=options.work_dir / "stores" / name,
        every_n=options.every_n,
        shard_pairs=102,
        data=replace(config.data, data_dir=str(options.data_dir), **row.data),
        encoder=_encoder(config.encoder, row),
    )
    precompute(config)
    return config.output_dir


def run_of(name: str, row: Row, seed: int, store: Path, options: argparse.Namespace) -> Path:
    """The row's run with this seed, trained to its end."""
    config = with_preset(TrainConfig(), "tiny")
    folder = options.work_dir / "runs" / f"{name}-{seed}"
    config = replace(
        config,
        features=str(store),
        output_dir=folder,
        resume=find_run(folder) is not None,
        data=replace(config.data, held_out_fraction=row.held_out_fraction, **row.data),
        encoder=_encoder(config.encoder, row),
        model=replace(config.model, **row.model),
        optimization=replace(
            config.optimization,
            num_steps=options.num_steps,
            batch_size=options.batch_size,
            learning_rate=1e-3,
            seed=seed,
            **row.optimization,
        ),
        logging=replace(config.logging, eval_every=options.num_steps, save_every=100, log_every=50),
    )
    train(config, is_part=True)
    return folder


def figures_of(run_folder: Path, store: Path, options: argparse.Namespace) -> dict[str, float]:
    """What ``evaluate`` says of a run alone, with linear probes."""
    kept = run_folder / "figures.json"
    if kept.exists():
        return json.loads(kept.read_text())
    run = open_trained_run(run_folder, device=torch.device("cpu"))
    batches = stored_batches(
        FeatureStore(store),
        is_wanted=lambda video: True,
        every_n=options.every_n,
        max_videos=0,
        batch_size=16,
        task="evaluate",
    )
    names, coded = code_pairs(batches, {TRAINED: Coder(run.model)}, device=torch.device("cpu"))
    truth = true_actions(names, str(options.data_dir), frame="world")
    seen = frozenset(episode_and_view(video)[0] for video in find_run(run_folder).trained_videos)
    study = Study(
        model=run.model,
        names=names,
        coded=coded,
        truth=truth,
        seen=seen,
        splits=split_episodes(truth.episode, seen, seeds=1, seed=0),
        probe_kinds=("linear",),
    )
    figures = study.figures()
    figures["codes.perplexity"] = mean(
        figures[f"codes.perplexity.{place}"] for place in range(run.model.config.code_seq_len)
    )
    kept.write_text(json.dumps(figures))
    return figures


def table_line(title: str, seeds: list[dict[str, float]]) -> str:
    """Mean over seeds, and their deviation."""
    cells = []
    for heading, key in COLUMNS.items():
        values = [figures[key] for figures in seeds if key in figures]
        decimals = 0 if heading == "perplexity" else 2
        spread = f" ± {stdev(values):.{decimals}f}" if len(values) > 1 else ""
        cells.append(f"{mean(values):.{decimals}f}{spread}" if values else "")
    return f"| {title} | {' | '.join(cells)} |"


def _encoder(config: EncoderConfig, row: Row) -> EncoderConfig:
    return replace(config, geometry="sensor", **row.encoder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", type=Path, required=True, help="what `benchmark make` wrote")
    parser.add_argument("--work_dir", type=Path, required=True, help="stores and runs, kept")
    parser.add_argument("--rows", nargs="*", choices=tuple(ROWS), default=tuple(ROWS))
    parser.add_argument("--seeds", nargs="*", type=int, default=(0, 1, 2))
    parser.add_argument("--num_steps", type=int, default=300)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--every_n", type=int, default=6, help="frames between the starts of pairs")
    parser.add_argument("--save", action="store_true", help="keep what is printed in benchmarks/results")
    options = parser.parse_args()
    report = measuring.Report("ablations", "One change at a time")
    report.head(device=torch.device("cpu"))
    report.say(f"| change | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for name in options.rows:
        store = store_of(ROWS[name], options)
        runs = [run_of(name, ROWS[name], seed, store, options) for seed in options.seeds]
        report.say(table_line(ROWS[name].title, [figures_of(run, store, options) for run in runs]))
    if options.save:
        report.save()


if __name__ == "__main__":
    main()
