"""The official project's image loaders, byte for byte."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from vggt_golden import read_golden

from laq_model.errors import ConfigError, DatasetError
from laq_model.vggt import load_images, load_square_images

GOLDEN = read_golden("preprocess")
INFO = json.loads(GOLDEN.metadata["info"])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {}
    for name, pixels in GOLDEN.tensors.items():
        if name.endswith("_in"):
            paths[name.removesuffix("_in")] = tmp_path / f"{name}.png"
            Image.fromarray(pixels.numpy()).save(tmp_path / f"{name}.png")
    return paths


def to_uint8(images: Tensor) -> np.ndarray:
    exact = (images * 255).round()
    assert torch.equal(images, exact / 255)
    return exact.to(torch.uint8).numpy()


def assert_is_golden(images: Tensor, name: str) -> None:
    info, pixels = INFO[name], to_uint8(images)
    assert list(images.shape) == info["shape"]
    every7 = pixels[..., ::7, ::7]
    assert np.array_equal(every7 if len(pixels) > 1 else every7[0], GOLDEN.tensors[f"{name}_every7"].numpy())
    digest = info.get("sha256_uint8_chw") or info["sha256_uint8_nchw"]
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == digest


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize("name", ["land", "port", "sq224", "rgba", "odd"])
def test_main_loader_is_the_official_one(files: dict[str, Path], name: str, mode):
    assert_is_golden(load_images([files[name]], mode=mode), f"{name}_{mode}")


def test_images_of_several_sizes_are_padded_and_said_so(files: dict[str, Path], caplog):
    images = load_images([files[name] for name in INFO["mixed_crop"]["order"]])
    assert_is_golden(images, "mixed_crop")
    assert "images differ in size; all are padded with white to 518 x 518" in caplog.text


@pytest.mark.parametrize("name", ["land", "port"])
def test_square_loader_is_the_official_one(files: dict[str, Path], name: str):
    images, boxes = load_square_images([files[name]], side_px=224)
    assert_is_golden(images, f"{name}_square224")
    assert torch.equal(boxes, GOLDEN.tensors[f"{name}_square224_coords"])


def test_what_cannot_be_loaded_is_named(tmp_path: Path):
    text = tmp_path / "notes.png"
    text.write_text("no image")
    with pytest.raises(DatasetError, match=r"notes.png cannot be read as an image"):
        load_images([text])
    with pytest.raises(DatasetError, match=r"gone.png cannot be read as an image"):
        load_square_images([tmp_path / "gone.png"])
    Image.new("RGB", (1000, 10)).save(tmp_path / "line.png")
    with pytest.raises(DatasetError, match=r"line.png is too narrow"):
        load_images([tmp_path / "line.png"])
    with pytest.raises(ConfigError, match="give at least one path"):
        load_images([])
