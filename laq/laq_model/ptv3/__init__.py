"""Point Transformer V3, the encoder of Concerto and Sonata, in plain PyTorch.

Wu et al., "Point Transformer V3: Simpler, Faster, Stronger", CVPR 2024, in the variant of the Sonata and
Concerto releases (encoder only). The orders of a stage are never shuffled, and patches follow the
variable-length attention that the published weights were trained with.
"""

from .config import PTv3Config
from .model import PointTransformerV3, build_ptv3
from .official_weights import load_official_weights
from .separate_clouds import point_features
from .stages import EncodedClouds, EncodedStage

__all__ = [
    "EncodedClouds",
    "EncodedStage",
    "PTv3Config",
    "PointTransformerV3",
    "build_ptv3",
    "load_official_weights",
    "point_features",
]
