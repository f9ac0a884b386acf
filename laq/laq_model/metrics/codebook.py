"""How much of a codebook is in use."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class CodeUsage:
    """Use of the codes over a set of pairs.

    Attributes:
        used_fraction: share of codes that occur, all token positions together.
        perplexity: exp of the entropy of the codes, all token positions together.
        position_used_fraction: share of codes that occur at each token position.
        position_perplexity: the same entropy for each token position.
        num_joint: different combinations of codes; a pair has one.
        joint_perplexity: exp of the entropy of the combinations; at most the number of pairs.
    """

    used_fraction: float
    perplexity: float
    position_used_fraction: list[float]
    position_perplexity: list[float]
    num_joint: int
    joint_perplexity: float


def code_usage(codes: Int[Tensor, "pairs positions"], *, codebook_size: int) -> CodeUsage:
    """Count codes per position, together, and as whole combinations.

    Raises:
        ValueError: no pairs, or a code outside the codebook.
    """
    if codes.numel() == 0:
        raise ValueError("code_usage needs at least one pair of frames with at least one code")
    if int(codes.min()) < 0 or int(codes.max()) >= codebook_size:
        raise ValueError(
            f"codes must be in 0 .. {codebook_size - 1}, got {int(codes.min())} .. {int(codes.max())}"
        )
    hits = torch.stack([torch.bincount(column, minlength=codebook_size) for column in codes.T])
    _, joint_hits = torch.unique(codes, dim=0, return_counts=True)
    return CodeUsage(
        used_fraction=float((hits.sum(0) > 0).float().mean()),
        perplexity=float(perplexity(hits.sum(0))),
        position_used_fraction=(hits > 0).float().mean(-1).tolist(),
        position_perplexity=perplexity(hits).tolist(),
        num_joint=len(joint_hits),
        joint_perplexity=float(perplexity(joint_hits)),
    )


def perplexity(hits: Int[Tensor, "*positions codes"]) -> Float[Tensor, "*positions"]:
    """exp of the entropy (natural logarithm) of the share of each code; 1 where nothing was hit."""
    share = hits.double() / hits.sum(-1, keepdim=True).clamp(min=1)
    return torch.exp(-torch.xlogy(share, share).sum(-1))


def same_code_fraction(
    first: Int[Tensor, "pairs positions"], second: Int[Tensor, "pairs positions"]
) -> float:
    """Share of token positions with equal codes, for one motion labelled twice (by two cameras, say)."""
    return float((first == second).float().mean())
