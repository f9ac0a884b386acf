"""VGGT: frames of a scene to depth, confidence and cameras, in plain PyTorch.

Wang et al., "VGGT: Visual Geometry Grounded Transformer", CVPR 2025: the aggregator with its DINOv2 patch
embedding, the camera head and the depth head. The point and track heads are not here; world points come from
depth and camera, which its authors prefer too.
"""

from .config import VGGT_1B, VGGTConfig
from .model import VGGT, VGGTOutput, build_vggt
from .official_images import load_images, load_square_images
from .official_weights import load_official_weights

__all__ = [
    "VGGT",
    "VGGT_1B",
    "VGGTConfig",
    "VGGTOutput",
    "build_vggt",
    "load_images",
    "load_official_weights",
    "load_square_images",
]
