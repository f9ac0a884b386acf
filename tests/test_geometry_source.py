"""Sources of depth and cameras: VGGT in any batch and budget, a source of the user's, and what is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from laq_model.encoder_config import EncoderConfig
from laq_model.errors import ConfigError, GeometryError
from laq_model.geometry_source import (
    SensorSource,
    SourceSettings,
    VGGTSource,
    build_source,
    check_geometry,
    register_source,
    resolve_dtype,
    scenes_of,
    scenes_per_batch,
    source_names,
)
from laq_model.scene_observation import build_geometry_source, observe_scenes
from laq_model.structures import DepthAndCameras
from laq_model.vggt import VGGT, build_vggt

SMALL = {
    "img_size": 56,
    "embed_dim": 32,
    "vit_depth": 1,
    "vit_num_heads": 2,
    "depth": 4,
    "num_heads": 2,
    "camera_trunk_depth": 1,
    "camera_num_heads": 4,
    "dpt_features": 16,
    "dpt_out_channels": [8, 8, 8, 8],
    "dpt_layers": [0, 1, 2, 3],
}
FIELDS = ("depth", "confidence", "intrinsics", "cam_from_world", "world_up")
# A source as a user writes it: a file of their own that imports the package and registers a name.
USER_FILE = '''
import torch
from laq_model.geometry_source import register_source
from laq_model.structures import DepthAndCameras

class Wall:
    """Everything is a wall, two metres away."""

    name = "wall"

    def __init__(self, distance_m):
        self.distance_m = distance_m

    def __call__(self, frames, recorded):
        scenes, views, _, height, width = frames.shape
        depth = frames.new_full((scenes, views, height // 2, width // 2), self.distance_m)
        intrinsics = torch.tensor([[40.0, 0, width / 4], [0, 40.0, height / 4], [0, 0, 1]])
        return DepthAndCameras(
            depth=depth,
            confidence=torch.ones_like(depth),
            intrinsics=intrinsics.expand(scenes, views, 3, 3),
            cam_from_world=torch.eye(4)[:3].expand(scenes, views, 3, 4),
            world_up=torch.tensor([0.0, -1.0, 0.0]).expand(scenes, 3),
            is_metric=True,
        )

def build(settings):
    return Wall(2.0)

def build_behind(settings):
    return Wall(-2.0)

def build_nothing(settings):
    return 3

register_source("wall", build)
'''


def small_network() -> VGGT:
    torch.manual_seed(0)
    network = build_vggt(SMALL)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            # As strong as trained weights: views see one another, and rounding shows.
            if name.endswith(".gamma"):
                parameter.fill_(0.5)
            elif parameter.ndim in (2, 4) and "pose_branch" not in name:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def network() -> VGGT:
    return small_network()


def some_frames(scenes: int, views: int, size: tuple[int, int] = (42, 56)) -> Tensor:
    return torch.rand(scenes, views, 3, *size, generator=torch.Generator().manual_seed(0))


def assert_same_bits(ours: DepthAndCameras, expected: DepthAndCameras) -> None:
    for name in FIELDS:
        assert torch.equal(getattr(ours, name), getattr(expected, name)), name


def test_budgets_of_frames_in_whole_scenes():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [scenes_per_batch(0, views, cpu) for views in (1, 2, 8)] == [1, 1, 1]
    assert [scenes_per_batch(0, views, gpu) for views in (1, 2, 8, 20)] == [16, 8, 2, 1]
    assert [scenes_per_batch(5, views, cpu) for views in (1, 2, 8)] == [5, 2, 1]


@pytest.mark.parametrize("context", ["clip", "frame"])
@pytest.mark.parametrize("budget", [0, 1, 2])
def test_a_scene_has_the_bits_of_the_scene_alone(network, context, budget):
    source = VGGTSource(network, context=context, max_frames_per_batch=budget)
    frames = some_frames(3, 2)
    together = source(frames)
    for scene in range(3):
        assert_same_bits(scenes_of(together, slice(scene, scene + 1)), source(frames[scene : scene + 1]))


def test_larger_budgets_change_rounding_only(network):
    frames = some_frames(5, 2)
    single = VGGTSource(network)(frames)
    calls = []
    hook = network.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    batched = VGGTSource(network, max_frames_per_batch=4)(frames)
    hook.remove()
    assert calls == [2, 2, 1]
    for name in FIELDS:
        # Float32 sums in another order: 2e-5 of the largest value, as for the golden files.
        expected = getattr(single, name)
        assert_close(getattr(batched, name), expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("budget", "chunk"), [(0, 8), (3, 3), (16, 8)])
def test_a_scene_larger_than_the_budget_passes_the_depth_head_in_pieces(network, budget, chunk):
    seen = []
    hook = network.register_forward_pre_hook(
        lambda _, inputs, named: seen.append(named["max_frames_per_chunk"]), with_kwargs=True
    )
    VGGTSource(network, max_frames_per_batch=budget)(some_frames(1, 4, size=(14, 14)))
    hook.remove()
    assert seen == [chunk]


@pytest.mark.parametrize("context", ["clip", "frame"])
@pytest.mark.parametrize("budget", [0, 16])
def test_a_repeated_view_is_that_view(network, context, budget):
    frames = some_frames(2, 3)
    frames[1, 2] = frames[1, 1]
    geometry = VGGTSource(network, context=context, max_frames_per_batch=budget)(frames)
    for name in FIELDS[:4]:
        value = getattr(geometry, name)
        assert torch.equal(value[1, 2], value[1, 1]), name
    assert not torch.equal(geometry.depth[0, 2], geometry.depth[0, 1])


def test_frames_alone_have_mean_depth_one_and_their_own_world(network):
    frames = some_frames(2, 3)
    geometry = VGGTSource(network, context="frame")(frames)
    assert_close(geometry.depth.mean(dim=(2, 3)), torch.ones(2, 3))
    assert_close(geometry.cam_from_world, torch.eye(4)[:3].expand(2, 3, 3, 4), rtol=0, atol=1e-6)
    alone = VGGTSource(network)(frames[1:, 2:])
    assert_close(geometry.depth[1, 2], alone.depth[0, 0] / alone.depth.mean())


def test_resolution_is_that_of_the_longer_side_in_whole_patches(network):
    frames = some_frames(1, 2, size=(42, 56))
    geometry = VGGTSource(network, resolution_px=112)(frames)
    assert geometry.depth.shape == (1, 2, 84, 112)
    # The principal point is the middle of what the network saw.
    assert_close(geometry.intrinsics[0, 0, :2, 2], torch.tensor([56.0, 42.0]))
    thin = VGGTSource(network, resolution_px=28)(some_frames(1, 1, size=(140, 14)))
    assert thin.depth.shape == (1, 1, 28, 14)
    # A frame of that size is not touched.
    assert_same_bits(VGGTSource(network, resolution_px=56)(frames), VGGTSource(network)(frames))
    with pytest.raises(ConfigError, match="vggt_resolution must be a multiple of 14, got 225"):
        VGGTSource(network, resolution_px=225)


@pytest.fixture
def weights_file(network, tmp_path) -> Path:
    path = tmp_path / "vggt.safetensors"
    tensors = {key: value.half() for key, value in network.state_dict().items()}
    tensors["point_head.norm.weight"] = torch.zeros(3)
    save_file(tensors, path, metadata={"config": json.dumps(SMALL), "licence": "CC0"})
    return path


def test_a_network_is_built_from_its_file_frozen_and_in_float32(weights_file, network, capsys):
    config = EncoderConfig(vggt_weights=str(weights_file), vggt_resolution=28, max_frames_per_batch=3)
    source = build_geometry_source(config)
    assert isinstance(source, VGGTSource)
    assert (source.resolution_px, source.max_frames_per_batch, source.training) == (28, 3, False)
    for key, value in source.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[key].half().float()), key
    assert not any(parameter.requires_grad for parameter in source.parameters())
    assert capsys.readouterr().out == "weights of vggt.safetensors: CC0\n"


def test_short_matrices_by_name_and_what_auto_is(weights_file, monkeypatch):
    config = EncoderConfig(vggt_weights=str(weights_file), vggt_dtype="bfloat16")
    short, full = build_geometry_source(config), build_geometry_source(replace(config, vggt_dtype="auto"))
    types = {name: value.dtype for name, value in short.network.named_parameters()}
    assert types["aggregator.global_blocks.0.mlp.fc1.weight"] == torch.bfloat16
    assert types["camera_head.trunk.0.mlp.fc1.weight"] == types["depth_head.norm.weight"] == torch.float32
    assert {value.dtype for value in full.network.parameters()} == {torch.float32}
    frames = some_frames(1, 2)
    error = (short(frames).depth / full(frames).depth - 1).square().mean().sqrt()
    # bfloat16 has 8 bits: a percent at most, and never nothing (0.3 % for the 1B network's shapes).
    assert 1e-5 < error < 0.01
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert resolve_dtype("auto", torch.device("cuda")) == "float32"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert resolve_dtype("auto", torch.device("cuda")) == "bfloat16"
    assert resolve_dtype("auto", torch.device("cpu")) == "float32"
    with pytest.raises(ConfigError, match="vggt_dtype must be auto, float32 or bfloat16, got 'half'"):
        resolve_dtype("half", torch.device("cpu"))


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "my_wall.py").write_text(USER_FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_wall", None)
    from laq_model.geometry_source import registry  # noqa: PLC0415

    registry._BUILDERS.pop("wall", None)


@pytest.mark.usefixtures("user_module")
def test_without_normals_the_point_network_reads_zeros():
    config = EncoderConfig(geometry="my_wall:build", use_normals=False)
    scene = observe_scenes(build_geometry_source(config), some_frames(2, 2), config=config)
    assert scene.normal.any()  # pictures still show them
    assert len(scene.cloud.normal)
    assert not scene.cloud.normal.any()


@pytest.mark.usefixtures("user_module")
def test_a_source_of_the_user_s_by_its_file_or_by_its_name():
    frames = some_frames(2, 2)
    by_file = EncoderConfig(geometry="my_wall:build")
    scene = observe_scenes(build_geometry_source(by_file), frames, config=by_file)
    # A wall two metres before a level camera, seen at half the frames' size; the box is centred on it.
    assert scene.geometry.depth.shape == (2, 2, 21, 28)
    assert_close(scene.cloud.coord_m[:, 1].abs().max(), torch.tensor(0.0), rtol=0, atol=1e-6)
    assert_close(scene.normal[0, 0, 10, 10], torch.tensor([0.0, -1.0, 0.0]), rtol=0, atol=1e-6)
    # Importing the file registered its name.
    assert source_names() == ["vggt", "sensor", "wall"]
    by_name = EncoderConfig(geometry="wall")
    again = observe_scenes(build_geometry_source(by_name), frames, config=by_name)
    assert torch.equal(again.cloud.coord_m, scene.cloud.coord_m)
    with pytest.raises(GeometryError, match="geometry=wall gave negative depth"):
        observe_scenes(
            build_geometry_source(EncoderConfig(geometry="my_wall:build_behind")), frames, config=by_file
        )
    with pytest.raises(ConfigError, match="a geometry source is called 'vggt' already; choose another name"):
        register_source("vggt", lambda settings: SensorSource())


@pytest.mark.usefixtures("user_module")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_wall:build_nothing", "gave a int, which is no geometry source: it needs a name and __call__"),
        ("my_wall:missing", "module 'my_wall' has no attribute 'missing'. The module must be importable"),
        ("no_such_module:build", "No module named 'no_such_module'. The module must be importable"),
        ("sensors", r"geometry must be vggt, sensor or package.module:function, got 'sensors'"),
    ],
)
def test_a_name_that_leads_to_no_source_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        build_geometry_source(EncoderConfig(geometry=name))


def test_names_without_a_builder_and_names_that_cannot_be():
    with pytest.raises(
        ConfigError, match="no geometry source is called 'depth_anything'; there are vggt, sensor"
    ):
        build_source("depth_anything", SourceSettings())
    with pytest.raises(ConfigError, match="has no colon and is not empty, got 'a:b'"):
        register_source("a:b", lambda settings: SensorSource())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"depth": (1, 3, 4, 5)},
            r"gave depth \[1, 3, 4, 5\] for frames \[1, 2, 3, 4, 5\], expected \[1, 2, 4, 5\]",
        ),
        ({"confidence": (1, 2, 4, 4)}, r"confidence \[1, 2, 4, 4\] .* expected \[1, 2, 4, 5\]"),
        ({"cam_from_world": (1, 2, 4, 4)}, r"cam_from_world \[1, 2, 4, 4\] .* expected \[1, 2, 3, 4\]"),
        (
            {"depth": float("nan"), "world_up": float("inf")},
            "gave depth that is not finite, world_up that is",
        ),
        ({"depth": -1.0}, "geometry=mine gave negative depth; 0 means no depth"),
    ],
)
def test_geometry_that_is_not_that_of_the_frames_is_refused(change, message):
    shapes = {
        "depth": (1, 2, 4, 5),
        "confidence": (1, 2, 4, 5),
        "intrinsics": (1, 2, 3, 3),
        "cam_from_world": (1, 2, 3, 4),
        "world_up": (1, 3),
    }
    values = {name: torch.ones(shape) for name, shape in shapes.items()}
    check_geometry(as_geometry(values), torch.zeros(1, 2, 3, 4, 5), source="mine")
    for name, wrong in change.items():
        if isinstance(wrong, tuple):
            values[name] = torch.ones(wrong)
        else:
            values[name].view(-1)[-1] = wrong
    with pytest.raises(GeometryError, match=message):
        check_geometry(as_geometry(values), torch.zeros(1, 2, 3, 4, 5), source="mine")


def as_geometry(values: dict[str, Tensor]) -> DepthAndCameras:
    """Without the constructor, whose shapes the type checker of the tests would refuse first."""
    geometry = object.__new__(DepthAndCameras)
    for name, value in (values | {"is_metric": True}).items():
        object.__setattr__(geometry, name, value)
    return geometry


def test_what_was_recorded_is_handed_over_or_asked_for():
    with pytest.raises(GeometryError, match="geometry=sensor needs recorded depth and cameras"):
        SensorSource()(some_frames(1, 2), None)
    recorded = DepthAndCameras(
        depth=torch.rand(1, 2, 4, 5),
        confidence=torch.rand(1, 2, 4, 5),
        intrinsics=torch.rand(1, 2, 3, 3),
        cam_from_world=torch.rand(1, 2, 3, 4),
        world_up=torch.rand(1, 3),
        is_metric=True,
    )
    assert_same_bits(SensorSource()(some_frames(1, 2), recorded), recorded)


def test_recorded_frames_alone_are_each_their_own_world():
    recorded = DepthAndCameras(
        depth=torch.rand(1, 2, 4, 5),
        confidence=torch.rand(1, 2, 4, 5),
        intrinsics=torch.rand(1, 2, 3, 3),
        cam_from_world=torch.rand(1, 2, 3, 4),
        world_up=torch.rand(1, 3),
        is_metric=True,
    )
    alone = build_source("sensor", SourceSettings(context="frame"))(some_frames(1, 2), recorded)
    own = torch.eye(3, 4).expand(1, 2, 3, 4)
    up = torch.tensor([[0.0, -1.0, 0.0]])
    assert_same_bits(alone, replace(recorded, cam_from_world=own, world_up=up))
    assert_same_bits(build_source("sensor", SourceSettings())(some_frames(1, 2), recorded), recorded)
