"""Every command in README and docs is read by its real parser; every flag named in a text exists."""

import dataclasses
import importlib
import re

import pytest
from markdown_blocks import PAGES, read_code
from real_parsers import UntrueCommandError, check_command
from shell_commands import commands_of

from laq_model.cli import COMMANDS, DoorFlags

LANGUAGES = {"bash", "console", "python", "yaml", "json", "text"}
# Flags of other programs that the texts name.
FOREIGN_FLAGS = {
    "--signal": "SLURM",
    "--logdir": "tensorboard",
    "--project": "trackio show",
    "--multi_gpu": "accelerate launch",
    "--num_processes": "accelerate launch",
    "--nproc_per_node": "torchrun",
    "--cpu": "accelerate launch",
    **dict.fromkeys(
        ("--follow_memory", "--steps", "--tokens", "--places", "--precision"),
        "benchmarks/training_from_store.py",
    ),
    "--help": "every command's own",
    "--tyro-print-completion": "tyro's, tried in test_cli.py",
}
# Named in a text as a program, without the flags that it needs.
MENTIONED = ("python -m laq_model.pretraining.tiny_vggt", "python -m laq_model.pretraining.tiny_concerto")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """Where a command may name a file of settings, and where nothing else is to be found."""
    monkeypatch.chdir(tmp_path)
    for page in PAGES:
        for block in read_code(page).blocks:
            if block.language == "yaml":
                (tmp_path / "run.yaml").write_text(block.text)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page):
    code = read_code(page)
    assert [block.place for block in code.blocks if block.language not in LANGUAGES] == []
    assert code.indented == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_understood(page):
    for block in read_code(page).blocks:
        if block.language in ("bash", "console"):
            for words in commands_of(block.commands):
                try:
                    check_command(words)
                except UntrueCommandError as error:
                    pytest.fail(f"{block.place}: {error}")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_a_text_is_understood(page):
    for line, code in read_code(page).inline:
        if re.match(r"(concerto-laq|python|make|pip install) \S", code):
            for words in commands_of(code):
                if words[1] != "COMMAND" and code not in MENTIONED:
                    check_inline(f"{page}:{line}", words)


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_in_a_text_exists(page):
    known = known_settings()
    unknown = [
        f"{page}:{line} {flag}"
        for line, code in read_code(page).inline
        for flag in re.findall(r"(?<!\S)--[\w-]+", code)
        if flag not in FOREIGN_FLAGS and flag[2:].replace("-", "_") not in known
    ]
    assert unknown == []


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("concerto-laq train --num_stepz 3", "refused with status 2"),
        ("concerto-laq trian", "refused with status 2"),
        ("python laq/label_videos.py --format csv", "refused with status 2"),
        ("python laq/no_such_door.py", "no such script"),
        ("python benchmarks/vggt.py --sise 3", "refused with status 2"),
        ("python -m laq_model.pretraining.evaluate_vggt --scene S", "refused with status 2"),
        ("torchrun --nproc_per_node 2 laq/train_concerto_laq.py --stepz 1", "refused with status 2"),
        ("accelerate launch --num_procs 8 laq/train_concerto_laq.py", "refused with status 2"),
        ("make tests", "the Makefile has"),
        ("pip install 'concerto-laq[rays]'", r"no extra \[rays\]"),
        ("srun bash -c 'concerto-laq demo --n 3'", "refused with status 2"),
        ("curl https://example.org", "nobody says how to check"),
    ],
)
def test_an_untrue_command_is_found(command, reason):
    (words,) = commands_of(command)
    with pytest.raises(UntrueCommandError, match=reason):
        check_command(words)


def check_inline(place: str, words: list[str]) -> None:
    try:
        check_command(words)
    except UntrueCommandError as error:
        pytest.fail(f"{place}: {error}")


def known_settings() -> set[str]:
    """The fields of every command's configuration."""
    configurations = [DoorFlags()]
    for module, config, *_ in COMMANDS.values():
        configurations.append(getattr(importlib.import_module(f"laq_model.{module}"), config)())
    return {name for configuration in configurations for name in field_names(configuration)}


def field_names(configuration: object) -> set[str]:
    names = set()
    for field in dataclasses.fields(configuration):  # type: ignore[arg-type]
        value = getattr(configuration, field.name)
        names |= field_names(value) if dataclasses.is_dataclass(value) else {field.name, f"no_{field.name}"}
    return names
