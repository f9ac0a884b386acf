"""Weights files: what opens, what is refused and how, and that loading reads one tensor at a time."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from laq_model import weights
from laq_model.errors import WeightsError
from laq_model.weights import load_strict, read_weights


class Small(nn.Module):
    def __init__(self, width: int = 3):
        super().__init__()
        self.layer = nn.Linear(2, width)
        self.register_buffer("count", torch.zeros(width, dtype=torch.long))


def some_weights(width: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(width)
    return {
        "layer.weight": torch.randn(width, 2, generator=generator),
        "layer.bias": torch.randn(width, generator=generator),
        "count": torch.arange(width),
    }


def write(folder: Path, kind: str, tensors: dict[str, Tensor]) -> Path:
    path = folder / f"weights.{kind}"
    if kind == "safetensors":
        save_file(tensors, path, metadata={"config": json.dumps({"width": 3}), "licence": "CC0"})
    elif kind == "pth":
        torch.save({"config": {"width": 3, "order": ("z", "hilbert")}, "state_dict": tensors}, path)
    elif kind == "pt":
        torch.save(tensors, path)
    else:
        path = folder / "model.safetensors.index.json"
        places = {key: f"model-{index}.safetensors" for index, key in enumerate(tensors)}
        for key, name in places.items():
            save_file({key: tensors[key]}, folder / name)
        path.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return path


@pytest.mark.parametrize("kind", ["safetensors", "pt", "pth", "index"])
def test_every_form_gives_the_same_tensors(tmp_path, kind):
    tensors = some_weights()
    file = read_weights(write(tmp_path, kind, tensors))
    network = Small()
    load_strict(network, file.tensors)
    assert all(torch.equal(value, tensors[key]) for key, value in network.state_dict().items())
    assert dict(file.config) == {
        "safetensors": {"width": 3},
        "pth": {"width": 3, "order": ("z", "hilbert")},
    }.get(kind, {})
    assert file.licence == ("CC0" if kind == "safetensors" else "")


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_what_was_read_is_given_back_to_the_system(tmp_path, monkeypatch, kind):
    # Both formats map the file, and only closing it unmaps what was read.
    monkeypatch.setattr(weights, "MAPPED_BYTES", 30)  # two of these tensors pass it
    owner, name = (weights, "safe_open") if kind == "safetensors" else (torch, "load")
    opened, real = [], getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *given, **named: opened.append(1) or real(*given, **named))
    tensors = {f"t{index}": torch.full((5,), float(index)) for index in range(8)}
    file = read_weights(write(tmp_path, kind, tensors))
    before = len(opened)
    for _ in range(3):
        for key, value in file.tensors.items():
            own = file.tensors[key]
            assert torch.equal(own, value)
            own += 1  # in memory of its own: a later reading is as before
            assert torch.equal(value, tensors[key])
    # 48 tensors were read; the type checker of the tests may read some more.
    assert 23 <= len(opened) - before <= 26


def test_a_network_keeps_its_types_and_one_without_memory_takes_the_file_s(tmp_path):
    mixed = some_weights() | {"layer.weight": some_weights()["layer.weight"].bfloat16()}
    file = read_weights(write(tmp_path, "safetensors", mixed))
    network = Small()
    load_strict(network, file.tensors)
    assert network.layer.weight.dtype == torch.float32
    assert torch.equal(network.layer.weight, mixed["layer.weight"].float())
    with torch.device("meta"):
        empty = Small()
    empty.layer.weight.requires_grad_(False)
    load_strict(empty, file.tensors)
    assert empty.layer.weight.dtype == torch.bfloat16
    assert [value.requires_grad for value in empty.parameters()] == [False, True]
    assert empty.count.device.type == "cpu"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer.bias": None}, "Small; missing: layer.bias$"),
        ({"extra": torch.zeros(1)}, "unexpected: extra$"),
        ({"layer.bias": torch.zeros(4)}, r"wrong shape: layer.bias \[4\] instead of \[3\]$"),
        (
            {"layer.bias": torch.zeros(3, dtype=torch.int8)},
            "wrong type: layer.bias torch.int8 instead of torch.float32$",
        ),
        ({f"k{index}": torch.zeros(1) for index in range(7)}, "unexpected: k0, k1, k2, k3, k4 and 2 more$"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_changes(tmp_path, change, message):
    tensors = {key: value for key, value in (some_weights() | change).items() if value is not None}
    network = Small()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        load_strict(network, read_weights(write(tmp_path, "safetensors", tensors)).tensors)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_keys_of_parts_that_are_not_built_may_be_there(tmp_path):
    tensors = some_weights() | {"head.x": torch.zeros(1), "headless": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"unexpected: headless$"):
        load_strict(Small(), tensors, dropped_prefixes=("head.",))
    del tensors["headless"]
    load_strict(Small(), tensors, dropped_prefixes=("head.",))


class Explosive:
    def __reduce__(self):
        return (print, ("code ran",))


def broken(folder: Path, kind: str) -> Path:
    path = folder / "weights.pt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Explosive()))
    elif kind == "archive with code":
        torch.save({"layer.weight": Explosive()}, path)
    elif kind.startswith("truncated"):
        whole = write(folder, kind.split()[1], some_weights())
        path = whole
        whole.write_bytes(whole.read_bytes()[:-40])
    elif kind == "text":
        path = folder / "weights.safetensors"
        path.write_text("not weights at all")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    elif kind == "numbers":
        torch.save({"step": 3}, path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pickle", "a pickle that could run code and is refused"),
        ("archive with code", "a pickle that could run code and is refused"),
        ("truncated pt", "cannot be opened as plain tensors; it is damaged"),
        ("truncated safetensors", "is not a whole safetensors file"),
        ("text", "is not a whole safetensors file"),
        ("empty", "cannot be opened as plain tensors; it is damaged"),
        ("pointer", "is a Git LFS pointer, not the weights"),
        ("numbers", "holds no state dict"),
        ("missing", "no weights file at"),
    ],
)
def test_what_is_no_weights_file_is_refused_in_one_line(tmp_path, capsys, kind, message):
    path = broken(tmp_path, kind)
    with pytest.raises(WeightsError, match=message) as caught:
        read_weights(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("no json", "is not an index of safetensors shards"),
        (json.dumps({"weight_map": ["a"]}), "is not an index of safetensors shards"),
        (json.dumps({"weight_map": {"a": "../a.safetensors"}}), "names files outside its own folder"),
        (
            json.dumps({"weight_map": {"a": "gone.safetensors"}}),
            "names gone.safetensors, which is not beside it",
        ),
        (
            json.dumps({"weight_map": {"b": "a.safetensors"}}),
            "places b in a.safetensors, which does not hold it",
        ),
    ],
)
def test_an_index_that_cannot_be_followed_is_refused(tmp_path, index, message):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(index)
    with pytest.raises(WeightsError, match=message):
        read_weights(path)
