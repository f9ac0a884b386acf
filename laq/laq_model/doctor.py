"""What this installation has and lacks, and whether the embedded networks can run here.

Nothing heavy is imported at the top of this file: it must be able to say that something heavy is missing.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import platform
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import __version__
from .errors import LAQError, RunError
from .presets import with_preset

# Package on PyPI → its import name and the least version that works, as in pyproject.toml.
REQUIRED = {
    "torch": ("torch", "2.6"),
    "numpy": ("numpy", "1.26"),
    "accelerate": ("accelerate", "1.2"),
    "av": ("av", "14.1"),
    "einops": ("einops", "0.8"),
    "huggingface_hub": ("huggingface_hub", "0.27"),
    "jaxtyping": ("jaxtyping", "0.2.36"),
    "matplotlib": ("matplotlib", "3.9"),
    "pillow": ("PIL", "10"),
    "pyarrow": ("pyarrow", "16"),
    "pyyaml": ("yaml", "6"),
    "safetensors": ("safetensors", "0.5"),
    "tqdm": ("tqdm", "4.66"),
    "tyro": ("tyro", "1.0"),
}
# Extra → the packages that it brings, and what for.
EXTRAS = {
    "tensorboard": (("tensorboard",), "train --use_tensorboard"),
    "wandb": (("wandb",), "train --use_wandb"),
    "trackio": (("trackio",), "train --use_trackio"),
    "rerun": (("rerun-sdk",), "visualize --rerun"),
    "ray": (("ray",), "precompute and label with --engine ray"),
    "vq": (("vector-quantize-pytorch",), "train --quantizer fsq or ema"),
    "sim": (("metaworld", "mujoco", "packaging"), "benchmark make"),
}
DIGESTS = "SHA256SUMS"
TRIAL_CLIP = "demo_pack/videos/fixed"
GIB = 2**30


@dataclass(frozen=True)
class DoctorConfig:
    """Say what is installed, which devices and weights are here, and what to do; fail if tiny cannot run."""

    trial: bool = True
    """Encode one pair of an embedded clip with the tiny preset, too; it takes seconds."""


def doctor(config: DoctorConfig) -> None:
    """Print the findings; the last line says what to do next.

    Raises:
        RunError: the tiny preset cannot run here; the message says why.
    """
    print(
        f"concerto-laq {__version__}, Python {platform.python_version()} on {platform.platform(terse=True)}"
    )
    problems = _report_packages()
    _report_extras()
    if not problems:
        _report_devices()
        problems = _report_embedded()
        _report_published()
    if not problems and config.trial:
        problems = _report_trial()
    if problems:
        raise RunError(f"the tiny preset cannot run here: {'; '.join(problems)}")
    print("\nthe tiny preset can run here; next: concerto-laq demo, or any command with --preset tiny")


def broken_files(folder: Path) -> list[str]:
    """Embedded files that are missing or not those that were shipped, by the digests beside them."""
    broken = []
    for line in (folder / DIGESTS).read_text(encoding="utf-8").splitlines():
        digest, name = line.split("  ", 1)
        file = folder / name
        if not file.is_file():
            broken.append(f"{name} is missing")
        elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            broken.append(f"{name} is damaged")
    return broken


def _report_packages() -> list[str]:
    print("\npackages")
    problems = []
    for package, (module, least) in REQUIRED.items():
        trouble = _trouble(package, module, least)
        _row(package, trouble or _version(package))
        if trouble:
            problems.append(f"{package}: {trouble}")
    return problems


def _trouble(package: str, module: str, least: str) -> str:
    version = _version(package)
    if not version:
        return f"missing; pip install '{package}>={least}'"
    if _numbers(version) < _numbers(least):
        return f"{version} is too old; pip install '{package}>={least}'"
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken build may raise anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        return f"{version} cannot be imported ({reason}); pip install --force-reinstall '{package}>={least}'"
    return ""


def _report_extras() -> None:
    print("\nextras")
    for extra, (packages, purpose) in EXTRAS.items():
        if all(_version(package) for package in packages):
            found = ", ".join(f"{package} {_version(package)}" for package in packages)
        else:
            found = f"not installed; pip install 'concerto-laq[{extra}]'"
        _row(f"[{extra}]", f"{found}  ({purpose})")


def _report_devices() -> None:
    import torch  # noqa: PLC0415 (see above)

    from .devices import cpu_has_bfloat16  # noqa: PLC0415 (see above)

    print("\ndevices")
    bfloat16 = {True: "bfloat16", False: "no bfloat16 (much slower than float32)", None: "bfloat16 unknown"}
    _row(
        "cpu",
        f"{_cores()} cores, {_memory()}; torch uses {torch.get_num_threads()} threads; "
        f"{bfloat16[cpu_has_bfloat16()]}",
    )
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        has_bf16 = "" if torch.cuda.is_bf16_supported() else "no "
        _row(
            f"cuda:{index}",
            f"{torch.cuda.get_device_name(index)}, {total / GIB:.1f} GiB, {free / GIB:.1f} free, "
            f"{has_bf16}bfloat16",
        )
    if not torch.cuda.device_count():
        _row("cuda", f"none ({_why_no_cuda(torch.version.cuda)})")


def _why_no_cuda(built_for: str | None) -> str:
    return f"torch was built for CUDA {built_for}" if built_for else "torch was built without it"


def _report_embedded() -> list[str]:
    from .published_weights import EMBEDDED_FILES, embedded_file  # noqa: PLC0415 (see above)

    print("\nembedded networks and clips")
    try:
        folder = embedded_file(DIGESTS).parent
    except LAQError as error:
        _row("embedded", str(error))
        return [str(error)]
    broken = broken_files(folder)
    for name in EMBEDDED_FILES.values():
        own = [fault for fault in broken if fault.startswith(name)]
        _row(name, own[0] if own else f"{_size([folder / name])}, intact")
    clips = [fault for fault in broken if fault.startswith("demo_pack")]
    _row("demo_pack", clips[0] if clips else "intact")
    if broken:
        more = f" and {len(broken) - 1} more faults" if broken[1:] else ""
        return [f"{broken[0]}{more}; install concerto-laq again"]
    return []


def _report_published() -> None:
    from huggingface_hub import constants  # noqa: PLC0415 (see above)

    from . import published_weights as known  # noqa: PLC0415 (see above)

    print(f"\npublished weights in the Hub's cache, {constants.HF_HUB_CACHE}")
    has_vggt = [
        _row_of_weights(known.cached_files("facebook/VGGT-1B", known.VGGT_FILES), "facebook/VGGT-1B"),
        _row_of_weights(
            known.cached_files(known.VGGT_COMMERCIAL, known.VGGT_COMMERCIAL_FILES), known.VGGT_COMMERCIAL
        ),
    ]
    has_concerto = [
        _row_of_weights(known.cached_files(known.CONCERTO_REPOSITORY, [f"{model}.pth"]), model)
        for model in known.CONCERTO_MODELS
    ]
    if not any(has_vggt):
        _how_to_give("VGGT", f"facebook/VGGT-1B {known.VGGT_FILES[0]}", "--vggt_weights FILE")
    if not any(has_concerto):
        _how_to_give("Concerto", f"{known.CONCERTO_REPOSITORY} concerto_base.pth", "--concerto_weights FILE")


def _row_of_weights(files: Sequence[Path], name: str) -> bool:
    if files:
        _row(name, f"{_size(files)}, {files[0]}")
    return bool(files)


def _how_to_give(network: str, download: str, flag: str) -> None:
    _row(f"no {network}", f"fetched when first used, or by `hf download {download}`; or give {flag}")


def _report_trial() -> list[str]:
    print("\ntrial")
    started = time.perf_counter()
    try:
        words = _encode_one_pair()
    except Exception as error:  # whatever it is, it is what this command is there to find
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return [f"encoding a pair of an embedded clip failed ({type(error).__name__}: {reason})"]
    _row("tiny preset", f"{words} in {time.perf_counter() - started:.1f} s, loading included")
    return []


def _encode_one_pair() -> str:
    from .concerto_wrapper import build_encoder  # noqa: PLC0415 (see above)
    from .encoder_config import EncoderConfig  # noqa: PLC0415 (see above)
    from .pair_encoding import FileEncoder  # noqa: PLC0415 (see above)
    from .published_weights import embedded_file  # noqa: PLC0415 (see above)
    from .webm_dataset import VideoDataConfig  # noqa: PLC0415 (see above)

    clip = min(embedded_file(TRIAL_CLIP).iterdir())
    encoder = build_encoder(with_preset(EncoderConfig(), "tiny"))
    data = replace(with_preset(VideoDataConfig(), "tiny"), num_workers=1)
    _, tokens = next(iter(FileEncoder(encoder, data, batch_size=1)(clip)))
    return f"a pair of {clip.name} became {tokens.feat.shape[2]} tokens"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"[\d.]*", version)
    return tuple(int(number) for number in release.group().split(".") if number) if release else ()


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # only Linux has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _memory() -> str:
    """The machine's memory, or what a container may have of it."""
    limits = list(_memory_limits())
    return f"{min(limits) / GIB:.1f} GiB" if limits else "memory unknown"


def _memory_limits() -> Iterator[int]:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    group = Path("/sys/fs/cgroup/memory.max")
    if group.is_file() and (text := group.read_text().strip()).isdigit():
        yield int(text)


def _size(files: Sequence[Path]) -> str:
    size = sum(file.stat().st_size for file in files)
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _row(name: str, words: str) -> None:
    print(f"  {name:31s}{words}")
