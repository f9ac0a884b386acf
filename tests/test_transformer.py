"""The plain blocks: masks, rotary positions, and attention against its formula."""

import math

import torch
from torch.testing import assert_close

from laq_model.transformer import (
    POSITION_CHANNELS,
    ROTARY_WAVELENGTHS,
    Attention,
    ReadingBlock,
    SelfAttentionBlock,
    position_code,
    rotate,
    rotation_angles,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def build_attention() -> Attention:
    torch.manual_seed(0)
    return Attention(dim=12, num_heads=2)


def test_attention_is_its_formula():
    attention, x, memory = build_attention(), normal(1, 3, 12), normal(1, 5, 12, seed=1)
    key, value = attention.key_value(memory)[0].split(12, dim=-1)
    query = attention.query(x)[0]
    heads = []
    for head in (slice(0, 6), slice(6, 12)):
        weight = torch.softmax(query[:, head] @ key[:, head].T / math.sqrt(6), dim=-1)
        heads.append(weight @ value[:, head])
    assert_close(attention(x, memory)[0], attention.out(torch.cat(heads, dim=-1)), rtol=1e-4, atol=1e-5)


def test_masked_keys_are_as_if_absent():
    attention, x, memory = build_attention(), normal(2, 3, 12), normal(2, 5, 12, seed=1)
    is_valid = torch.tensor([[True, True, False, True, False]] * 2)
    assert_close(attention(x, memory, is_valid), attention(x, memory[:, [0, 1, 3]]), rtol=1e-4, atol=1e-5)


def test_a_row_without_keys_reads_zeros_and_has_finite_gradients():
    attention, memory = build_attention(), normal(2, 5, 12, seed=1).requires_grad_()
    is_valid = torch.tensor([[False] * 5, [True] * 5])
    read = attention(normal(2, 3, 12), memory, is_valid)
    assert torch.equal(read[0], torch.zeros(3, 12))
    assert read[1].abs().sum() > 0
    read.sum().backward()
    assert torch.isfinite(memory.grad).all()
    assert torch.equal(memory.grad[0], torch.zeros(5, 12))
    assert all(torch.isfinite(value.grad).all() for value in attention.parameters())


def test_rotated_products_depend_on_the_offset_alone():
    query, key = normal(1, 1, 1, 12), normal(1, 1, 1, 12, seed=1)
    place, offset = normal(1, 1, 3, seed=2), torch.tensor([[[0.3, -0.1, 0.2]]])

    def product(query_place: torch.Tensor, key_place: torch.Tensor) -> torch.Tensor:
        turned = rotate(query, rotation_angles(query_place, head_dim=12))
        return (turned * rotate(key, rotation_angles(key_place, head_dim=12))).sum()

    assert_close(product(place, place + offset), product(torch.zeros(1, 1, 3), offset), rtol=1e-4, atol=1e-5)
    assert_close(product(place, place), (query * key).sum(), rtol=1e-4, atol=1e-5)
    assert abs(float(product(place, place + offset) - product(place, place - offset))) > 1e-2


def test_rotation_by_hand():
    # A quarter of the shortest wavelength along y turns the y pair of its frequency by 90 degrees.
    place = torch.tensor([[[0.0, ROTARY_WAVELENGTHS[1] / 4, 0.0]]])
    angles = rotation_angles(place, head_dim=14)  # two frequencies for each axis, one pair left over
    longest_turn = math.pi / 2 * ROTARY_WAVELENGTHS[1] / ROTARY_WAVELENGTHS[0]
    assert_close(angles[0, 0], torch.tensor([0.0, 0.0, longest_turn, math.pi / 2, 0.0, 0.0, 0.0]))
    turned = rotate(torch.arange(14.0).reshape(1, 1, 1, 14), angles)[0, 0, 0]
    assert_close(turned[[3, 10]], torch.tensor([-10.0, 3.0]), rtol=0, atol=1e-5)
    assert_close(turned[[0, 6, 13]], torch.tensor([0.0, 6.0, 13.0]))


def test_the_gradient_of_a_turn_is_right():
    x = normal(1, 2, 3, 12).double().requires_grad_()
    angles = rotation_angles(normal(1, 3, 3, seed=1).double(), head_dim=12)
    assert torch.autograd.gradcheck(lambda x: rotate(x, angles), x)


def test_fewer_tokens_asked_for_get_the_same_answer():
    torch.manual_seed(0)
    block = SelfAttentionBlock(dim=12, num_heads=2, mlp_ratio=2)
    x, angles = normal(2, 5, 12), normal(2, 5, 3, seed=1)
    is_valid = torch.tensor([[True] * 5, [True, True, True, False, True]])
    few = block(x, is_valid, angles, num_asking=2)
    assert few.shape == (2, 2, 12)
    assert_close(few, block(x, is_valid, angles)[:, :2], rtol=0, atol=1e-6)  # float32's rounding


def test_heads_too_small_for_three_axes_do_not_rotate():
    assert torch.equal(rotation_angles(normal(1, 2, 3), head_dim=4), torch.zeros(1, 2, 2))


def test_queries_of_a_reading_block_do_not_look_at_one_another():
    torch.manual_seed(0)
    block = ReadingBlock(dim=12, num_heads=2, mlp_ratio=2)
    x, codes, context = normal(1, 4, 12), normal(1, 2, 12, seed=1), normal(1, 5, 12, seed=2)
    angles = torch.zeros(1, 4, 3), torch.zeros(1, 5, 3)
    is_valid = torch.ones(1, 5, dtype=torch.bool)
    together = block(x, codes, context, is_valid, angles)
    other = x.clone()
    other[:, 1:] += 1
    assert_close(block(other, codes, context, is_valid, angles)[:, 0], together[:, 0], rtol=0, atol=1e-6)
    assert not torch.allclose(block(x, codes + 1, context, is_valid, angles), together)


def test_position_code_has_its_channels_and_tells_neighbours_apart():
    code = position_code(torch.tensor([[0.05, 0.0, 0.0], [0.15, 0.0, 0.0]]))
    assert code.shape == (2, POSITION_CHANNELS)
    assert_close(code[0, 3], torch.tensor(math.sin(math.pi * 0.05)))
    assert (code[0] - code[1]).norm() > 0.5
