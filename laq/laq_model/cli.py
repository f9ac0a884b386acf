"""The command line: flags to one configuration, one call, one line for a user's mistake.

Exit status: 0 done; 1 a refusal with its reason on one line; 2 flags that cannot be read; 130 stopped by
Ctrl-C; 143 stopped by SIGTERM, as a cluster sends it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, make_dataclass
from typing import Any, TypeVar

import tyro

from .config_file import read_settings, with_settings
from .console import LogFormat, console
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
    "report": ("run_report.report", "RunReportConfig", "report", "a page about a run: what its codes mean"),
    "benchmark make": (
        "simulation.episodes",
        "EpisodesConfig",
        "make_episodes",
        "film simulated episodes with known actions (extra [sim])",
    ),
    "demo": ("demo", "DemoConfig", "demo", "the whole pipeline on the embedded clips and networks"),
    "doctor": ("doctor", "DoctorConfig", "doctor", "what is installed, which weights are here, what to do"),
}
STYLE: dict[str, Any] = {"use_underscores": True, "config": (tyro.conf.OmitArgPrefixes,)}
MANNERS = """\
Every command also takes:
  --config FILE        a YAML file of settings; flags beside it still win
  --quiet              only warnings and errors
  --log_format json    an object a line instead of text and progress bars"""
HELP_END = f"""
{MANNERS}

exit status: 0 done, 1 refused and why, 2 bad flags, 130 or 143 stopped
shell completion: concerto-laq --tyro-print-completion bash   (or zsh)"""


@dataclass(frozen=True)
class DoorFlags:
    """What every command takes beside its own flags."""

    config: str = ""
    """A YAML file of settings; flags beside it still win."""
    quiet: bool = False
    """Only warnings and errors."""
    log_format: LogFormat = "text"
    """json: an object a line instead of text and progress bars."""


def parse(
    config_type: type[Config],
    argv: Sequence[str] | None = None,
    *,
    prog: str | None = None,
    config_file: str = "",
) -> Config:
    """Flags (``--frame_size 112``; dashes work too) to a configuration.

    Below them count, in this order, the file's settings and the defaults of the preset that either names.

    Raises:
        ConfigError: settings of the file that are unknown, or that cannot work.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    default = config_type()
    settings = read_settings(config_file, default) if config_file else {}
    preset = _preset_in(arguments) or settings.get(("preset",), "published")
    return tyro.cli(
        config_type,
        prog=prog,
        args=arguments,
        description=f"{config_type.__doc__}\n\n{MANNERS}",
        default=with_settings(with_preset(default, preset), settings),
        **STYLE,
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
    if any(argument.startswith("--tyro-") for argument in arguments):
        _print_completion(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: concerto-laq COMMAND [flags]    (COMMAND --help lists its flags)\n")
        for name, (*_, summary) in COMMANDS.items():
            print(f"  {name:16s}{summary}")
        print(HELP_END)
        sys.exit(0 if arguments else 2)
    door, arguments = tyro.cli(
        DoorFlags, args=arguments, return_unknown_args=True, add_help=False, use_underscores=True
    )
    command, flags = _split_command(arguments)
    if command not in COMMANDS:
        print(f"error: no command {command!r}; choose from {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    module_name, config_name, function_name, _ = COMMANDS[command]

    def job() -> None:
        # Imported late: each job brings torch and its own extras.
        module = importlib.import_module(f".{module_name}", __package__)
        config_type = getattr(module, config_name)
        config = parse(config_type, flags, prog=f"concerto-laq {command}", config_file=door.config)
        getattr(module, function_name)(config)

    is_asking = "-h" in flags or "--help" in flags
    with console(is_quiet=door.quiet and not is_asking, log_format=door.log_format):
        run_door(job)


def _print_completion(arguments: Sequence[str]) -> None:
    """Let tyro write the completion of all commands (``--tyro-print-completion bash``), and exit."""
    commands: dict[str, Any] = {}
    for command, (module_name, config_name, *_) in COMMANDS.items():
        config_type = getattr(importlib.import_module(f".{module_name}", __package__), config_name)
        parts = [
            ("door", DoorFlags, field(default=DoorFlags())),
            ("own", config_type, field(default=config_type())),
        ]
        commands[command] = make_dataclass(config_name, parts, frozen=True)
    tyro.extras.subcommand_cli_from_dict(commands, prog="concerto-laq", args=list(arguments), **STYLE)


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
            return value if value in PRESETS else ""  # tyro will name the wrong value
    return ""
