"""Where the encoder's hot path makes the host wait for the device: stage, place in the code, operator, times.

    python benchmarks/host_round_trips.py                     # embedded networks, one group of scenes
    python benchmarks/host_round_trips.py --preset published  # published sizes, random weights

No GPU is needed. What makes a host wait follows from the operators alone: those whose answer is a number for
Python, and those whose result has a size that only the data know. Each is seen as it is called and put down
to the line of ours that asked. A tensor counts as the device's if it is a frame, a weight, made with
``device=``, or computed from such; what is made without stays with the host and may be asked. Small uploads
are not counted: the host does not wait for them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from encoder import moving_frames, random_encoder
from measuring import ROOT, Report
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from laq_model.concerto_wrapper import build_encoder
from laq_model.encoder_config import EncoderConfig
from laq_model.presets import with_preset

PACKAGE = ROOT / "laq" / "laq_model"
ASK_FOR_A_NUMBER = {"_local_scalar_dense", "is_nonzero", "equal", "_linalg_check_errors"}
ASK_FOR_A_SIZE = {"nonzero", "argwhere", "masked_select", "bincount", "repeat_interleave"}
ASK_FOR_A_SIZE |= {"_unique", "_unique2", "unique_dim", "unique_consecutive"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
TO_PYTHON = {Tensor.tolist: "tolist", Tensor.cpu: "cpu", Tensor.numpy: "numpy"}


class Questions:
    """What was asked of the device's tensors, by line and operator.

    Args:
        given: tensors that the device has from the start.
    """

    def __init__(self, given: Iterable[Tensor]):
        self.asked: Counter[tuple[str, str]] = Counter()
        self._of_device: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.add(list(given))

    def add(self, tensors: Any) -> None:
        """From now on they are the device's."""
        self._of_device.update(dict.fromkeys(tensors_in(tensors), True))

    def concern(self, arguments: Any) -> bool:
        """Whether any of these is the device's."""
        return any(tensor in self._of_device for tensor in tensors_in(arguments))

    def note(self, operator: str) -> None:
        """Put it down to the line that asked."""
        self.asked[asking_line(), operator] += 1


class Operators(TorchDispatchMode):
    """Sees the operators that a GPU would be given."""

    def __init__(self, questions: Questions):
        super().__init__()
        self.questions = questions

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self.questions.concern((args, kwargs)):
            self.questions.add(result)
            if makes_the_host_wait(func.overloadpacket.__name__, args, kwargs):
                self.questions.note(func.overloadpacket.__name__)
        return result


class Calls(TorchFunctionMode):
    """Sees where tensors are made, and what Python reads without an operator while all is on the CPU."""

    def __init__(self, questions: Questions):
        super().__init__()
        self.questions = questions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in TO_PYTHON and self.questions.concern(args):
            self.questions.note(TO_PYTHON[func])
        result = func(*args, **kwargs)
        if any(isinstance(value, torch.device) for value in (*args, *kwargs.values())):
            self.questions.add(result)
        return result


def tensors_in(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def makes_the_host_wait(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name in INDEXING:  # a mask is turned into row numbers, and how many there are is a size
        return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1])
    return name in ASK_FOR_A_NUMBER | ASK_FOR_A_SIZE


def asking_line() -> str:
    """File and line of the innermost function of the package."""
    frame = sys._getframe()
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(PACKAGE):
            return f"{file.relative_to(PACKAGE)}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="tiny", choices=["published", "tiny"])
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument(
        "--save", action="store_true", help="write benchmarks/results/DATE-host_round_trips.md"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cpu")
    config = with_preset(EncoderConfig(), options.preset)
    encoder = build_encoder(config) if options.preset == "tiny" else random_encoder(config, device)
    frames = moving_frames(options.pairs, 112 if options.preset == "tiny" else 224, device)
    encoder(frames)  # tables that are built once
    questions = Questions([frames, *encoder.parameters(), *encoder.buffers()])
    with Calls(questions), Operators(questions):
        encoder(frames)
    asked = questions.asked
    report = Report(
        "host_round_trips", f"Questions to the device, {options.preset} sizes, {options.pairs} pair(s)"
    )
    report.head(device=device)
    report.say("| stage | line | operator | times |")
    report.say("|---|---|---|---|")
    for (line, name), times in sorted(asked.items()):
        report.say(f"| {line.partition('/')[0] if '/' in line else 'wiring'} | {line} | {name} | {times} |")
    report.say(f"| all | {len({line for line, _ in asked})} lines | | {asked.total()} |")
    if options.save:
        report.save()


if __name__ == "__main__":
    main()
