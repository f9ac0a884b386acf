"""Where a model comes from, and the card (README.md) that says so wherever the model is published.

The card is written from a run folder: encoders with their licences, data, settings, held-out figures. It
names files and folders, but never where they lay.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from ..errors import RunError
from ..published_weights import CONCERTO_MODELS, CONCERTO_REPOSITORY, EMBEDDED, licence_of
from .config import ConcertoLAQConfig

CARD_FILE = "README.md"
FREE_LICENCE = "Apache-2.0"
# Settings that say where things lie on one machine, or how one process worked.
_OF_A_MACHINE = {
    *("output_dir", "features", "resume", "device", "logging", "pairs_per_step"),
    *("data_dir", "num_workers", "decoder_patience_s", "vggt_weights", "concerto_weights"),
}
_FIGURES = {
    "copy_ratio_hard": "prediction error / error of copying, hard codes",
    "codes_used_fraction": "codes used, share of the codebook",
    "perplexity": "perplexity of the codes",
}


@dataclass(frozen=True)
class RunFacts:
    """What a run folder said when a model was loaded from it.

    Attributes:
        record: of run.json.
        held_out: the last row of held-out metrics; empty if there is none.
        evaluation: Markdown about what ``concerto-laq evaluate`` measured.
    """

    record: Mapping[str, Any]
    held_out: Mapping[str, Any]
    evaluation: str


@dataclass(frozen=True)
class Origin:
    """What a model takes along when it is saved again.

    Attributes:
        tokens: what the tokens are that the model reads (see encoder_fingerprint.py); empty if not known.
        run: of a model from a run folder.
        card: the README.md of a model that was published before.
    """

    tokens: Mapping[str, Any] = field(default_factory=dict)
    run: RunFacts | None = None
    card: str = ""


def read_origin(folder: Path, *, weights: Path, tokens: Mapping[str, Any]) -> Origin:
    """The origin of the model in this folder.

    Args:
        weights: the model's weights file.
        tokens: what the model's config.json says of them.

    Raises:
        RunError: the run's record is damaged.
    """
    if (folder / "run.json").is_file():
        record = _read_json(folder / "run.json")
        facts = RunFacts(record, _last_held_out(folder), _evaluation(folder, weights))
        return Origin(record.get("data", {}).get("tokens", {}), run=facts)
    card = folder / CARD_FILE
    return Origin(tokens, card=card.read_text(encoding="utf-8") if card.is_file() else "")


def card_of(origin: Origin, config: ConcertoLAQConfig) -> str:
    """The text of README.md: of the run, or as it was published, or that nothing is known.

    Raises:
        RunError: the run's record is of another version.
    """
    if origin.run is not None:
        try:
            return card_of_run(origin.run)
        except KeyError as error:
            raise RunError(f"no model card can be written: the run's record has no {error}") from error
    return origin.card or _joined(
        ModelCardData(library_name="concerto-laq", tags=_tags()).to_yaml(),
        _summary(config.code_seq_len, config.codebook_size, frame_offset=None),
        "Nothing is known here of its training: it was saved without a run folder. Save "
        "`ConcertoLAQ.from_pretrained(RUN_FOLDER)` for a card with data, settings, encoders and figures.",
    )


def card_of_run(run: RunFacts) -> str:
    """The card of the weights that a run had when its facts were read."""
    config, data = run.record["config"], run.record.get("data", {})
    control = "**This is a control: it was trained on shuffled pairs and must have learned nothing.**"
    return _joined(
        _head(config, run.held_out),
        _summary(
            config["model"]["code_seq_len"],
            config["model"]["codebook_size"],
            frame_offset=config["data"]["frame_offset"],
        ),
        control if config.get("shuffle_pairs") else "",
        _encoders(config["encoder"], data.get("tokens", {}).get("weights", {})),
        _use(config["encoder"]["geometry"]),
        _data(config, data),
        _results(run.held_out, run.evaluation),
        _settings(config, run.record.get("versions", {})),
    )


def _head(config: Mapping[str, Any], held_out: Mapping[str, Any]) -> str:
    """The metadata that the Hub reads."""
    encoder = config["encoder"]
    is_free = all(FREE_LICENCE in licence for _, _, licence in _networks(encoder))
    # Without the encoders the weights are of no use, so their terms decide.
    terms = {"license": "apache-2.0"} if is_free else {"license": "other", "license_name": "see-encoders"}
    bases = [base for base in _hub_repositories(encoder) if base]
    relation = {"base_model_relation": "adapter"} if bases else {}
    results = [
        EvalResult(
            task_type="robotics",
            dataset_type="videos",
            dataset_name=f"{_data_name(config)}, held-out videos",
            metric_type=name,
            metric_name=words,
            metric_value=round(float(held_out[name]), 4),
        )
        for name, words in _FIGURES.items()
        if name in held_out
    ]
    return ModelCardData(
        library_name="concerto-laq",
        pipeline_tag="robotics",
        tags=_tags(),
        base_model=bases or None,
        model_name="Concerto-LAQ",
        eval_results=results or None,
        **terms,
        **relation,
    ).to_yaml()


def _summary(code_seq_len: int, codebook_size: int, *, frame_offset: int | None) -> str:
    apart = f" {frame_offset} frames apart" if frame_offset else ""
    return (
        f"# Latent actions from video\n\nA Concerto-LAQ model: {code_seq_len} tokens of {codebook_size} "
        f"codes for what changes in the world between two frames{apart}."
    )


def _encoders(encoder: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    rows = [
        f"| {name} | {model} | {f'`{digests[name]}…`' if name in digests else ''} | {licence} |"
        for name, model, licence in _networks(encoder)
    ]
    geometry = encoder["geometry"]
    more = {
        "vggt": "",
        "sensor": "\nDepth and cameras are not predicted: they must be recorded with the videos.\n",
    }.get(geometry, f"\nDepth and cameras come from the geometry source `{geometry}`.\n")
    return (
        "## What it needs\n\nThis repository holds the action model only. It reads tokens of these frozen "
        "networks, which are fetched or given apart, under their own licences:\n\n"
        "| network | weights | SHA-256 begins with | licence |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
        + more
    )


def _use(geometry: str) -> str:
    command = (
        "## Use\n\n```bash\n"
        "hf download OWNER/NAME --local-dir model\n"
        "concerto-laq label --checkpoint model --data_dir VIDEOS --output labels.parquet\n```"
    )
    if geometry != "vggt":  # a single file has no recorded depth beside it
        return command
    return (
        f"{command}\n\n```python\n"
        "from laq_model.trained_run import open_trained_run\n\n"
        'run = open_trained_run("model")\n'
        'actions = run.model.encode_video("clip.webm", encoder=run.video_encoder())\n'
        "```"
    )


def _data(config: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    trained, held_out = len(data.get("videos", {})), len(data.get("held_out", {}))
    size = config["data"]["frame_size"]
    return (
        f"## Data\n\n`{_data_name(config)}`: {trained} videos trained on, {held_out} held out by a hash of "
        f"their names, {len(data.get('skipped', {}))} skipped. Frames are the middle square at {size} × "
        f"{size} pixels."
    )


def _results(held_out: Mapping[str, Any], evaluation: str) -> str:
    if not held_out:
        return f"## Results\n\n{evaluation}"
    rows = [f"| {words} | {held_out[name]:.3g} |" for name, words in _FIGURES.items() if name in held_out]
    text = (
        f"## Results\n\nOn {held_out.get('num_pairs', 0):.0f} held-out pairs of the same data, after step "
        f"{held_out['step']}. Of the error, 0 is perfect and 1 is what copying the current frame gives.\n\n"
        "|  |  |\n|---|---|\n" + "\n".join(rows)
    )
    return f"{text}\n\n{evaluation}"


def _settings(config: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    made_with = ", ".join(f"{name} {version}" for name, version in versions.items())
    text = yaml.safe_dump(_portable(config), sort_keys=False).strip()
    return (
        f"## Settings\n\nMade with {made_with}. As a file, for `concerto-laq train --config FILE --data_dir "
        f"VIDEOS`:\n\n```yaml\n{text}\n```"
    )


def _networks(encoder: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, weights and licence of each network that the tokens need."""
    wanted = ["vggt", "concerto"] if encoder["geometry"] == "vggt" else ["concerto"]
    for name in wanted:
        model, file = encoder[f"{name}_model"], encoder[f"{name}_weights"]
        shown = (
            f"file `{Path(file).name}`"
            if file
            else "inside the package"
            if model == EMBEDDED
            else f"`{model}`"
        )
        yield name, shown, licence_of(model, network=name, file=file).split(": ", 1)[-1]


def _hub_repositories(encoder: Mapping[str, Any]) -> Iterator[str]:
    if encoder["geometry"] == "vggt" and not encoder["vggt_weights"] and encoder["vggt_model"] != EMBEDDED:
        yield "/".join(encoder["vggt_model"].split("/")[:2])
    if not encoder["concerto_weights"] and encoder["concerto_model"] != EMBEDDED:
        model = encoder["concerto_model"]
        yield CONCERTO_REPOSITORY if model in CONCERTO_MODELS else "/".join(model.split("/")[:2])


def _portable(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _portable(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name not in _OF_A_MACHINE
    }


def _data_name(config: Mapping[str, Any]) -> str:
    return Path(config["data"]["data_dir"] or config.get("features") or "videos").name


def _last_held_out(folder: Path) -> dict[str, Any]:
    file = folder / "metrics.jsonl"
    found: dict[str, Any] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:  # the last row of a run that was killed
            break
        if row.get("kind") == "held_out":
            found = row
    return found


def _evaluation(folder: Path, weights: Path) -> str:
    """The tables of ``concerto-laq evaluate``, if they are of these weights."""
    json_file, text_file = (folder / "evaluation" / f"evaluation.{kind}" for kind in ("json", "md"))
    if not json_file.is_file() or not text_file.is_file():
        return "Probes and controls were not measured (`concerto-laq evaluate`)."
    facts = _read_json(json_file)
    if facts.get("model") != hashlib.sha256(weights.read_bytes()).hexdigest()[:12]:
        return "Probes and controls were measured on older weights of this run, and are left out."
    _, _, tables = text_file.read_text(encoding="utf-8").partition("\n## ")
    tables = re.sub(r"^## ", "### ", f"## {tables}", flags=re.MULTILINE)
    tables = re.sub(r"(?<![\w.])/(?:[^\s/`'\"]+/)+", "", tables)  # a path becomes its last part
    return (
        f"The tables below are those of `concerto-laq evaluate`: {facts.get('num_held_out_pairs')} held-out "
        f"pairs of {facts.get('num_held_out_episodes')} episodes of `{Path(str(facts.get('data'))).name}`, "
        f"motion in axes of the {facts.get('frame')}.\n\n{tables.strip()}"
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{file} is damaged ({error})") from error


def _tags() -> list[str]:
    return ["latent-actions", "robotics", "video"]


def _joined(head: str, *sections: str) -> str:
    return f"---\n{head.strip()}\n---\n\n" + "\n\n".join(part.strip() for part in sections if part) + "\n"
