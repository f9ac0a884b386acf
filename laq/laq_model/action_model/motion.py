"""Where the matter of a scene went, in three numbers that no flicker of single places can hide.

A code must first of all say how things moved. Single places are poor witnesses: what a network says of them
changes with every view. The middle of all displacements says it plainly, and in the same words from every
camera, so it is read, and is a target, beside the places' own change.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..structures import DISPLACEMENT, OCCUPANCY, SEEN_THROUGH, UNKNOWN, PairTokens

MOTION_CHANNELS = 3
_FEW = 0.1  # places: below about this many, motion counts as small
_ITERATIONS, _NEAR_M = 8, 0.01
_LEAST = 0.5  # places: the middle of less is the place of a speck
_SPECK = 1 / 512  # of a pair's places: that so little of them moved is not to be believed
_HIDDEN = 128


def seen_by_both(pair: PairTokens) -> Bool[Tensor, "pairs tokens"]:
    """Places of which both frames say something; only these can testify."""
    return (pair.state != UNKNOWN).all(1) & pair.is_valid


def moved_mass(pair: PairTokens) -> Float[Tensor, "pairs 2 tokens"]:
    """What of each place the other frame sees through: gone later, in frame 0; not yet there, in frame 1."""
    occupancy, seen_through = pair.feat[..., OCCUPANCY], pair.feat[..., SEEN_THROUGH]
    return occupancy.float() * seen_through.float() * seen_by_both(pair)[:, None]


def mass_centres(pair: PairTokens) -> Float[Tensor, "pairs 2 3"]:
    """Centre of what is gone later, and of what is not yet there, in half sides of the box: where the motion
    goes from, and where it goes to. NaN where of either there is less than half a place.
    """
    mass = moved_mass(pair)
    total = mass.sum(-1, keepdim=True)
    centre = torch.einsum("pft,ptc->pfc", mass, pair.position.float()) / total
    return centre.masked_fill((total < _LEAST).any(1, keepdim=True), torch.nan)


def scene_motion(pair: PairTokens) -> Float[Tensor, "pairs motion_channels"]:
    """Middle (geometric median) of the displacements found of the moved mass; metres, frame 0 to frame 1.

    A mean would tell how much of each body a camera sees, too. Zero where nothing moved, and exactly zero for
    a frame paired with itself. Weiszfeld's iteration, with distances rounded off near zero.
    """
    displacement = pair.feat[..., DISPLACEMENT].float().flatten(1, 2)
    found = (moved_mass(pair).flatten(1) * (displacement != 0).any(-1))[..., None]
    total = found.sum(1)
    middle = (found * displacement).sum(1) / total.clamp(min=_FEW)
    for _ in range(_ITERATIONS):
        distance = (displacement - middle[:, None]).norm(dim=-1, keepdim=True)
        pull = found / (distance + _NEAR_M)
        middle = (pull * displacement).sum(1) / pull.sum(1).clamp(min=_FEW)
    return middle * total / (total + _FEW)


def stands_still(
    pair: PairTokens,
    *,
    mass: Float[Tensor, "pairs 2 tokens"],
    motion: Float[Tensor, "pairs motion_channels"],
) -> Bool[Tensor, " pairs"]:
    """Nothing is known to move: hardly any place is seen through, and no displacement was found.

    What changes in such a pair is what a network says of places that are seen from elsewhere, or in another
    light.

    Args:
        mass: ``moved_mass`` of the pair.
        motion: ``scene_motion`` of the pair.
    """
    is_speck = mass.sum(dim=(1, 2)) <= _SPECK * pair.is_valid.sum(1)
    return is_speck & (motion == 0).all(-1)


class MotionHead(nn.Module):
    """The codes' vectors alone → the scene's motion, in the training set's deviations.

    It sees no frame, so the codes must name the motion in the same words whatever the scene and the camera.
    """

    def __init__(self, *, code_seq_len: int, quantizer_dim: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(code_seq_len * quantizer_dim, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, MOTION_CHANNELS)
        )

    def forward(
        self, vectors: Float[Tensor, "pairs code_seq_len quantizer_dim"]
    ) -> Float[Tensor, "pairs motion_channels"]:
        """Pair by pair."""
        return self.layers(vectors.flatten(1))
