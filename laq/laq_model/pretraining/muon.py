"""Muon: momentum that is made an orthogonal matrix before it is applied; all directions learn equally fast.

Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks" (the iteration and its
coefficients); Liu et al. 2025 (arXiv 2502.16982), §2.2, for the scale that lets AdamW's learning rate and
decay be kept. Departure: matrices of one shape are orthogonalised together, as one batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # a, b, c of x → a·x + b·x³ + c·x⁵: fast for small singular values
NEWTON_SCHULZ_STEPS = 5
ADAMW_LIKE_SIZE = 0.2  # root mean square of an update, as AdamW's usually is


class Muon(torch.optim.Optimizer):
    """For hidden matrices only; norms, biases, tokens, first and last layers stay with AdamW."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ):
        """``dtype`` is that of the iteration: bfloat16 is exact enough, but crawls on a CPU without it."""
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update from the present gradients (Nesterov momentum)."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                momenta = torch.stack([self._momentum(p, group["momentum"]) for p in parameters])
                update = orthogonal(momenta, dtype=self._dtype)
                size = ADAMW_LIKE_SIZE * max(update.shape[-2:]) ** 0.5
                for parameter, direction in zip(parameters, update, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(direction, alpha=-group["lr"] * size)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        assert parameter.grad is not None
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        buffer = state["momentum"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(buffer, momentum)


def orthogonal(
    matrices: Float[Tensor, "batch rows columns"], *, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "batch rows columns"]:
    """Nearly U·Vᵀ of each matrix U·S·Vᵀ: its singular values come to lie within about 0.7 and 1.2."""
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if is_tall else x).to(matrices.dtype)
