"""The commands of a shell block, as lists of words, without running a shell."""

import re
import shlex
from collections.abc import Iterator

_ENDS = {";", "&&", "||", "|", "&"}
# What a variable of a cluster's script may stand for; any other stands for its own name.
VARIABLES = {
    "SLURM_ARRAY_TASK_ID": "1",
    "SLURM_NNODES": "4",
    "SLURM_NODEID": "0",
    "RESUME": "--resume",
}


def commands_of(text: str) -> Iterator[list[str]]:
    """Each command, with variables filled in; comments, redirections and ellipses are left away."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        yield from _commands_of_line(_filled(line))


def _commands_of_line(line: str) -> Iterator[list[str]]:
    words: list[str] = []
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|><")
    lexer.whitespace_split = True
    waits_for_file = False
    for word in [*lexer, ";"]:
        if word in _ENDS:
            if words:
                yield from _inner(words)
            words = []
        elif word in (">", ">>", "<"):
            waits_for_file = True
        elif waits_for_file:
            waits_for_file = False
        elif word not in ("...", "…"):
            words.append(word)


def _inner(words: list[str]) -> Iterator[list[str]]:
    """Look through what only starts other commands, and past assignments."""
    if words[0] == "export" or re.match(r"\w+=", words[0]):
        return
    if words[0] == "srun":
        yield from _inner(words[1:])
    elif words[:2] == ["bash", "-c"]:
        yield from commands_of(words[2])
    else:
        yield words


def _filled(line: str) -> str:
    line = re.sub(r"\$\(\(.*?\)\)", "8", line)
    line = re.sub(r"\$\([^)]*\)", "RESULT", line)
    return re.sub(r"\$(\w+)", lambda match: VARIABLES.get(match[1], match[1]), line)
