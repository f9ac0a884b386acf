"""What every scheme owes the model, and what FSQ and EMA-VQ owe their papers."""

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.testing import assert_close

from laq_model.errors import ConfigError
from laq_model.quantizers.build import build_quantizer
from laq_model.quantizers.codebook import REPLACEMENT_PERIOD_STEPS
from laq_model.quantizers.ema import LEARNING_END, ROWS_PER_CODE
from laq_model.quantizers.fsq import levels_of

SCHEMES = ["nsvq", "fsq", "ema"]
SIZE, DIM, POSITIONS = 16, 8, 3
WINDOW = "usage_window.window_hits"


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vectors(batch: int = 12, *, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, POSITIONS, DIM, generator=seeded(seed))


def build(scheme: str) -> torch.nn.Module:
    """A quantizer that has seen enough vectors for its codes to have started."""
    torch.manual_seed(0)
    quantizer = build_quantizer(scheme, codebook_size=SIZE, dim=DIM, num_positions=POSITIONS)
    quantizer(vectors(40, seed=9), generator=seeded(9))
    return quantizer


def table(quantizer: torch.nn.Module) -> torch.Tensor:
    return quantizer.lookup(torch.arange(SIZE)[None])[0].detach()


# ── all of them


@pytest.mark.parametrize("scheme", SCHEMES)
def test_evaluation_gives_the_codes_and_changes_nothing(scheme: str):
    quantizer = build(scheme).eval()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    generator = seeded(4)
    untouched = generator.get_state().clone()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    out = quantizer(vectors(), generator=generator)
    assert_close(out.quantized, quantizer.lookup(out.code_index), rtol=0, atol=0)
    assert torch.equal(out.code_index, quantizer.nearest(vectors()))
    assert out.is_hard.all()
    assert out.loss_terms == {}
    assert torch.equal(generator.get_state(), untouched)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_two_codes_are_the_same(scheme: str):
    codes = table(build(scheme))
    assert (torch.cdist(codes, codes) + 1e9 * torch.eye(SIZE)).min() > 1e-2


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_prediction_reaches_the_vectors_through_hard_codes(scheme: str):
    x = vectors().requires_grad_()
    out = build(scheme)(x, generator=seeded(2), hard_share=1.0, progress=0.6)
    # The rotation trick turns a vector onto its code: equal up to rounding.
    assert_close(out.quantized, build(scheme).lookup(out.code_index), rtol=0, atol=1e-5)
    (out.quantized * vectors(seed=5)).sum().backward()
    assert (x.grad.norm(dim=-1) > 0).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_training_counts_hits_by_position(scheme: str):
    quantizer = build_quantizer(scheme, codebook_size=SIZE, dim=DIM, num_positions=POSITIONS)
    one_vector = vectors(1).expand(40, -1, -1)
    usage = quantizer(one_vector, generator=seeded(2)).usage
    assert usage.position_perplexity.tolist() == pytest.approx([1.0, 1.0, 1.0])
    spread = build(scheme)(vectors(200), generator=seeded(2)).usage
    assert (spread.position_perplexity > SIZE / 4).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_resume_goes_on_with_the_same_bits(scheme: str):
    def fresh() -> torch.nn.Module:
        torch.manual_seed(0)
        return build_quantizer(scheme, codebook_size=64, dim=DIM, num_positions=POSITIONS)

    def steps(quantizer: torch.nn.Module, first: int, last: int) -> None:
        for step in range(first, last):
            torch.manual_seed(step * 7 + first)  # what others draw must not matter
            quantizer(vectors(4, seed=step), generator=seeded(1000 + step), progress=0.2)

    unbroken, first_half, second_half = fresh(), fresh(), fresh()
    steps(unbroken, 0, 90)
    steps(first_half, 0, 50)
    second_half.load_state_dict(first_half.state_dict())
    steps(second_half, 50, 90)
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, second_half.state_dict()[name]), name


@pytest.mark.parametrize("scheme", SCHEMES)
def test_half_precision_neighbours_do_not_lower_the_quantizer_s_own(scheme: str):
    quantizer = build(scheme)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = quantizer(vectors().bfloat16(), generator=seeded(2))
    assert out.quantized.dtype == torch.float32


def _one_process(rank: int, store: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for scheme in ("nsvq", "ema"):
        torch.manual_seed(0)
        quantizer = build_quantizer(scheme, codebook_size=SIZE, dim=DIM, num_positions=POSITIONS)
        for step in range(REPLACEMENT_PERIOD_STEPS):  # the processes see other vectors and other noise
            x = rank * 3 + 0.1 * vectors(4, seed=10 * step + rank)
            quantizer(x, generator=seeded(100 * step + rank), progress=0.1)
        torch.save(quantizer.state_dict(), f"{folder}/{scheme}_{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")
def test_all_processes_hold_one_codebook(tmp_path: Path):
    mp.spawn(_one_process, (str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    for scheme in ("nsvq", "ema"):
        first, second = (torch.load(tmp_path / f"{scheme}_{rank}.pt", weights_only=True) for rank in (0, 1))
        for name in first:
            assert torch.equal(first[name], second[name]), name
        num_hits = int(first[f"codebook.{WINDOW}" if scheme == "nsvq" else WINDOW].sum())
        steps_before_start = 0 if scheme == "nsvq" else ROWS_PER_CODE * SIZE // (2 * 4 * POSITIONS)
        assert num_hits == 2 * 4 * POSITIONS * (REPLACEMENT_PERIOD_STEPS - steps_before_start)
    means = first["averages._codebook.embed"][0].mean(-1)
    assert (means < 1).any()  # process 0's vectors lie about 0,
    assert (means > 2).any()  # process 1's about 3


# ── FSQ


def test_fsq_rounds_to_a_grid_by_a_plain_loop():
    quantizer = build("fsq")
    projected = quantizer.rounding.project_in(vectors())
    levels = levels_of(SIZE)
    assert levels == [4, 4]
    for pair in range(12):
        for token in range(POSITIONS):
            number = 0
            for axis, value in enumerate(projected[pair, token].tolist()):
                # Levels −1, −1/3, 1/3, 1: the share of [−1, 1] below tanh(value), rounded to thirds.
                step = round((levels[axis] - 1) * (torch.tanh(torch.tensor(value)).item() + 1) / 2)
                number += step * levels[0] ** axis
            assert int(quantizer.nearest(vectors())[pair, token]) == number


def test_fsq_learns_from_the_prediction_alone():
    quantizer = build("fsq")
    out = quantizer(vectors(), generator=seeded(2))
    assert out.loss_terms == {}
    out.quantized.square().sum().backward()
    assert all(value.grad.abs().sum() > 0 for value in quantizer.parameters())


@pytest.mark.parametrize(
    ("size", "levels"),
    [(8, [4, 2]), (64, [8, 8]), (240, [8, 6, 5]), (256, [8, 8, 4]), (1000, [8, 5, 5, 5]), (4, [2, 2])],
)
def test_levels_multiply_to_the_codebook_size(size: int, levels: list[int]):
    found = levels_of(size)
    product = 1
    for level in found:
        product *= level
    assert product == size
    assert sorted(found) == sorted(levels) or max(found) - min(found) <= max(levels) - min(levels)


@pytest.mark.parametrize("size", [7, 11, 22, 257])
def test_sizes_without_levels_are_refused(size: int):
    with pytest.raises(ConfigError, match=rf"product of numbers from 2 to 8.*got {size}"):
        build_quantizer("fsq", codebook_size=size, dim=DIM, num_positions=POSITIONS)


# ── EMA-VQ


def test_ema_lets_vectors_pass_until_it_has_seen_enough():
    quantizer = build_quantizer("ema", codebook_size=SIZE, dim=DIM, num_positions=POSITIONS)
    needed = ROWS_PER_CODE * SIZE
    x = vectors(1)
    for step in range(-(-needed // POSITIONS) - 1):
        out = quantizer(vectors(1, seed=step), generator=seeded(step))
        assert not out.is_hard.any()
        assert out.loss_terms == {}
    assert_close(quantizer(x, generator=seeded(0)).usage.perplexity, torch.tensor(POSITIONS * 1.0))
    assert quantizer(x, generator=seeded(0)).is_hard.all()


def test_ema_codes_are_centres_of_what_chose_them():
    # Two clouds of points, two codes: after the start each code lies in the middle of a cloud.
    quantizer = build_quantizer("ema", codebook_size=2, dim=2, num_positions=1)
    cloud = 0.01 * torch.randn(100, 1, 2, generator=seeded(1))
    cloud[:50, :, 0] += 1.0
    cloud[50:, :, 0] -= 1.0
    for step in range(3):
        quantizer(cloud, generator=seeded(step))
    codes = quantizer.lookup(torch.tensor([[0, 1]]))[0]
    middle = torch.stack([cloud[:50].mean((0, 1)), cloud[50:].mean((0, 1))])
    order = codes[:, 0].argsort(descending=True)
    assert_close(codes[order], middle, rtol=0, atol=1e-3)


def test_ema_unused_codes_come_back_as_data():
    quantizer = build("ema")
    with torch.no_grad():
        quantizer.averages._codebook.embed[0, :4] = 1000.0
        quantizer.averages._codebook.embed_avg[0, :4] = 1000.0
        quantizer.averages._codebook.cluster_size[0, :4] = 1e-3
    quantizer(vectors(40), generator=seeded(2))
    assert table(quantizer).abs().max() < 10


def test_ema_codes_stay_where_they_are_at_the_end():
    quantizer = build("ema")
    before = table(quantizer)
    quantizer(vectors(40) + 5, generator=seeded(2), progress=LEARNING_END)
    assert torch.equal(table(quantizer), before)
    quantizer(vectors(40) + 5, generator=seeded(2), progress=LEARNING_END - 0.01)
    assert not torch.equal(table(quantizer), before)


def test_ema_commitment_pulls_vectors_to_their_codes():
    quantizer = build("ema")
    x = vectors().requires_grad_()
    out = quantizer(x, generator=seeded(2), progress=LEARNING_END)
    code = quantizer.lookup(out.code_index)
    assert_close(out.loss_terms["commitment_loss"], (x - code).square().mean())
    (gradient,) = torch.autograd.grad(out.loss_terms["commitment_loss"], x)
    assert_close(gradient, 2 * (x - code).detach() / x.numel())


def test_the_rotation_trick_turns_the_gradient_with_the_vector():
    # A code at right angles to its vector, twice as long: the gradient turns by that quarter, times 2.
    quantizer = build_quantizer("ema", codebook_size=2, dim=2, num_positions=1)
    quantizer.is_started.fill_(True)
    quantizer.averages._codebook.initted.fill_(True)
    quantizer.averages._codebook.embed[0] = torch.tensor([[0.0, 2.0], [-9.0, -9.0]])
    x = torch.tensor([[[1.0, 0.0]]], requires_grad=True)
    out = quantizer(x, generator=seeded(0), progress=LEARNING_END)
    assert_close(out.quantized, torch.tensor([[[0.0, 2.0]]]), rtol=0, atol=1e-5)
    (gradient,) = torch.autograd.grad(out.quantized[0, 0, 1], x)
    # x along +x moves the output along +y, doubled; x along +y moves it along −x.
    assert_close(gradient, torch.tensor([[[2.0, 0.0]]]), rtol=0, atol=1e-5)


# ── names


def test_a_missing_package_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "vector_quantize_pytorch", None)
    monkeypatch.delitem(sys.modules, "laq_model.quantizers.fsq")
    with pytest.raises(ConfigError, match=r"'fsq' needs the package vector-quantize-pytorch .*laq\[vq\]'"):
        build_quantizer("fsq", codebook_size=SIZE, dim=DIM, num_positions=POSITIONS)
