import torch
from torch import nn

from laq_model.pretraining.muon import Muon, orthogonal


def test_singular_values_come_close_to_one():
    matrices = torch.randn(3, 24, 60, generator=torch.Generator().manual_seed(0))
    for x in (matrices, matrices.mT):
        values = torch.linalg.svdvals(orthogonal(x))
        assert values.min() > 0.6
        assert values.max() < 1.3


def test_directions_are_kept():
    matrix = torch.randn(1, 16, 40, generator=torch.Generator().manual_seed(1))
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    cosine = torch.cosine_similarity(orthogonal(matrix).flatten(), (u @ vh).flatten(), dim=0)
    assert cosine > 0.95


def test_a_step_shrinks_a_quadratic_loss_and_weight_decay_shrinks_weights():
    torch.manual_seed(0)
    weight, goal = nn.Parameter(torch.zeros(8, 8)), torch.randn(8, 8)
    optimizer = Muon([weight], lr=0.1, weight_decay=0.0)
    before = float(goal.square().mean())
    for _ in range(40):
        optimizer.zero_grad()
        (weight - goal).square().mean().backward()
        optimizer.step()
    assert float((weight.detach() - goal).square().mean()) < 0.5 * before
    still = nn.Parameter(torch.ones(4, 4))
    still.grad = torch.zeros(4, 4)
    Muon([still], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(still, torch.full((4, 4), 0.95))
