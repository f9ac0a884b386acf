"""VGGT on a GPU: the golden files in float32, and what bfloat16 costs there."""

from __future__ import annotations

import copy

import pytest
import torch
from vggt_golden import read_golden, relative_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]
DEVICE = torch.device("cuda")


@pytest.fixture(autouse=True)
def without_tf32():
    """Products and convolutions of float32 numbers in float32; TF32 has 10 bits."""
    kept = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept


@pytest.mark.parametrize(
    "name",
    ["tiny_2x2x70x56_full", "tiny_2x1x56x56", "tiny_2x3x56x56", "tiny_1x1x84x84", "tiny_probe_2x2x70x56"],
)
@torch.no_grad()
def test_golden_files(name):
    golden = read_golden(name)
    out = golden.network().to(DEVICE)(golden.tensors["images"].to(DEVICE))
    # Another device sums in another order: twice what the CPU is allowed.
    assert relative_error(out.depth.cpu()[..., None], golden.tensors["depth"]) <= 4e-5
    assert relative_error(out.depth_conf.cpu(), golden.tensors["depth_conf"]) <= 4e-5
    assert relative_error(out.pose_enc.cpu(), golden.tensors["pose_enc"][-1]) <= 4e-5


@torch.no_grad()
def test_the_same_call_twice_has_the_same_bits():
    golden = read_golden("tiny_2x3x56x56")
    network, images = golden.network().to(DEVICE), golden.tensors["images"].to(DEVICE)
    first, second = network(images), network(images)
    for name in ("depth", "depth_conf", "pose_enc"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


@torch.no_grad()
def test_what_short_matrices_cost():
    golden = read_golden("tiny_2x2x70x56_full")
    short = copy.deepcopy(golden.network()).shorten_aggregator(torch.bfloat16).to(DEVICE)
    out = short(golden.tensors["images"].to(DEVICE))
    assert out.depth.dtype == out.pose_enc.dtype == torch.float32
    expected = golden.tensors["depth"][..., 0]
    error = ((out.depth.cpu() - expected).square().mean() / expected.square().mean()).sqrt()
    assert 1e-5 < error < 0.005  # the official recipe has 0.31 %
    assert (out.pose_enc.cpu() - golden.tensors["pose_enc"][-1]).abs().max() < 0.02


@torch.no_grad()
def test_a_forward_pass_asks_the_device_nothing():
    golden = read_golden("tiny_2x2x70x56_full")
    network, images = golden.network().to(DEVICE), golden.tensors["images"].to(DEVICE)
    network(images)  # tables are made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        network(images)
    finally:
        torch.cuda.set_sync_debug_mode("default")
