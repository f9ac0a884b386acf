"""What can be read off a representation: linear and small non-linear probes, judged on held-out rows.

R² = 1 − (squared error) / (squared distance from the held-out mean), for each target dimension; 0 is what a
constant reaches, and a probe that fails to transfer falls below 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Of standardised inputs; rows are summed, not averaged.
RIDGE_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)
INNER_FOLDS = 4
MLP_STEPS = 400  # at most
MLP_LOOK_EVERY = 10
MLP_PATIENCE = 80  # steps without a better look
MLP_HIDDEN = 128
_CONSTANT = 1e-8  # a deviation that is rounding


@dataclass(frozen=True)
class ProbeResult:
    """A probe's held-out figures.

    Attributes:
        r2: for each target dimension.
        r2_mean: their mean.
        prediction: of the held-out targets, in their own units.
    """

    r2: list[float]
    r2_mean: float
    prediction: Float[Tensor, "test_rows targets"]


def ridge_probe(
    x_train: Float[Tensor, "train_rows dim"],
    y_train: Float[Tensor, "train_rows targets"],
    x_test: Float[Tensor, "test_rows dim"],
    y_test: Float[Tensor, "test_rows targets"],
    *,
    groups: Sequence[str] | None = None,
) -> ProbeResult:
    """Ridge regression in closed form, inputs and targets standardised on the training rows.

    The strength is the one of ``RIDGE_STRENGTHS`` that predicts best in an inner cross-validation over the
    training rows; rows of one group (an episode, say) are never on both of its sides.

    Args:
        groups: the group of each training row; without it each row is its own.

    Raises:
        ValueError: too few rows or groups for an inner split.
    """
    x_train, y_train, x_test = x_train.double(), y_train.double(), x_test.double()
    fold = _folds(len(x_train), groups)
    error = torch.zeros(len(RIDGE_STRENGTHS), dtype=torch.float64, device=x_train.device)
    for number in range(int(fold.max()) + 1):
        inside = (fold != number).to(x_train.device)
        ridge = _Ridge(x_train[inside], y_train[inside])
        for place, strength in enumerate(RIDGE_STRENGTHS):
            guess = ridge.predict(x_train[~inside], strength)
            error[place] += ((guess - y_train[~inside]) / _spread(y_train)).square().sum()
    best = RIDGE_STRENGTHS[int(error.argmin())]
    return _judge(_Ridge(x_train, y_train).predict(x_test, best), y_test)


def mlp_probe(
    x_train: Float[Tensor, "train_rows dim"],
    y_train: Float[Tensor, "train_rows targets"],
    x_test: Float[Tensor, "test_rows dim"],
    y_test: Float[Tensor, "test_rows targets"],
    *,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> ProbeResult:
    """Two hidden layers, trained with AdamW on all rows at once; equal seeds, equal bits.

    How long is found on an inner split: a first network learns from most groups, and the step at which it
    told the others best is where a second one, which learns from all, stops. So inputs that tell nothing end
    near the mean, as they do with ridge, instead of far below it.

    Args:
        groups: the group of each training row; without it each row is its own.

    Raises:
        ValueError: too few rows or groups for an inner split.
    """
    is_varied = x_train.std(0, correction=0) > _CONSTANT  # many columns of one-hot codes are not
    if not bool(is_varied.any()):
        return _judge(y_train.mean(0).expand(len(y_test), -1), y_test)
    x_train, x_test = x_train[:, is_varied], x_test[:, is_varied]
    x_mean, x_std, y_mean, y_std = x_train.mean(0), _spread(x_train), y_train.mean(0), _spread(y_train)
    x, y = (x_train.float() - x_mean) / x_std, (y_train.float() - y_mean) / y_std
    is_inner = (_folds(len(x), groups) == 0).to(x.device)
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), torch.enable_grad():
        inner = (x[~is_inner], y[~is_inner], x[is_inner], y[is_inner])
        network = _train_mlp(x, y, steps=_best_step(*inner, seed=seed), seed=seed)
    if network is None:
        return _judge(y_mean.expand(len(y_test), -1), y_test)
    with torch.no_grad():
        return _judge(network.eval()((x_test.float() - x_mean) / x_std) * y_std + y_mean, y_test)


def r2_per_dimension(
    prediction: Float[Tensor, "rows targets"], target: Float[Tensor, "rows targets"]
) -> Float[Tensor, " targets"]:
    """1 − residual / variance, for each dimension; NaN where the target is constant."""
    prediction, target = prediction.double(), target.double()
    residual = (prediction - target).square().sum(0)
    variance = (target - target.mean(0)).square().sum(0)
    return torch.where(variance > 0, 1 - residual / variance, torch.nan)


def _judge(prediction: Tensor, target: Tensor) -> ProbeResult:
    r2 = r2_per_dimension(prediction, target)
    return ProbeResult(r2=r2.tolist(), r2_mean=float(r2.nanmean()), prediction=prediction.to(target.dtype))


def _spread(x: Tensor) -> Tensor:
    std = x.std(0, correction=0)
    return torch.where(std > _CONSTANT, std, torch.ones_like(std))


class _Ridge:
    """One decomposition of the Gram matrix serves every strength; columns that never vary are left out."""

    def __init__(self, x: Tensor, y: Tensor):
        std = x.std(0, correction=0)
        self.is_varied = std > _CONSTANT
        self.x_mean, self.x_std = x.mean(0)[self.is_varied], std[self.is_varied]
        self.y_mean = y.mean(0)
        z = (x[:, self.is_varied] - self.x_mean) / self.x_std
        self.values, self.vectors = torch.linalg.eigh(z.T @ z)
        self.told = self.vectors.T @ (z.T @ (y - self.y_mean))

    def predict(self, x: Tensor, strength: float) -> Tensor:
        weights = self.vectors @ (self.told / (self.values.clamp(min=0) + strength)[:, None])
        return (x[:, self.is_varied] - self.x_mean) / self.x_std @ weights + self.y_mean


def _best_step(x: Tensor, y: Tensor, x_inner: Tensor, y_inner: Tensor, *, seed: int) -> int:
    """The step after which a network told the inner rows best; 0 if it never did better than the mean."""
    best, least = 0, float((y_inner - y.mean(0)).square().mean())
    for step, network in _mlp_steps(x, y, seed=seed):
        if step % MLP_LOOK_EVERY == 0:
            network.eval()
            with torch.no_grad():
                error = float((network(x_inner) - y_inner).square().mean())
            network.train()
            if error < least:
                best, least = step, error
            elif step - best >= MLP_PATIENCE:
                break
    return best


def _train_mlp(x: Tensor, y: Tensor, *, steps: int, seed: int) -> nn.Module | None:
    """The network after this many steps; None after none."""
    for step, network in _mlp_steps(x, y, seed=seed):
        if step == steps:
            return network
    return None


def _mlp_steps(x: Tensor, y: Tensor, *, seed: int) -> Iterator[tuple[int, nn.Module]]:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(x.shape[1], MLP_HIDDEN),
        nn.GELU(),
        nn.Dropout(0.1),
        nn.Linear(MLP_HIDDEN, MLP_HIDDEN),
        nn.GELU(),
        nn.Linear(MLP_HIDDEN, y.shape[1]),
    ).to(x.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, MLP_STEPS)
    for step in range(1, MLP_STEPS + 1):
        optimizer.zero_grad()
        (network(x) - y).square().mean().backward()
        optimizer.step()
        schedule.step()
        yield step, network


def _folds(num_rows: int, groups: Sequence[str] | None) -> Tensor:
    """The inner fold of each training row; groups are dealt out in order of first appearance."""
    names = list(range(num_rows)) if groups is None else list(groups)
    if len(names) != num_rows:
        raise ValueError(f"{len(names)} group names for {num_rows} training rows")
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    if len(number) < 2:
        raise ValueError(f"a probe needs at least 2 training groups for its inner split, got {len(number)}")
    folds = min(INNER_FOLDS, len(number))
    return torch.tensor([number[name] % folds for name in names])
