"""NSVQ: what its training output is, where gradients go, and what evaluation leaves alone."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from laq_model.quantizers.codebook import nearest_code
from laq_model.quantizers.nsvq import NSVQ, hard_share_at, substitute_noise


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(*, codebook_size: int = 16, dim: int = 8, num_positions: int = 3) -> NSVQ:
    torch.manual_seed(0)
    quantizer = NSVQ(codebook_size=codebook_size, dim=dim, num_positions=num_positions)
    quantizer(torch.randn(32, num_positions, dim, generator=seeded(9)), generator=seeded(9))
    return quantizer


def vectors(batch: int = 12, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, 8, generator=seeded(seed))


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_the_training_output_keeps_the_size_of_the_error(seed: int, scale: float):
    x = scale * torch.randn(5, 8, generator=seeded(seed))
    code = scale * torch.randn(5, 8, generator=seeded(seed + 1))
    moved = substitute_noise(x, code, generator=seeded(seed))
    assert_close((moved - x).norm(dim=-1), (x - code).norm(dim=-1), rtol=1e-4, atol=0)


def test_noise_has_no_preferred_direction():
    x, code = torch.zeros(20_000, 2), torch.tensor([3.0, 0.0]).expand(20_000, 2)
    moved = substitute_noise(x, code, generator=seeded(0))
    # Standard error of the mean of a coordinate on a circle of radius 3: 3 / sqrt(2 · 20 000) = 0.015.
    assert moved.mean(0).abs().max() < 0.06


def test_the_prediction_moves_the_chosen_codes_and_no_others():
    quantizer = build()
    out = quantizer(vectors(), generator=seeded(2))
    (out.quantized * torch.randn(out.quantized.shape, generator=seeded(3))).sum().backward()
    has_gradient = quantizer.codebook.weight.grad.abs().sum(-1) > 0
    is_chosen = torch.zeros(16, dtype=torch.bool)
    is_chosen[out.code_index.flatten()] = True
    assert torch.equal(has_gradient, is_chosen)


def test_gradient_of_the_noise_is_that_of_its_formula():
    # In one dimension x + |x − c| s, with s the noise's sign, has slopes 1 + s and −s in x and c, if x > c.
    x = torch.tensor([[2.0]], requires_grad=True)
    code = torch.tensor([[0.5]], requires_grad=True)
    moved = substitute_noise(x, code, generator=seeded(0))
    sign = float((moved - x).sign().detach())
    moved.sum().backward()
    assert_close(x.grad, torch.tensor([[1.0 + sign]]))
    assert_close(code.grad, torch.tensor([[-sign]]))


def test_gradient_is_finite_where_a_vector_is_its_own_code():
    x = torch.ones(2, 4, requires_grad=True)
    substitute_noise(x, torch.ones(2, 4), generator=seeded(0)).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_hard_samples_carry_the_code_and_pass_the_gradient_straight_through():
    quantizer = build()
    x = vectors().requires_grad_()
    out = quantizer(x, generator=seeded(2), hard_share=1.0)
    assert out.is_hard.all()
    assert_close(out.quantized, quantizer.lookup(out.code_index))
    out.quantized.sum().backward()
    assert_close(x.grad, torch.ones_like(x))


def test_a_hard_share_of_a_quarter_hardens_a_quarter_of_the_samples():
    quantizer = build()
    x = vectors(batch=4000)
    out = quantizer(x, generator=seeded(2), hard_share=0.25)
    assert abs(float(out.is_hard.float().mean()) - 0.25) < 0.03  # four standard errors
    distance = (out.quantized - quantizer.lookup(out.code_index)).norm(dim=-1)
    error = (x - quantizer.lookup(out.code_index)).norm(dim=-1)
    moved = (out.quantized - x).norm(dim=-1)
    assert distance[out.is_hard].max() < 1e-5
    assert_close(moved[~out.is_hard], error[~out.is_hard], rtol=1e-4, atol=1e-5)
    assert distance[~out.is_hard].min() > 1e-3


def test_hard_share_grows_to_one_before_the_end():
    assert hard_share_at(0.0) == 0.0
    assert 0.0 < hard_share_at(0.2) < 1.0
    assert hard_share_at(0.6) == hard_share_at(1.0) == 1.0
    assert hard_share_at(0.0, hard_from=0.0) == 1.0
    assert hard_share_at(0.5, hard_from=1.0) == 0.5


def test_loss_terms_pull_codes_to_vectors_and_vectors_to_codes():
    quantizer = build()
    x = vectors().requires_grad_()
    out = quantizer(x, generator=seeded(2))
    squared = (x - quantizer.lookup(out.code_index)).square().mean()
    assert_close(out.loss_terms["codebook_loss"], quantizer.codebook_weight * squared)
    assert_close(out.loss_terms["commitment_loss"], quantizer.commitment_weight * squared)
    out.loss_terms["codebook_loss"].backward()
    assert x.grad is None
    assert quantizer.codebook.weight.grad.abs().sum() > 0


def test_evaluation_gives_the_codes_and_changes_no_state():
    quantizer = build().eval()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    generator = seeded(4)
    untouched = generator.get_state().clone()
    out = quantizer(vectors(), generator=generator, hard_share=0.0)
    assert_close(out.quantized, quantizer.lookup(out.code_index), rtol=0, atol=0)
    assert out.is_hard.all()
    assert out.loss_terms == {}
    assert torch.equal(generator.get_state(), untouched)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_codes_do_not_depend_on_batch_neighbours():
    quantizer = build().eval()
    x = vectors()
    flipped = quantizer(x.flip(0)).code_index.flip(0)
    assert torch.equal(quantizer(x).code_index, flipped)
    assert torch.equal(quantizer(x[:1]).code_index, flipped[:1])


def test_equal_seeds_give_equal_bits_and_others_do_not():
    outs = [build()(vectors(), generator=seeded(seed)).quantized for seed in (5, 5, 6)]
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_nearest_code_is_the_nearest_by_plain_loops():
    x, codes = vectors(batch=4), torch.randn(16, 8, generator=seeded(7))
    expected = [
        [min(range(16), key=lambda k: float((v - codes[k]).square().sum())) for v in row] for row in x
    ]
    assert nearest_code(x, codes).tolist() == expected
    twins = torch.cat([codes, codes])
    assert nearest_code(x, twins).max() < 16  # of equals, the lowest


def test_half_precision_neighbours_do_not_lower_the_quantizer_s_own():
    quantizer = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = quantizer(vectors().bfloat16(), generator=seeded(2))
    assert out.quantized.dtype == torch.float32
