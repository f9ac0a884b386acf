"""A step is the mean over its pairs, however they are shared over turns."""

import dataclasses

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.utils._python_dispatch import TorchDispatchMode

from laq_model.batch_rows import step_generator
from laq_model.checkpoint import open_run
from laq_model.concerto_laq import ConcertoLAQ
from laq_model.errors import ConfigError, RunError
from laq_model.structures import UNKNOWN, PairTokens
from laq_model.training.config import OptimizationConfig, TrainConfig
from laq_model.training.loop import train
from laq_model.training.optimizer import build_optimizer, learning_rate_at
from laq_model.training.step import Rows, num_seeing, objective, rows_of_process, take_step
from synthetic_store import FEATURE_CHANNELS, action_tokens
from tiny_training import MODEL, small_store, tiny_config


def rows_of(tokens: PairTokens, rows: Rows) -> PairTokens:
    part = slice(rows.first, rows.first + rows.count)
    return PairTokens(tokens.feat[part], tokens.state[part], tokens.position[part], tokens.is_valid[part])


def started_model() -> ConcertoLAQ:
    torch.manual_seed(0)
    model = ConcertoLAQ(dataclasses.replace(MODEL, feature_channels=FEATURE_CHANNELS)).train()
    model(action_tokens(8, seed=5), generator=torch.Generator().manual_seed(0))  # the codebook starts
    return model


def stepped(tokens: PairTokens, config: OptimizationConfig) -> tuple[ConcertoLAQ, dict[str, float]]:
    model = started_model()
    turns = [(rows, rows_of(tokens, rows)) for rows in rows_of_process(0, config)]
    losses, _ = take_step(model, build_optimizer(model, config), turns, Accelerator(cpu=True), config, step=3)
    return model, losses


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3])
def test_turns_give_the_gradient_of_the_whole_batch(micro_batch_size):
    """Also where some pairs see no place twice, and where the last turn is shorter."""
    tokens = action_tokens(8)
    tokens.state[1, 1] = UNKNOWN
    tokens.state[6, 0] = UNKNOWN
    whole, losses = stepped(tokens, OptimizationConfig(batch_size=8, num_steps=10))
    shared, shared_losses = stepped(
        tokens, OptimizationConfig(batch_size=8, num_steps=10, micro_batch_size=micro_batch_size)
    )
    for (name, parameter), other in zip(whole.named_parameters(), shared.parameters(), strict=True):
        # Sums in another order: a few units in the last place of the largest gradients (about 1).
        torch.testing.assert_close(
            other.grad, parameter.grad, rtol=1e-4, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert shared_losses["gradient_norm"] == pytest.approx(losses["gradient_norm"], rel=1e-5)


class CastsOf(TorchDispatchMode):
    """Counts how often each of these tensors is turned into another type."""

    def __init__(self, tensors: list[torch.Tensor]):
        super().__init__()
        self.counts = {tensor.data_ptr(): 0 for tensor in tensors}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and args[0].data_ptr() in self.counts:
            self.counts[args[0].data_ptr()] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def bf16():
    """An accelerator that computes products in bfloat16; the precision is state of the whole process."""
    AcceleratorState._reset_state(True)
    yield Accelerator(cpu=True, mixed_precision="bf16")
    AcceleratorState._reset_state(True)


def test_bfloat16_casts_each_weight_once_and_gives_all_turns_a_gradient(bf16):
    tokens, gradients = action_tokens(8), {}
    for size in (8, 2):
        config = OptimizationConfig(batch_size=8, num_steps=10, micro_batch_size=size)
        model = started_model()
        turns = [(rows, rows_of(tokens, rows)) for rows in rows_of_process(0, config)]
        with CastsOf(
            [layer.weight for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
        ) as casts:
            take_step(model, build_optimizer(model, config), turns, bf16, config, step=3)
        assert set(casts.counts.values()) == {1}
        gradients[size] = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    difference = gradients[8] - gradients[2]
    assert difference.norm() < 0.02 * gradients[8].norm()  # a turn's gradients are rounded to 8 bits


def test_what_is_not_reported_is_not_computed_and_changes_nothing(monkeypatch):
    config, tokens = OptimizationConfig(batch_size=4, num_steps=10), action_tokens(4)
    silent = started_model()
    asked = []
    monkeypatch.setattr(silent.quantizer, "lookup", asked.append)
    options = {"step": 3, "is_reported": False}
    turns, accelerator = [(Rows(0, 4), tokens)], Accelerator(cpu=True)
    losses, _ = take_step(silent, build_optimizer(silent, config), turns, accelerator, config, **options)
    model, reported = stepped(tokens, config)
    assert not asked
    assert losses == {name: value for name, value in reported.items() if name != "hard_code_loss"}
    for value, other in zip(silent.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(value, other)


def test_a_pair_that_sees_nothing_twice_counts_as_one_without_error():
    tokens = action_tokens(4)
    tokens.state[2, 0] = UNKNOWN
    assert num_seeing(tokens) == 3
    out = started_model()(tokens, generator=step_generator(0, first_row=0, batch_size=4))
    of_codebook = sum(term.item() for term in out.loss_terms.values())
    expected = 0.75 * (out.loss.item() - of_codebook) + of_codebook
    assert expected < out.loss.item()
    assert objective(out, tokens).item() == pytest.approx(expected, rel=1e-6)


def test_rows_of_a_process_are_disjoint_and_complete():
    config = OptimizationConfig(batch_size=7, micro_batch_size=3)
    assert rows_of_process(0, config) == [Rows(0, 3), Rows(3, 3), Rows(6, 1)]
    assert rows_of_process(2, config) == [Rows(14, 3), Rows(17, 3), Rows(20, 1)]
    assert rows_of_process(1, OptimizationConfig(batch_size=4)) == [Rows(4, 4)]


def test_the_rate_follows_steps_not_turns():
    """Warm-up of a tenth: with 20 steps, step 0 takes half of the peak and step 2 the peak."""
    config = OptimizationConfig(num_steps=20, learning_rate=1e-3)
    assert learning_rate_at(0, config) == pytest.approx(5e-4)
    assert learning_rate_at(2, config) == pytest.approx(1e-3)
    assert learning_rate_at(11, config) == pytest.approx(5e-4)
    _, losses = stepped(action_tokens(8), dataclasses.replace(config, batch_size=8, micro_batch_size=2))
    assert losses["learning_rate"] == learning_rate_at(3, config)


def test_features_that_are_not_finite_are_refused():
    tokens = action_tokens(4)
    tokens.feat[0, 0, 0, 0] = float("nan")
    with pytest.raises(RunError, match=r"step 4 cannot be taken: the tokens hold NaN or infinite values"):
        stepped(tokens, OptimizationConfig(batch_size=4, num_steps=10))


def test_a_loss_that_is_not_finite_changes_nothing():
    config = OptimizationConfig(batch_size=4, num_steps=10)
    model = started_model()
    with torch.no_grad():
        model.forward_dynamics.head.weight.fill_(float("inf"))
    before = {name: value.clone() for name, value in model.named_parameters()}
    turns = [(Rows(0, 4), action_tokens(4))]
    with pytest.raises(
        RunError, match=r"the loss or its gradient is not finite at step 4; the last checkpoint"
    ):
        take_step(model, build_optimizer(model, config), turns, Accelerator(cpu=True), config, step=3)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]), name


def test_a_control_run_says_so_and_its_codes_go_to_another_pair(tmp_path):
    config = tiny_config(small_store(tmp_path / "store"), tmp_path / "run", num_steps=2, shuffle_pairs=True)
    train(config)
    assert open_run(tmp_path / "run").record["config"]["shuffle_pairs"] is True
    model, tokens = started_model().eval(), action_tokens(5)
    right, wrong = model(tokens), model(tokens, shuffle_pairs=True)
    assert torch.equal(right.code_index, wrong.code_index)
    told = right.code_index.roll(1, 0)  # pair 1 is told the codes of pair 0
    assert wrong.prediction_loss.item() == pytest.approx(model.prediction_error(tokens, told).mean().item())
    assert wrong.prediction_loss.item() != right.prediction_loss.item()
    assert wrong.motion_loss.item() != right.motion_loss.item()


@pytest.mark.parametrize(("batch_size", "micro_batch_size"), [(1, 0), (4, 1), (7, 3)])
def test_a_control_needs_a_second_pair_at_every_turn(tmp_path, batch_size, micro_batch_size):
    options = OptimizationConfig(batch_size=batch_size, micro_batch_size=micro_batch_size)
    with pytest.raises(ConfigError, match="at least two must go through the model at once"):
        TrainConfig(optimization=options, shuffle_pairs=True)
    TrainConfig(optimization=options)
