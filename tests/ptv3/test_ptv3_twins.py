"""Each fast kernel equals its slow twin."""

from __future__ import annotations

import numpy as np
import ptv3_twins as twins
import pytest
import torch
from ptv3_golden import random_clouds, read_golden
from torch import Tensor
from torch.testing import assert_close

from laq_model.ptv3.attention import SerializedAttention
from laq_model.ptv3.patches import apply_order, build_patches
from laq_model.ptv3.pooling import find_members, max_of_members, mean_of_members
from laq_model.ptv3.serialization import CURVES, serialize
from laq_model.ptv3.sparse_conv import SubMConv3d, find_neighbours


def clouds_of(counts: list[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


@pytest.mark.parametrize("depth", [1, 3, 4, 7])
def test_serialization(depth):
    counts = [6, 0, 7]
    cells = random_clouds(counts, extent=2**depth, channels=1)["grid_coord"]
    cloud = clouds_of(counts)
    ours = serialize(cells, cloud, depth=depth, curves=CURVES)
    for index, name in enumerate(CURVES):
        code = [
            (int(number) << (3 * depth)) + twins.curve_code(name, cell, depth)
            for number, cell in zip(cloud, cells.tolist(), strict=True)
        ]
        assert ours.code[index].tolist() == code
        assert ours.order[index].tolist() == sorted(range(len(code)), key=code.__getitem__)
        assert ours.order[index][ours.rank[index]].tolist() == list(range(len(code)))


def test_convention_hilbert_turns_with_depth():
    cells = torch.tensor([[a, b, c] for a in range(4) for b in range(4) for c in range(4)])
    cloud = torch.zeros(64, dtype=torch.long)
    order = {
        depth: serialize(cells, cloud, depth=depth, curves=["hilbert", "z"]).order for depth in (3, 4, 5, 6)
    }
    assert torch.equal(order[3][1], order[6][1])
    assert not torch.equal(order[3][0], order[4][0])
    assert torch.equal(order[3][0], order[6][0])  # the axes are back after three steps


@pytest.mark.parametrize("patch_size", [1, 4, 70, 130])
def test_patches(patch_size):
    counts = [
        0,
        1,
        patch_size,
        patch_size + 1,
        2 * patch_size,
        3 * patch_size - 1,
        66,
        0,
        patch_size // 2 + 1,
    ]
    table = build_patches(counts, patch_size, cloud_index=clouds_of(counts))
    queries = torch.cat([group.query.flatten() for group in table.groups])
    keys: list[list[int]] = []
    for group in table.groups:
        for patch in range(len(group.key)):
            is_key = slice(None) if group.is_key is None else group.is_key[patch, 0, 0]
            keys += [group.key[patch][is_key].tolist()] * group.query.shape[1]
    expected = twins.queries_and_keys(counts, patch_size)
    assert len(table.slot) == len(expected) == sum(counts)
    for place, slot in enumerate(table.slot.tolist()):
        assert queries[slot] == place
        assert keys[slot] == expected[place]


def test_patches_of_the_reference_padding():
    # The reference lists padded patches: leftovers first, then points of the patch before.
    golden, _ = read_golden("parts")
    counts = golden["pad.offset"].diff(prepend=torch.zeros(1, dtype=torch.long)).tolist()
    bounds, pad = golden["pad.cu_seqlens"].tolist(), golden["pad.pad"].tolist()
    expected = twins.queries_and_keys(counts, 32)
    segment_of = np.searchsorted(bounds, golden["pad.unpad"].numpy(), side="right") - 1
    for place, segment in enumerate(segment_of.tolist()):
        assert sorted(pad[bounds[segment] : bounds[segment + 1]]) == expected[place]


@pytest.mark.parametrize("patch_size", [8, 100])
def test_attention(patch_size):
    counts = [3, 40, 0, 8]
    cloud = clouds_of(counts)
    cells = random_clouds(counts, extent=8, channels=1)["grid_coord"]
    curve = serialize(cells, cloud, depth=4, curves=["hilbert-trans"])
    table = build_patches(counts, patch_size, cloud_index=cloud)
    layer = SerializedAttention(12, 3).double()
    feat = torch.randn(len(cells), 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = layer(feat, apply_order(table, curve.order[0], curve.rank[0]))
        keys_of = twins.queries_and_keys(counts, patch_size)
        attended = twins.attend(layer.qkv(feat).numpy(), keys_of, curve.order[0].tolist(), heads=3)
        expected = layer.proj(torch.from_numpy(attended))
    assert_close(ours, expected, rtol=0, atol=1e-12)


def test_sparse_conv():
    # Cells fill half of a small box, so that many lie at its edge and next to another cloud's.
    counts, extent = [60, 1, 50], 5
    clouds = random_clouds(counts, extent=extent, channels=3)
    cells, cloud = clouds["grid_coord"], clouds_of(counts)
    conv = SubMConv3d(3, 4).double()
    feat = clouds["feat"].double()
    for bound in (extent - 1, 900):
        with torch.no_grad():
            pairs = find_neighbours(cells, cloud, max_grid_coord=bound)
            ours = conv(feat, pairs)
        weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
        expected = twins.sparse_conv(
            feat.numpy(), [tuple(cell) for cell in cells.tolist()], cloud.tolist(), weight, bias
        )
        assert_close(ours, torch.from_numpy(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride", [2, 3])
def test_pooling(stride):
    counts = [40, 0, 25, 1]
    clouds = random_clouds(counts, extent=7, channels=3)
    cells, cloud, feat = clouds["grid_coord"].int(), clouds_of(counts), clouds["feat"].double() - 5
    members = find_members(cells, cloud, stride=stride, max_grid_coord=6)
    parents, inverse, largest, mean = twins.pool(
        feat.numpy(), [tuple(cell) for cell in cells.tolist()], cloud.tolist(), stride
    )
    assert [
        tuple(row) for row in torch.cat([members.cloud_index[:, None], members.grid_coord], 1).tolist()
    ] == parents
    assert members.inverse.tolist() == inverse
    assert members.grid_coord.dtype == torch.int32
    assert_close(max_of_members(feat, members), torch.from_numpy(largest), rtol=0, atol=0)
    assert_close(mean_of_members(feat, members), torch.from_numpy(mean), rtol=0, atol=1e-12)
