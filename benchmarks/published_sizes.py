"""Networks of the published sizes with random weights, and clouds for them: nothing has to be fetched."""

from __future__ import annotations

import json

import torch
from measuring import ROOT
from torch import Tensor

from laq_model.vggt import VGGT, build_vggt

MEBI = 2**20
MANIFEST = ROOT / "tests" / "golden" / "ptv3_manifest.json"
CELL_M = 0.02


def random_vggt(config: dict, *, dtype: torch.dtype, device: torch.device) -> VGGT:
    """A network of these sizes whose activations stay near 1; filled in pieces, in its own memory."""
    with torch.device("meta"):
        network = build_vggt(config)
    if dtype != torch.float32:
        network.shorten_aggregator(dtype)
    network.to_empty(device=device)
    noise = torch.randn(4 * MEBI, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(".gamma"):
                parameter.fill_(0.1)
            elif parameter.ndim == 1:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            else:
                scale = parameter[0].numel() ** -0.5
                for piece in parameter.view(-1).split(len(noise)):
                    piece.copy_(noise[: len(piece)] * scale)
    return network.requires_grad_(False).eval()


def published_config(model: str) -> dict:
    """The configuration that travels with a published checkpoint."""
    return json.loads(MANIFEST.read_text())["models"][model]["config"]


def surface_cloud(num_points: int, *, seed: int) -> dict[str, Tensor]:
    """Cells of a bent surface, colours and normals at random."""
    generator = torch.Generator().manual_seed(seed)
    side = int(num_points**0.5) + 1
    x, y = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    z = (20 + torch.sin(x / 14 + seed) + torch.cos(y / 11)).round().long()
    cells = torch.stack([x, y, z], dim=-1).flatten(0, 1)[:num_points]
    normals = torch.nn.functional.normalize(torch.randn(num_points, 3, generator=generator), dim=1)
    colors = torch.rand(num_points, 3, generator=generator)
    coord = cells * CELL_M
    return {"coord": coord, "grid_coord": cells, "feat": torch.cat([coord, colors, normals], dim=1)}


def surface_clouds(num_points: int, num_clouds: int, device: torch.device) -> dict[str, Tensor]:
    clouds = [surface_cloud(num_points, seed=seed) for seed in range(num_clouds)]
    joined = {name: torch.cat([cloud[name] for cloud in clouds]).to(device) for name in clouds[0]}
    return joined | {"offset": torch.arange(1, num_clouds + 1) * num_points}
