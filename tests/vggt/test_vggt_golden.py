"""Every tensor of the network's golden files, and of its parts alone."""

import pytest
import torch
from vggt_golden import TOLERANCE, assert_matches, read_golden, read_manifest, relative_error, stages
from vggt_weight_recipe import recipe_weights

from laq_model.vggt import VGGT_1B, build_vggt
from laq_model.vggt.camera_head import CameraHead
from laq_model.vggt.config import parse_config
from laq_model.vggt.depth_head import POSITION_SHARE, position_vectors
from laq_model.vggt.rope import frame_rotation, rotate, rotation_table

WHOLE_NETWORK = [
    "tiny_2x2x70x56_full",
    "tiny_2x1x56x56",
    "tiny_2x3x56x56",
    "tiny_1x1x84x84",
    "tiny_probe_2x2x70x56",
]
DECODED = {
    "images",
    "extrinsics",
    "intrinsics",
    "world_points",
}  # made from the outputs, in laq_model.geometry


@pytest.mark.parametrize("name", WHOLE_NETWORK)
def test_every_stage_matches_the_official_network(name: str):
    golden = read_golden(name)
    ours = stages(golden.network(), golden.tensors["images"])
    expected = {key: value for key, value in golden.tensors.items() if key not in DECODED}
    assert len(expected) >= 10
    assert_matches(ours, expected)
    assert relative_error(ours["final_pose"], golden.tensors["pose_enc"][-1]) <= TOLERANCE


def test_recipe_gives_the_manifest_s_weights():
    checks = read_manifest()["recipe_check"]
    assert len(checks) == 19
    for check in checks:
        (weights,) = recipe_weights(
            {check["key"]: torch.Size(check["shape"])},
            tag=check.get("tag", ""),
            is_probe=check.get("probe", False),
        ).values()
        assert weights.flatten()[:4].tolist() == check["first4"]
        assert weights.double().sum().item() == pytest.approx(check["sum"], rel=1e-9)


@pytest.mark.parametrize("tag", ["u245", "u185"])
def test_camera_head_alone_with_a_field_of_view_that_goes_negative(tag: str):
    golden = read_golden("units")
    head = CameraHead(parse_config(golden.config)).eval()
    shapes = {f"camera_head.{key}": value.shape for key, value in head.state_dict().items()}
    weights = recipe_weights(shapes, tag=f"{tag}:")
    head.load_state_dict({key.removeprefix("camera_head."): value for key, value in weights.items()})
    with torch.no_grad():
        poses = head(golden.tensors["camera_tokens"][:, :, 0])
    assert_matches(
        {"delta": poses.deltas, "pose_enc": poses.encodings},
        {part: golden.tensors[f"camera_{tag}_{part}"] for part in ("delta", "pose_enc")},
    )


@pytest.mark.parametrize("name", ["rope", "rope64"])
def test_rotation_matches_the_official_one(name: str):
    golden = read_golden("units").tensors
    heads = golden[f"{name}_in"].transpose(1, 2)  # golden: batch, heads, tokens, channels
    table = rotation_table(golden[f"{name}_positions"][0], head_channels=heads.shape[-1], base=100.0)
    assert relative_error(rotate(heads, table).transpose(1, 2), golden[f"{name}_out"]) <= TOLERANCE


def test_rotation_of_a_frame_leaves_special_tokens_and_counts_patches_from_one():
    table = frame_rotation(
        (2, 3),
        num_special_tokens=3,
        head_channels=8,
        base=50.0,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    positions = torch.tensor([[0, 0]] * 3 + [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]])
    expected = rotation_table(positions, head_channels=8, base=50.0)
    assert torch.equal(table.cos, expected.cos)
    assert torch.equal(table.signed_sin, expected.signed_sin)
    assert torch.equal(table.cos[:3], torch.ones(3, 8))
    # Channel 1 of the row half turns by row / 50^(2/4).
    assert table.cos[3, 1].item() == pytest.approx(torch.cos(torch.tensor(50.0**-0.5)).item())


@pytest.mark.parametrize(("channels", "size"), [(8, (16, 16)), (24, (5, 4)), (16, (70, 56))])
def test_position_map_matches_the_official_one(channels: int, size: tuple[int, int]):
    golden = read_golden("units").tensors[f"dpt_pos_{channels}x{size[0]}x{size[1]}"]
    aspects = {(5, 4): 56 / 70, (70, 56): 56 / 70, (16, 16): 1.0}
    along_x, along_y = position_vectors(channels, size, aspect=aspects[size])
    both = torch.cat([along_x.expand(-1, *size), along_y.expand(-1, *size)]).float()
    assert relative_error(both, golden) <= TOLERANCE
    assert both.abs().max() <= POSITION_SHARE


def test_position_embedding_is_resized_unless_the_image_is_the_stored_square():
    golden = read_golden("units")
    vit = golden.network().aggregator.patch_embed
    for key, value in golden.tensors.items():
        if key.startswith("vit_pos_"):
            height, width = (int(extent) for extent in key.removeprefix("vit_pos_").split("x"))
            with torch.no_grad():
                ours = vit.position_embedding((height // 14, width // 14))
            assert relative_error(ours, value) <= TOLERANCE, key


def test_the_1b_network_has_the_published_keys_and_shapes():
    manifest = read_manifest()
    with torch.device("meta"):
        network = build_vggt(manifest["config_1b"])
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert shapes == manifest["keys_1b"]
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_157_941_492
    assert network.config == VGGT_1B == parse_config({})
