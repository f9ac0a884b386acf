"""Random tables and rooms, and which thing each pixel shows; needs the simulator."""

import numpy as np
import pytest

from laq_model.simulation.camera_paths import draw_path
from laq_model.simulation.instances import KINDS, bodies_of_pixels, kinds_of_bodies
from laq_model.simulation.random_scenes import RANDOM_SCENES, random_scene
from laq_model.simulation.render import SceneRenderer
from laq_model.simulation.training_scenes import (
    CLIPS_PER_EPISODE,
    TrainingScenesConfig,
    render_training_scenes,
)

FRAMES = 20


@pytest.mark.parametrize("kind", RANDOM_SCENES)
def test_a_scene_is_its_seed_and_moves_smoothly(simulator, kind):
    first, again, other = (
        random_scene(kind, np.random.default_rng(seed), num_frames=FRAMES) for seed in (3, 3, 4)
    )
    assert np.array_equal(first.qpos, again.qpos)
    assert np.array_equal(first.model.geom_size, again.model.geom_size)
    assert not np.array_equal(first.model.geom_size, other.model.geom_size)
    assert first.qpos.shape == (FRAMES, first.model.nq)
    pose = first.qpos.reshape(FRAMES, -1, 7)
    np.testing.assert_allclose(np.linalg.norm(pose[..., 3:], axis=-1), 1)
    step_m = np.linalg.norm(np.diff(pose[..., :3], axis=0), axis=-1)
    assert 1e-3 < step_m.max() < 0.2


def test_a_table_has_all_kinds_of_things(simulator):
    model = random_scene("tabletop", np.random.default_rng(0), num_frames=2).model
    kind_of = {model.body(body).name: KINDS[kind] for body, kind in enumerate(kinds_of_bodies(model))}
    assert kind_of["world"] == "room"
    assert kind_of["table"] == "furniture"
    assert kind_of["hand"] == "hand"
    assert kind_of["forearm"] == "arm"
    assert kind_of["object_0"] == "object"


def test_a_nameless_part_is_what_it_hangs_on(simulator):
    model = simulator.MjModel.from_xml_string(
        "<mujoco><worldbody><body name='hand'><body><geom size='1'/></body></body>"
        "<body><body name='ball'><geom size='1'/></body></body></worldbody></mujoco>"
    )
    assert [KINDS[kind] for kind in kinds_of_bodies(model)] == ["room", "hand", "hand", "object", "object"]


def test_pixels_show_the_body_that_is_nearest(simulator):
    scene = random_scene("tabletop", np.random.default_rng(1), num_frames=FRAMES)
    path = draw_path(
        np.random.default_rng(2),
        num_frames=FRAMES,
        size=48,
        move="orbit",
        ranges=RANDOM_SCENES["tabletop"],
    )
    renderer = SceneRenderer(scene.model, size=48)
    _, depth_m = renderer.draw(scene.qpos[5], path, 5)
    shown = renderer.draw_instances()
    renderer.close()
    # A ray through the pixel's centre meets the same body at the same depth.
    data = simulator.MjData(scene.model)
    data.qpos[:] = scene.qpos[5]
    simulator.mj_forward(scene.model, data)
    cam_from_world = path.cam_from_world[5]
    eye = -cam_from_world[:3, :3].T @ cam_from_world[:3, 3]
    agreed = []
    for v in range(4, 48, 7):
        for u in range(4, 48, 7):
            ray = np.linalg.inv(path.intrinsics) @ [u, v, 1.0]
            direction = cam_from_world[:3, :3].T @ ray
            geom = np.zeros(1, dtype=np.int32)
            distance = simulator.mj_ray(scene.model, data, eye, direction, None, 1, -1, geom)
            body = scene.model.geom_bodyid[geom[0]] if geom[0] >= 0 else 0
            agreed.append(body == shown[v, u] and (distance < 0 or abs(distance - depth_m[v, u]) < 0.02))
    assert np.mean(agreed) > 0.9  # a ray beside an edge may meet what lies behind


def test_no_geom_is_the_world(simulator):
    model = simulator.MjModel.from_xml_string(
        "<mujoco><worldbody><body><geom size='1'/></body></worldbody></mujoco>"
    )
    segmentation = np.array([[[0, 5], [-1, -1], [0, 7]]], dtype=np.int32)
    assert bodies_of_pixels(model, segmentation, geom_type=5).tolist() == [[1, 0, 0]]


def test_shards_of_every_family_are_whole_and_the_same_again(simulator, tmp_path):
    config = TrainingScenesConfig(
        output=tmp_path / "a",
        num_clips=CLIPS_PER_EPISODE,
        num_random_clips=CLIPS_PER_EPISODE,
        num_held_out=CLIPS_PER_EPISODE,
        clips_per_shard=CLIPS_PER_EPISODE,
        size=28,
    )
    render_training_scenes(config)
    families = ["", "heldout_", "heldout_tabletop_", "heldout_room_"]
    shards = sorted(path.name for path in config.output.glob("*rgb_*.npy"))
    assert len(shards) == len(families) + 1  # tasks and random scenes both train
    random = config.output / "cameras_20000.npz"
    assert set(np.load(random)["task"]) <= set(RANDOM_SCENES)
    kind = np.load(random)["kind_of_instance"][0][np.load(config.output / "instances_20000.npy")[0]]
    assert {"room", "furniture"} & {KINDS[number] for number in np.unique(kind)}
    before = random.stat().st_mtime_ns
    (config.output / "rgb_0000.npy").unlink()
    instances = (config.output / "instances_0000.npy").read_bytes()
    render_training_scenes(config)
    assert random.stat().st_mtime_ns == before  # what is there is kept
    assert (config.output / "instances_0000.npy").read_bytes() == instances
