"""Is a training run collapsing? Figures that show it early, and what to say about them.

Perplexity alone is a bad gate: it can rise while the codes lose their meaning, as can a training error that
sees more than the codes. So a look at a run's health has several figures, and each warning names its own.
Everything here is pure; training and evaluation decide when to look and where to say it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

DUPLICATE_DISTANCE = 1e-3  # of the codes' root mean square distance from their mean
ROWS_AT_ONCE = 1024  # of the codebook, compared with all others

LOW_PERPLEXITY = 0.1  # of the codebook, or of the number of pairs where these are fewer
FALLEN_PERPLEXITY = 0.5  # of the best so far
LEARNED_BY = 0.1  # share of the training after which copying must be beaten
HARD_BY = 0.5  # share of the training after which the predictor must read the codes alone
LARGE_GAP = 0.1  # of the training error
MOST_PAIRS = 0.5
IDLE_LOOKS = 3  # at one step a batch of still pairs may leave something idle


@dataclass(frozen=True)
class Health:
    """One look at a run.

    Attributes:
        progress: share of the training that is done, 0 to 1; 1 for a trained model.
        codebook_size: number of codes.
        num_pairs: pairs that were counted, in a window of steps or a held-out set.
        position_perplexity: exp of the entropy of their codes at each token position.
        copy_ratio: held-out error with hard codes / error of copying the current frame.
        hard_code_gap: (error with hard codes − error with what training saw) / the latter, on the same pairs.
        num_duplicates: codes that have the same place as another (see ``count_duplicates``).
        identical_token_fraction: share of pairs all of whose tokens are one code.
        idle_parameters: trainable parameters that the step before the look gave no gradient.
    """

    progress: float
    codebook_size: int
    num_pairs: int
    position_perplexity: Sequence[float]
    copy_ratio: float
    hard_code_gap: float = 0.0
    num_duplicates: int = 0
    identical_token_fraction: float = 0.0
    idle_parameters: Sequence[str] = field(default_factory=tuple)


def find_warnings(history: Sequence[Health]) -> dict[str, str]:
    """What is wrong at the last look, judged beside the earlier ones: kind → one line with the figures.

    A run without trouble gives none. Young runs are judged gently: they need not beat copying yet.
    """
    now = history[-1]
    found = {
        "low_perplexity": _low_perplexity(now),
        "falling_perplexity": _falling_perplexity(history),
        "copying": _copying(now),
        "leak": _leak(now),
        "duplicates": _duplicates(now),
        "identical_tokens": _identical_tokens(now),
        "idle_parameters": _idle_parameters(history[-IDLE_LOOKS:]),
    }
    return {kind: text for kind, text in found.items() if text}


def idle_parameters(network: nn.Module) -> list[str]:
    """Trainable parameters whose gradient, after a backward pass, is missing, zero or not finite."""
    return [
        name for name, value in network.named_parameters() if value.requires_grad and _is_idle(value.grad)
    ]


def terms_without_gradient(
    terms: Mapping[str, Float[Tensor, ""]], parameters: Iterable[nn.Parameter]
) -> list[str]:
    """Loss terms that teach nothing: no parameter gets a gradient from them.

    An entropy of counted codes is one: counts have no slope, so such a term is a constant to the optimiser.
    The graph is kept, so a backward pass may follow.
    """
    wanted = [value for value in parameters if value.requires_grad]
    return [name for name, term in terms.items() if not _reaches(term, wanted)]


def count_duplicates(codes: Float[Tensor, "codebook_size dim"]) -> int:
    """Codes with another code nearer than ``DUPLICATE_DISTANCE`` of the codebook's spread.

    Of two such codes one is never chosen, whatever the counts say: a "replaced" code that copies another with
    invisible noise stays unused for ever.
    """
    codes = codes.detach().double()
    spread = (codes - codes.mean(0)).square().sum(-1).mean().sqrt()
    if len(codes) > 1 and float(spread) == 0:
        return len(codes)
    number = torch.arange(len(codes), device=codes.device)
    count = 0
    for rows in number.split(ROWS_AT_ONCE):
        distance = torch.cdist(codes[rows], codes)
        distance[rows[:, None] == number] = torch.inf
        count += int((distance.amin(1) < DUPLICATE_DISTANCE * spread).sum())
    return count


def identical_token_fraction(codes: Int[Tensor, "pairs positions"]) -> float:
    """Share of pairs all of whose tokens are one code; 0 where there is only one token.

    Four tokens made from one pooled vector are identical always, and say no more than one.
    """
    if codes.shape[1] < 2:
        return 0.0
    return float((codes == codes[:, :1]).all(1).float().mean())


def _is_idle(gradient: Tensor | None) -> bool:
    return gradient is None or not bool(torch.isfinite(gradient).all() & (gradient != 0).any())


def _reaches(term: Tensor, parameters: list[nn.Parameter]) -> bool:
    if not term.requires_grad:
        return False
    gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return any(not _is_idle(gradient) for gradient in gradients)


def _low_perplexity(now: Health) -> str:
    reachable = min(now.codebook_size, now.num_pairs)
    limit = max(LOW_PERPLEXITY * reachable, min(1.5, 0.5 * reachable))
    low = [f"{place}: {value:.1f}" for place, value in enumerate(now.position_perplexity) if value < limit]
    if not low:
        return ""
    return (
        f"few codes are in use: perplexity at token position {', '.join(low)} of {now.codebook_size} codes; "
        "a collapse shows so. Look at the loss terms' gradients and the pairs' motion"
    )


def _falling_perplexity(history: Sequence[Health]) -> str:
    now = history[-1].position_perplexity
    best = [max(values) for values in zip(*(look.position_perplexity for look in history), strict=True)]
    fallen = [
        f"{place}: {top:.1f} to {value:.1f}"
        for place, (value, top) in enumerate(zip(now, best, strict=True))
        if value < FALLEN_PERPLEXITY * top
    ]
    if not fallen:
        return ""
    return (
        f"codes fall out of use: perplexity at token position {', '.join(fallen)}; "
        "go back to the best checkpoint, or lower --learning_rate"
    )


def _copying(now: Health) -> str:
    if now.progress < LEARNED_BY or now.copy_ratio < 1:
        return ""
    return (
        "the prediction is no better than copying the current frame "
        f"(held-out copy ratio {now.copy_ratio:.2f}); the codes carry nothing yet"
    )


def _leak(now: Health) -> str:
    if now.progress < HARD_BY or now.hard_code_gap <= LARGE_GAP:
        return ""
    return (
        f"training sees more than the codes: hard codes have {100 * now.hard_code_gap:.0f} % more error "
        "on the same pairs; labels will be worse than the training loss says"
    )


def _duplicates(now: Health) -> str:
    if not now.num_duplicates:
        return ""
    return (
        f"{now.num_duplicates} of {now.codebook_size} codes have the place of another; "
        "the second of each two can never be chosen"
    )


def _identical_tokens(now: Health) -> str:
    if now.identical_token_fraction <= MOST_PAIRS:
        return ""
    return (
        f"all tokens of a pair are one code in {100 * now.identical_token_fraction:.0f} % of the pairs; "
        "more tokens say no more than one"
    )


def _idle_parameters(recent: Sequence[Health]) -> str:
    idle = [
        name for name in recent[-1].idle_parameters if all(name in look.idle_parameters for look in recent)
    ]
    if not idle:
        return ""
    names, more = ", ".join(idle[:3]), len(idle) - 3
    return f"no gradient reaches {names}" + (f" and {more} more parameters" if more > 0 else "")
