"""The tiny VGGT as it is trained: its configuration, its first weights, and outputs that do not ship."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..vggt import VGGT, VGGTOutput, build_vggt
from ..vggt.camera_head import REFINEMENT_STEPS
from .matching import GuidedAttention

# Width and depth by measured throughput; the names are those of the published configuration. Patches of 8
# pixels instead of 14: a hand has eight, and what a patch says of its inside is blurred.
TINY_NETWORK: dict[str, Any] = {
    "img_size": 112,
    "patch_size": 8,
    "embed_dim": 192,
    "vit_depth": 2,
    "vit_num_heads": 3,
    "vit_num_register_tokens": 4,
    "depth": 4,
    "num_heads": 3,
    "mlp_ratio": 4,
    "num_register_tokens": 4,
    "rope_freq": 100,
    "camera_trunk_depth": 1,
    "camera_num_heads": 6,
    "dpt_features": 48,
    "dpt_out_channels": [32, 48, 64, 96],
    "dpt_layers": [0, 1, 2, 3],
}
START_LAYER_SCALE = (
    0.2  # VGGT starts at 0.01 from a trained ViT; few layers from nothing learn faster like this
)
# Translation, quaternion xyzw, field of view. A camera head that must first walk there from zero arrives with
# its hidden units dead and answers the same for every picture.
TYPICAL_POSE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.87, 0.87)


class VGGTInTraining(nn.Module):
    """The network, and an extra linear output that does not ship: each patch's flow to the first view.

    It reads the last aggregator layer but one, where the camera token of the last layer then finds the flow.
    """

    def __init__(self, network: VGGT):
        super().__init__()
        self.network = network
        self.flow = nn.Linear(2 * network.config.embed_dim, 2)
        nn.init.zeros_(self.flow.weight)
        nn.init.zeros_(self.flow.bias)
        self._attention = GuidedAttention(network)
        self._layers: dict[int, Tensor] = {}
        network.aggregator.register_forward_hook(lambda module, inputs, layers: self._layers.update(layers))

    def forward(
        self, frames: Float[Tensor, "scenes views 3 height width"]
    ) -> tuple[
        VGGTOutput,
        Float[Tensor, "scenes views rows columns 2"],
        Float[Tensor, "scenes views patches patches_of_first"],
    ]:
        """What VGGT says, the flow, and the logarithm of the guided attention."""
        out = self.network(frames)
        config = self.network.config
        patches = self._layers[max(0, config.depth - 2)][:, :, 1 + config.num_register_tokens :]
        self._layers.clear()
        grid = (frames.shape[-2] // config.patch_size, frames.shape[-1] // config.patch_size)
        flow = self.flow(patches).float().unflatten(2, grid)
        return out, flow, self._attention.take(views=frames.shape[1], grid=grid)


def new_network(config: dict[str, Any], seed: int) -> VGGT:
    """A VGGT with random weights whose blocks count from the start, and whose cameras are typical ones."""
    torch.manual_seed(seed)
    network = build_vggt(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(".gamma"):
                parameter.fill_(START_LAYER_SCALE)
        bias = network.camera_head.pose_branch.fc2.bias
        bias.copy_(torch.tensor(TYPICAL_POSE) / REFINEMENT_STEPS)  # every step adds it once
    return network
