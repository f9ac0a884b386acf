"""Weights from which a VGGT can be trained: small matrices, and a camera head that starts at a camera.

Matrices and tokens are drawn from N(0, 0.02²) as in DINOv2; LayerScale starts as in VGGT; convolutions as
in torch. The field of view passes a relu, so the camera head's last bias makes the four steps add up to the
identity pose and a field of view of 1 rad: a start below 0 would never get a gradient.
"""

from __future__ import annotations

import torch
from torch import nn

from .camera_head import POSE_SIZE, REFINEMENT_STEPS, CameraHead

START_DEVIATION = 0.02
START_POSE_DEVIATION = 0.002  # of the pose layer, so that its bias rules at first
START_POSE = (
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    1.0,
    1.0,
    1.0,
)  # translation, quaternion xyzw, field of view (rad)
TOKENS = ("cls_token", "register_tokens", "pos_embed", "camera_token", "register_token", "empty_pose_tokens")


@torch.no_grad()
def start_weights(network: nn.Module) -> None:
    """Draw the weights of a whole network, from torch's global generator."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=START_DEVIATION)
            nn.init.zeros_(module.bias)
    for name, parameter in network.named_parameters():
        own_name = name.rpartition(".")[2]
        if own_name in TOKENS:
            nn.init.normal_(parameter, std=START_DEVIATION)
        elif own_name == "mask_token":
            nn.init.zeros_(parameter)
    for module in network.modules():
        if isinstance(module, CameraHead):
            _start_at_a_camera(module.pose_branch.fc2)


def _start_at_a_camera(pose_layer: nn.Linear) -> None:
    nn.init.normal_(pose_layer.weight, std=START_POSE_DEVIATION)
    pose = torch.tensor(START_POSE, dtype=pose_layer.bias.dtype).view(POSE_SIZE)
    pose_layer.bias.copy_(pose / REFINEMENT_STEPS)
