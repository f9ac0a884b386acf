import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from laq_model.pretraining.matching import GUIDED_HEAD, GuidedAttention, match_loss, match_target
from laq_model.vggt import build_vggt

MICRO_NETWORK = {
    "img_size": 28,
    "patch_size": 14,
    "embed_dim": 32,
    "vit_depth": 1,
    "vit_num_heads": 2,
    "depth": 1,
    "num_heads": 2,
    "num_register_tokens": 3,
    "camera_trunk_depth": 1,
    "camera_num_heads": 2,
    "dpt_features": 16,
    "dpt_out_channels": [8, 8, 8, 8],
    "dpt_layers": [0, 0, 0, 0],
}


def test_target_of_a_quarter_patch_to_the_right():
    flow = torch.zeros(1, 2, 28, 28, 2)
    flow[:, 1, ..., 0] = 0.125  # of an image two patches wide: a quarter of a patch
    weight, is_inside = match_target(flow, grid=(2, 2))
    assert_close(weight[0, 0], torch.eye(4))
    # Patches: 0 1 / 2 3. The left ones are seen between themselves and their right neighbours.
    assert_close(weight[0, 1, 0], torch.tensor([0.75, 0.25, 0.0, 0.0]))
    assert_close(weight[0, 1, 2], torch.tensor([0.0, 0.0, 0.75, 0.25]))
    # The right ones are seen beyond the last patch's middle.
    assert is_inside.tolist() == [[[True] * 4, [True, False, True, False]]]


def test_target_reads_the_middle_pixel():
    flow = torch.zeros(1, 1, 28, 28, 2)
    flow[0, 0, 7, 7] = torch.tensor([0.5, 0.5])
    weight, _ = match_target(flow, grid=(2, 2))
    assert_close(weight[0, 0, 0], torch.tensor([0.0, 0.0, 0.0, 1.0]))


def test_loss_by_hand():
    flow = torch.zeros(1, 2, 2, 2, 2)
    log_attention = torch.full((1, 2, 4, 4), 0.125).log()  # half of the attention goes elsewhere
    log_attention[0, 0] = -100.0  # the first view is not asked
    assert float(match_loss(log_attention, flow, grid=(2, 2))) == pytest.approx(math.log(8))
    flow[0, 1] = 9.0  # nobody is inside
    assert float(match_loss(log_attention, flow, grid=(2, 2))) == 0.0


def test_guided_attention_is_what_the_block_attends_with(monkeypatch):
    torch.manual_seed(0)
    network = build_vggt(MICRO_NETWORK)
    guided = GuidedAttention(network)
    attend, seen = F.scaled_dot_product_attention, []

    def spy(query, key, value):
        seen.append((query, key))
        return attend(query, key, value)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    network(torch.rand(2, 3, 3, 28, 28))
    # Three views of eight tokens: camera token, three registers, four patches. Sixteen channels a head.
    query, key = next(pair for pair in seen if pair[0].shape[2] == 24)
    attention = (query[:, GUIDED_HEAD] @ key[:, GUIDED_HEAD].mT / 4).softmax(dim=-1)
    expected = attention.unflatten(1, (3, 8))[:, :, 4:, 4:8]
    assert_close(guided.take(views=3, grid=(2, 2)).exp(), expected)
