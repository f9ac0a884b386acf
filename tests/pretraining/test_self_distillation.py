import pytest
import torch
from torch.testing import assert_close

from laq_model.pretraining.self_distillation import Prototypes, balanced_assignment, distillation_loss


def test_every_prototype_is_used_alike():
    """Points that all lean to one prototype are spread, in the order in which they lean."""
    generator = torch.Generator().manual_seed(0)
    cosine = 0.1 * torch.randn(400, 8, generator=generator)
    cosine[:, 3] += 0.8
    assert (cosine.argmax(dim=1) == 3).all()
    assignment = balanced_assignment(cosine)
    assert_close(assignment.sum(dim=1), torch.ones(400))
    assert_close(assignment.mean(dim=0), torch.full((8,), 1 / 8), rtol=0.2, atol=0)
    most = assignment[:, 3].topk(40).indices
    margin = cosine[:, 3] - cosine[:, torch.arange(8) != 3].max(dim=1).values
    assert margin[most].mean() > margin.mean() + 0.05


def test_clear_answers_stay():
    cosine = torch.eye(4).repeat(5, 1)
    assert_close(balanced_assignment(cosine), cosine, rtol=0, atol=1e-6)


def test_distillation_by_hand():
    cosine = torch.tensor([[0.1, 0.0], [0.0, 0.9]])
    assignment = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    # Logits 1 and 0, so ln(1 + 1/e); the second point is seen, and does not count.
    loss = distillation_loss(cosine, assignment, torch.tensor([True, False]))
    assert float(loss) == pytest.approx(0.31326, abs=1e-4)
    assert float(distillation_loss(cosine, assignment, torch.tensor([False, False]))) == 0.0


def test_cosines_are_of_directions():
    torch.manual_seed(0)
    prototypes = Prototypes(channels=6, count=5).eval()
    feat = torch.randn(7, 6)
    cosine = prototypes(feat)
    assert cosine.shape == (7, 5)
    assert cosine.abs().max() <= 1
    with torch.no_grad():
        prototypes.directions.mul_(3.0)
    assert_close(prototypes(feat), cosine)
