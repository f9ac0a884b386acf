"""Latent action tokens from plain video: VGGT geometry, Concerto point features, NSVQ codes."""

__version__ = "0.1.0"
