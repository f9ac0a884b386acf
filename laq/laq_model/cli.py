"""The command line: flags to one configuration, one call, one line for a user's mistake.

Exit status: 0 done; 1 a refusal with its reason on one line; 2 flags that cannot be read; 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from .errors import LAQError
from .presets import PRESETS, with_preset

Config = TypeVar("Config")

# Command (one word or two) → room of the job, its configuration, its function, and what it does.
COMMANDS = {
    "train": ("training.loop", "TrainConfig", "train", "train the latent action model on a folder of videos"),
    "visualize": (
        "visualize",
        "VisualizeConfig",
        "visualize",
        "one or two frames of a video as clouds and pictures",
    ),
    "precompute": (
        "precompute",
        "PrecomputeConfig",
        "precompute",
        "encode every pair once, into a feature store",
    ),
    "store verify": (
        "feature_store.verify",
        "VerifyConfig",
        "verify",
        "look for damaged, missing or foreign shards",
    ),
    "label": ("labelling.label", "LabelConfig", "label", "write the action tokens of every pair to Parquet"),
    "evaluate": (
        "evaluation.evaluate",
        "EvaluateConfig",
        "evaluate",
        "measure a trained run on held-out videos",
    ),
    "benchmark make": (
        "simulation.episodes",
        "EpisodesConfig",
        "make_episodes",
        "film simulated episodes with known actions (extra [sim])",
    ),
    "demo": ("demo", "DemoConfig", "demo", "the whole pipeline on the embedded clips and networks"),
}


def parse(config_type: type[Config], argv: Sequence[str] | None = None, *, prog: str | None = None) -> Config:
    """Flags (``--frame_size 112``; dashes work too) to a configuration, on top of ``--preset``'s defaults."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    default = with_preset(config_type(), _preset_in(arguments))
    return tyro.cli(
        config_type,
        prog=prog,
        args=arguments,
        default=default,
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes,),
    )


def run_door(job: Callable[[], Any]) -> None:
    """Run a job; a refusal becomes one line on stderr and exit status 1."""
    try:
        job()
    except LAQError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def main(argv: Sequence[str] | None = None) -> None:
    """``concerto-laq COMMAND [flags]``; the scripts in ``laq/`` call this with their command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: concerto-laq COMMAND [flags]    (COMMAND --help lists its flags)\n")
        for name, (*_, summary) in COMMANDS.items():
            print(f"  {name:16s}{summary}")
        sys.exit(0 if arguments else 2)
    command, flags = _split_command(arguments)
    if command not in COMMANDS:
        print(f"error: no command {command!r}; choose from {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    module_name, config_name, function_name, _ = COMMANDS[command]
    # Imported late: each job brings torch and its own extras.
    module = importlib.import_module(f".{module_name}", __package__)
    run_door(
        lambda: getattr(module, function_name)(
            parse(getattr(module, config_name), flags, prog=f"concerto-laq {command}")
        )
    )


def _split_command(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """A command has one word or two (``benchmark make``); the rest are its flags."""
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    return " ".join(arguments[:words]), list(arguments[words:])


def _preset_in(arguments: Sequence[str]) -> str:
    """The value of ``--preset``, found before the real parsing: it sets the defaults of all other flags."""
    for position, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == "--preset":
            value = value or (arguments[position + 1] if position + 1 < len(arguments) else "")
            return value if value in PRESETS else "published"  # tyro will name the wrong value
    return "published"
