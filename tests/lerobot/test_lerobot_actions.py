"""What the columns of a LeRobot dataset tell of each pair, by hand."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.testing import assert_close

from encoded_videos import store_and_run
from fake_encoder import FakeEncoder
from laq_model.errors import DatasetError
from laq_model.evaluation import run_batches
from laq_model.evaluation.evaluate import EvaluateConfig, evaluate
from laq_model.feature_store import PairName
from laq_model.known_actions.actions import true_actions
from laq_model.lerobot.columns import dimension_names, numbers_of, read_columns
from laq_model.lerobot.dataset import open_lerobot
from laq_model.metrics import probes
from laq_model.video.config import VideoDataConfig
from written_lerobot import LENGTHS, TOP, edit_json, read_frames_table


def pair(episode: int, current: int, future: int) -> PairName:
    return PairName(f"videos/{TOP}/episode_{episode:06d}", current, future, current / 10, future / 10)


def edit_frames(folder, change, *, file=0):
    """``change`` takes and gives the table of one file of frames."""
    path = folder / f"data/chunk-000/file-{file:03d}.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def test_commands_are_averaged_and_states_subtracted(written):
    truth = true_actions([pair(1, 2, 5), pair(3, 0, 3)], str(written), frame="camera")
    # Frames 2, 3, 4 command 2, 3, 4; states are frame² / 100, (episode + 1) · frame / 10, episode.
    assert_close(truth.targets["action"].values, torch.tensor([[3.0, 0.5], [1.0, 0.5]]))
    assert_close(truth.targets["state_change"].values, torch.tensor([[0.21, 0.6, 0], [0.09, 1.2, 0]]))
    assert truth.targets["action"].dimensions == ("shoulder.pos", "gripper.pos")
    assert truth.targets["state_change"].dimensions == ("0", "1", "2")
    assert truth.episode == ["episode_000001", "episode_000003"]
    assert truth.view == [TOP, TOP]


def test_rows_in_any_order_in_any_file(dataset_dir):
    edit_frames(dataset_dir, lambda table: table.take(list(reversed(range(len(table))))))
    (dataset_dir / "data/chunk-000/file-001.parquet").rename(dataset_dir / "data/chunk-000/file-007.parquet")
    truth = true_actions([pair(0, 1, 2), pair(3, 4, 6)], str(dataset_dir), frame="world")
    assert_close(truth.targets["action"].values[:, 0], torch.tensor([1.0, 4.5]))


def test_one_column_is_enough_and_none_is_no_truth(dataset_dir):
    features = dict(open_lerobot(dataset_dir).features)
    del features["action"]
    edit_json(dataset_dir / "meta/info.json", features=features)
    assert list(true_actions([pair(0, 0, 3)], str(dataset_dir), frame="world").targets) == ["state_change"]
    del features["observation.state"]
    edit_json(dataset_dir / "meta/info.json", features=features)
    truth = true_actions([pair(0, 0, 3)], str(dataset_dir), frame="world")
    assert truth.targets == {}
    assert truth.episode == ["episode_000000"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x", "y"], ("x", "y")),
        ({"motors": ["x", "y"]}, ("x", "y")),
        (["x"], ("0", "1")),
        (None, ("0", "1")),
        ([["x"], ["y"]], ("0", "1")),
    ],
)
def test_dimensions_have_the_names_of_info_json(dataset_dir, names, expected):
    dataset = open_lerobot(dataset_dir)
    feature = {**dataset.features["action"], "names": names}
    dataset = replace(dataset, features={"action": feature})
    assert dimension_names(dataset, "action", 2) == expected


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([[1, 2], [3, 4]], pa.list_(pa.float32(), 2), [[1.0, 2.0], [3.0, 4.0]]),
        ([[1, 2], [3, 4]], pa.list_(pa.int64()), [[1.0, 2.0], [3.0, 4.0]]),
        ([[1, 2], [3, 4]], pa.large_list(pa.float64()), [[1.0, 2.0], [3.0, 4.0]]),
        ([3, 5], pa.int64(), [[3.0], [5.0]]),
        ([True, False], pa.bool_(), [[1.0], [0.0]]),
    ],
)
def test_columns_of_every_kind_of_list(values, kind, expected):
    column = pa.chunked_array([pa.array(values[:1], kind), pa.array(values[1:], kind)])
    assert numbers_of(column, "here").tolist() == expected


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([[1, 2], [3]], pa.list_(pa.float32()), "here must have equally many numbers in each row, and none"),
        ([[1, 2], [3], [4, 5, 6]], pa.list_(pa.float32()), "equally many numbers"),
        ([[1, 2], [3], [4, 5, 6]], pa.large_list(pa.float32()), "equally many numbers"),
        ([[1, 2], None], pa.list_(pa.float32()), "none missing"),
        ([[1, None]], pa.list_(pa.float32()), "none missing"),
        (["a"], pa.string(), "equally many numbers"),
        ([float("nan")], pa.float32(), "here holds values that are not finite"),
    ],
)
def test_columns_that_are_no_numbers(values, kind, message):
    with pytest.raises(DatasetError, match=message):
        numbers_of(pa.chunked_array([pa.array(values, kind)]), "here")


class TestRefusals:
    def test_a_column_that_only_info_json_has(self, dataset_dir):
        edit_frames(dataset_dir, lambda table: table.drop_columns(["action"]))
        with pytest.raises(DatasetError, match=r"file-000\.parquet lacks the column action"):
            true_actions([pair(0, 0, 3)], str(dataset_dir), frame="world")

    def test_an_episode_without_rows(self, dataset_dir):
        edit_frames(dataset_dir, lambda table: table.slice(0, 9))
        with pytest.raises(DatasetError, match=r"no file of data/\*/\*\.parquet has episode 1"):
            true_actions([pair(1, 0, 3)], str(dataset_dir), frame="world")

    def test_an_episode_with_too_few_rows(self, dataset_dir):
        edit_frames(dataset_dir, lambda table: table.slice(0, 5))
        with pytest.raises(DatasetError, match=r"episode 0 has 5 rows, but a pair ends at frame 6"):
            true_actions([pair(0, 3, 6)], str(dataset_dir), frame="world")

    def test_rows_that_do_not_count(self, dataset_dir):
        edit_frames(dataset_dir, lambda table: table.take([0, 1, 1, 2]))
        with pytest.raises(DatasetError, match="frame_index of episode 0 does not count 0, 1, 2"):
            read_columns(open_lerobot(dataset_dir), ["action"], episodes={0})

    def test_no_file_of_frames(self, dataset_dir):
        for path in (dataset_dir / "data/chunk-000").iterdir():
            path.unlink()
        with pytest.raises(
            DatasetError, match=r"has no data/\*/\*\.parquet; is the dataset downloaded whole\?"
        ):
            true_actions([pair(0, 0, 3)], str(dataset_dir), frame="world")

    def test_videos_of_something_else(self, written):
        with pytest.raises(DatasetError, match=r"cup\.webm does not name an episode of a LeRobot dataset"):
            true_actions([PairName("cup.webm", 0, 3, 0.0, 0.3)], str(written), frame="world")


@pytest.fixture(scope="module")
def made(written, tmp_path_factory):
    """The store of the top camera, and a run trained from it."""
    root = tmp_path_factory.mktemp("made")
    data = VideoDataConfig(
        data_dir=str(written), camera="top", frame_size=112, frame_offset=3, held_out_fraction=0.3
    )
    store_and_run(root, data, num_steps=4)
    return root


@pytest.fixture
def config(made, tmp_path, monkeypatch):
    monkeypatch.setattr(run_batches, "build_encoder", lambda config, device: FakeEncoder())
    monkeypatch.setattr(probes, "MLP_STEPS", 10)
    return EvaluateConfig(
        checkpoint=made / "run", output_dir=str(tmp_path / "out"), probe_seeds=1, device="cpu"
    )


def test_the_robot_s_state_is_the_main_target_of_controls_too(config):
    result = evaluate(config)
    assert result.facts["num_pairs"] == sum(length - 3 for length in LENGTHS)
    for prefix in ("", "control.random_codes.", "control.first_frame.", "control.pixel_difference."):
        assert f"{prefix}probe.linear.state_change.r2_mean" in result.figures
    assert "probe.linear.action.r2.shoulder.pos" in result.figures
    assert "## What the tokens tell of the change of the robot's state" in result.markdown()


def test_another_camera_of_the_same_episodes(config):
    """What was held out of one camera is held out of the other."""
    top, wrist = evaluate(config), evaluate(replace(config, camera="wrist"))
    assert wrist.facts["num_held_out_episodes"] == top.facts["num_held_out_episodes"] > 0
    assert wrist.figures["copy_ratio_hard"] != top.figures["copy_ratio_hard"]


def test_a_dataset_without_actions_is_said_to_have_none(config, dataset_dir):
    features = dict(open_lerobot(dataset_dir).features)
    del features["action"], features["observation.state"]
    edit_json(dataset_dir / "meta/info.json", features=features)
    result = evaluate(replace(config, data_dir=str(dataset_dir)))
    assert any(
        note.startswith("the true actions are not known, so there are no probes: ")
        and note.endswith("has neither of the features action and observation.state")
        for note in result.notes
    )
    assert not any("probe." in key for key in result.figures)


def test_the_written_frames_are_what_the_functions_say(written):
    rows = read_frames_table(written).to_pylist()
    assert [(row["episode_index"], row["frame_index"]) for row in rows] == [
        (episode, frame) for episode, length in enumerate(LENGTHS) for frame in range(length)
    ]
    assert rows[9 + 4]["action"] == [4.0, 0.5]
    assert rows[9 + 4]["observation.state"] == pytest.approx([0.16, 0.8, 1.0])
