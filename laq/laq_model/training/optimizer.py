"""AdamW and its learning rate, as functions of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from .config import OptimizationConfig


def build_optimizer(model: nn.Module, config: OptimizationConfig) -> torch.optim.AdamW:
    """AdamW; weight decay acts on matrices only, not on norms, biases or single vectors."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=True)


def learning_rate_at(step: int, config: OptimizationConfig) -> float:
    """Linear warm-up, then a cosine to zero at ``num_steps``; ``step`` counts from 0."""
    warmup = min(config.warmup_steps, config.num_steps // 10)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, config.num_steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
