"""For each page: what lies in the folder, what is made smaller, what is not run, and why."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from small_demo import FRAME_SIZE, write_short_clip

from laq_model.concerto_laq import ConcertoLAQ
from laq_model.published_weights import embedded_file
from written_lerobot import write_lerobot

_SMALL_FRAMES = ("--frame_size", str(FRAME_SIZE))
_TWO_STEPS = (
    *("--num_steps", "2", "--batch_size", "2", "--statistics_pairs", "2", "--eval_pairs", "2"),
    *("--dim", "32", "--num_heads", "2", *_SMALL_FRAMES),
)
_SETUP = "sets up an environment; its target is looked up"
_PUBLISHED = "needs the published weights, which the tests do not fetch"
_CLUSTER = "needs a cluster or GPUs"


@dataclass(frozen=True)
class Page:
    """One page's run.

    Attributes:
        inputs: puts into an empty folder what the page's blocks read; given the small demo's folder.
        smaller: beginning of a command → words that are added to it, so that it takes seconds.
        not_run: beginning of a command, or of a block of Python → why it is only parsed.
        shows_output: whether each block of text says what the Python before it prints, numbers aside.
    """

    inputs: Callable[[Path, Path], None] = lambda folder, demo: None
    smaller: Mapping[str, Sequence[str]] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)
    shows_output: bool = False


def _readme(folder: Path, demo: Path) -> None:
    for name in ("reach-000", "drawer-close-000"):
        write_short_clip(folder / "DIR" / f"{name}.webm", of=name)
    shutil.copy(embedded_file("demo_pack") / "videos" / "moving" / "reach-000.webm", folder / "FILE")
    write_short_clip(folder / "clip.webm")


def _runs(folder: Path, demo: Path) -> None:
    shutil.copytree(demo / "run", folder / "runs" / "concerto_laq")


def _evaluation(folder: Path, demo: Path) -> None:
    shutil.copytree(demo / "run", folder / "RUN")
    (folder / "DIR").symlink_to(demo / "clips")
    (folder / "features").symlink_to(demo / "features")


def _hub(folder: Path, demo: Path) -> None:
    _runs(folder, demo)
    ConcertoLAQ.from_pretrained(demo / "run").save_pretrained(folder / "model")  # as it lies on the Hub
    write_short_clip(folder / "VIDEOS" / "clip.webm")


def _scale(folder: Path, demo: Path) -> None:
    for name in ("reach-000", "drawer-close-000"):
        write_short_clip(folder / "VIDEOS" / f"{name}.webm", of=name)


PAGES_RUN = {
    "README.md": Page(
        inputs=_readme,
        smaller={
            "python laq/train_concerto_laq.py": _TWO_STEPS,
            "python laq/visualize_vggt_pointcloud.py": _SMALL_FRAMES,
        },
        not_run={
            "make": _SETUP,
            "pip install": _SETUP,
            "python laq/precompute_features.py": _PUBLISHED,
            "python laq/train_concerto_laq.py --data_dir DIR --features": _PUBLISHED,
        },
    ),
    "docs/command-line.md": Page(
        inputs=_runs,
        smaller={
            "concerto-laq doctor": ("--no_trial",),
            "concerto-laq report": ("--num_codes", "1", "--clips_per_code", "2"),
        },
        not_run={
            "concerto-laq train --config run.yaml": "the README's training is run; the file is read",
            "concerto-laq --tyro-print-completion": "written and tried in test_cli.py",
        },
    ),
    "docs/data-formats.md": Page(
        inputs=lambda folder, demo: write_lerobot(folder / "DIR"),
        smaller={
            "concerto-laq train": ("--preset", "tiny", "--frame_offset", "3", *_TWO_STEPS),
            "concerto-laq evaluate": ("--every_n", "4", "--probe_kinds", "linear", "--probe_seeds", "1"),
            "concerto-laq label": ("--every_n", "4"),
        },
    ),
    "docs/embedded-networks.md": Page(
        not_run=dict.fromkeys(
            ("python -m laq_model", "torchrun"), "renders scenes or trains networks for hours"
        )
    ),
    "docs/evaluation.md": Page(
        inputs=_evaluation,
        smaller={
            "concerto-laq evaluate": ("--features", "features", "--every_n", "24", "--probe_kinds", "linear")
        },
    ),
    "docs/geometry-sources.md": Page(),
    "docs/hub.md": Page(
        inputs=_hub,
        not_run={
            "hf download": "needs the Hub",
            "model.push_to_hub": "needs the Hub and an account there",
        },
    ),
    "docs/index.md": Page(
        inputs=lambda folder, demo: (folder / "demo_output").symlink_to(demo),
        not_run={"make": _SETUP},
    ),
    "docs/results.md": Page(
        not_run={
            **dict.fromkeys(("concerto-laq", "python benchmarks"), "measurements of minutes to hours"),
        }
    ),
    "docs/use-the-labels.md": Page(
        inputs=lambda folder, demo: (folder / "demo_output").symlink_to(demo),
        smaller={"python examples/demo_as_lerobot.py": ("4",), "concerto-laq label": ("--every_n", "24")},
        shows_output=True,
    ),
    "docs/lab-notebook.md": Page(
        not_run={
            **dict.fromkeys(
                ("python benchmarks", "python -m laq_model", "make demo"),
                "measurements of their day, minutes to hours",
            ),
            "python tests/written_lerobot.py": "run where its command is checked",
            "concerto-laq": "what was tried with another package; data-formats.md runs the same",
        }
    ),
    "docs/scale.md": Page(
        inputs=_scale,
        smaller={
            "concerto-laq precompute --data_dir VIDEOS": ("--preset", "tiny", *_SMALL_FRAMES),
            "concerto-laq train --features features": ("--preset", "tiny", *_TWO_STEPS),
        },
        not_run={
            **dict.fromkeys(("accelerate launch", "ray start"), _CLUSTER),
            "concerto-laq precompute --data_dir VIDEOS --output_dir STORE --part": _CLUSTER,
            "concerto-laq precompute --engine ray": _CLUSTER,
        },
    ),
}
