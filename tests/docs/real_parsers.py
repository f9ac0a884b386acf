"""Let the real parser of a command read its words, without doing the command's work."""

import argparse
import importlib
import re
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest
import tyro
from markdown_blocks import ROOT

from laq_model import cli

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOORS = {
    "laq/train_concerto_laq.py": "train",
    "laq/visualize_vggt_pointcloud.py": "visualize",
    "laq/precompute_features.py": "precompute",
    "laq/label_videos.py": "label",
    "laq/evaluate_concerto_laq.py": "evaluate",
}


class UntrueCommandError(AssertionError):
    """A command in the docs that its own parser refuses."""


def check_command(words: Sequence[str]) -> None:
    """Refuse a command of which any word is not understood.

    Raises:
        UntrueCommandError: unknown command, flag, target, extra or file; the message says which.
    """
    check = _CHECKS.get(words[0])
    if check is None:
        raise UntrueCommandError(f"{words[0]}: nobody says how to check this command")
    check(list(words[1:]))


def as_door(words: Sequence[str]) -> list[str] | None:
    """Arguments of ``concerto-laq`` that mean this command, if it is one of ours."""
    if words[0] == "concerto-laq":
        return list(words[1:])
    if words[0] == "python" and len(words) > 1 and words[1] in DOORS:
        return [DOORS[words[1]], *words[2:]]
    return None


def _check_door(arguments: list[str]) -> None:
    command = next(
        (name for name in cli.COMMANDS if arguments[: len(name.split())] == name.split()), arguments[0]
    )
    with pytest.MonkeyPatch.context() as patch:
        if command in cli.COMMANDS:
            module, _, function, _ = cli.COMMANDS[command]
            patch.setattr(importlib.import_module(f"laq_model.{module}"), function, lambda config: None)
        with _no_exit(f"concerto-laq {' '.join(arguments)}"):
            cli.main(arguments)


def _check_python(arguments: list[str]) -> None:
    script = arguments[0]
    if script in DOORS:
        _check_door([DOORS[script], *arguments[1:]])
    elif script == "-m" and arguments[1] == "venv":
        return
    elif script == "-m":
        _check_script(
            lambda: runpy.run_module(arguments[1], run_name="__main__", alter_sys=True), arguments[1:]
        )
    elif script.startswith("examples/") and (ROOT / script).is_file():
        return  # no flags; it is run with its page
    elif (ROOT / script).is_file():
        _check_script(lambda: runpy.run_path(str(ROOT / script), run_name="__main__"), arguments)
    else:
        raise UntrueCommandError(f"python {script}: there is no such script")


def _check_script(run: Callable[[], object], argv: list[str]) -> None:
    """Run a script up to where it has read its flags; one that has no flags runs to its end."""
    parse_args, tyro_cli = argparse.ArgumentParser.parse_args, tyro.cli

    def read_flags(parser: argparse.ArgumentParser, args: object = None, namespace: object = None) -> object:
        parse_args(parser, argv[1:])
        raise _FlagsReadError

    def read_configuration(*args: object, **options: object) -> object:
        tyro_cli(*args, **{**options, "args": argv[1:]})  # type: ignore[call-overload]
        raise _FlagsReadError

    with pytest.MonkeyPatch.context() as patch, _no_exit(f"python {' '.join(argv)}"):
        patch.setattr(argparse.ArgumentParser, "parse_args", read_flags)
        patch.setattr(tyro, "cli", read_configuration)
        patch.setattr(sys, "argv", argv)
        patch.setattr(sys, "path", [str((ROOT / argv[0]).parent), *sys.path])
        patch.delitem(sys.modules, "measuring", raising=False)  # it extends the path when it is imported
        with suppress(_FlagsReadError):
            run()


def _check_make(targets: list[str]) -> None:
    known = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in targets:
        if target not in known:
            raise UntrueCommandError(f"make {target}: the Makefile has {', '.join(known)}")


def _check_pip(arguments: list[str]) -> None:
    if arguments[0] != "install":
        raise UntrueCommandError(f"pip {arguments[0]}: only install is expected")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for wanted in re.findall(r"\[(.*?)\]", " ".join(arguments)):
        for extra in wanted.split(","):
            if extra not in extras:
                raise UntrueCommandError(f"pip install: there is no extra [{extra}]")


def _check_launcher(parser: argparse.ArgumentParser, program: str, arguments: list[str]) -> None:
    with _no_exit(f"{program} {' '.join(arguments)}"):
        options = parser.parse_args(arguments)
    module = ["-m"] if options.module else []
    _check_python([*module, options.training_script, *options.training_script_args])


def _check_accelerate(arguments: list[str]) -> None:
    from accelerate.commands.launch import launch_command_parser  # noqa: PLC0415  it brings much

    if arguments[0] != "launch":
        raise UntrueCommandError(f"accelerate {arguments[0]}: only launch is expected")
    _check_launcher(launch_command_parser(), "accelerate launch", arguments[1:])


def _check_torchrun(arguments: list[str]) -> None:
    from torch.distributed.run import get_args_parser  # noqa: PLC0415

    _check_launcher(get_args_parser(), "torchrun", arguments)


def _check_hf(arguments: list[str]) -> None:
    """``hf download NAME --local-dir DIR``: the only form that the docs use."""
    flags = {word for word in arguments if word.startswith("--")}
    if arguments[0] != "download" or not flags <= {"--repo-type", "--local-dir"}:
        raise UntrueCommandError(f"hf {' '.join(arguments)}: only downloads into a folder are expected")


class _FlagsReadError(BaseException):
    """Stops a script after its flags; no handler of errors catches it."""


@contextmanager
def _no_exit(command: str) -> Iterator[None]:
    try:
        yield
    except SystemExit as error:
        if error.code not in (0, None):
            raise UntrueCommandError(f"{command}: refused with status {error.code}") from error


def _trust(arguments: list[str]) -> None:
    """Commands of others, which are not installed where the tests run."""


_CHECKS: dict[str, Callable[[list[str]], None]] = {
    "concerto-laq": _check_door,
    "python": _check_python,
    "python3": _check_python,
    "make": _check_make,
    "pip": _check_pip,
    "accelerate": _check_accelerate,
    "torchrun": _check_torchrun,
    "hf": _check_hf,
    **dict.fromkeys(("ray", "git", "cd", "."), _trust),
}
