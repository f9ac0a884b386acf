"""Episodes of a LeRobot dataset as videos: many in one file, each with its own frames and times."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laq_model.errors import DatasetError
from laq_model.video import decode
from laq_model.video.config import VideoDataConfig
from laq_model.video.decode import iterate_frames, read_frames
from laq_model.video.index import build_index
from laq_model.webm_dataset import PairDataset, all_pairs
from written_lerobot import LENGTHS, TOP, WRIST, edit_json, shown_number
from written_videos import number_in, write_video

DATA = VideoDataConfig(frame_size=56, frame_offset=3, num_workers=2)
TOP_NAMES = [f"videos/{TOP}/episode_{number:06d}" for number in range(4)]


def index_of(folder, **changes):
    return build_index(replace(DATA, data_dir=str(folder), **changes))


def edit_episodes(folder, change):
    """``change`` takes and gives the rows of meta/episodes."""
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pa.Table.from_pylist(change(pq.read_table(path).to_pylist())), path)


@pytest.mark.parametrize(("camera", "sign", "start"), [(TOP, 1, 0), (WRIST, -1, 255), ("wrist", -1, 255)])
def test_each_episode_has_its_own_frames(written, camera, sign, start):
    index = index_of(written, camera=camera)
    assert [entry.num_frames for entry in index.videos] == list(LENGTHS)
    for episode, entry in enumerate(index.videos):
        frames = list(iterate_frames(index.path(entry), entry.frames))
        assert [number for number, _ in frames] == list(range(LENGTHS[episode]))
        shown = [number_in(rgb) for _, rgb in frames]
        expected = [start + sign * shown_number(episode, frame) for frame in range(LENGTHS[episode])]
        assert shown == expected
        # Out of order, and from the middle on.
        assert [number_in(f) for f in read_frames(index.path(entry), entry.frames, [6, 0, 2])] == [
            expected[6],
            expected[0],
            expected[2],
        ]
        later = [(n, number_in(rgb)) for n, rgb in iterate_frames(index.path(entry), entry.frames, first=5)]
        assert later == list(enumerate(expected))[5:]


def test_names_tell_camera_and_episode_and_times_begin_with_the_episode(written):
    index = index_of(written, camera="top")
    assert [entry.name for entry in index.videos] == TOP_NAMES
    assert [entry.file[-12:] for entry in index.videos] == ["file-000.mp4"] * 3 + ["file-001.mp4"]
    pairs = list(all_pairs(index, index.videos[1], DATA))
    assert len(pairs) == 12 - 3
    assert (pairs[2].video, pairs[2].current_index, pairs[2].future_index) == (TOP_NAMES[1], 2, 5)
    assert (pairs[2].current_time_s, pairs[2].future_time_s) == pytest.approx((0.2, 0.5))
    assert f"camera {TOP} of {TOP}, {WRIST}" in index.summary()


def test_reading_stops_with_the_episode(written, monkeypatch):
    """The rest of a file of hundreds of episodes is not decoded for each of them."""
    index = index_of(written, camera=WRIST)
    seen = []
    decoded_frames = decode.decoded_frames
    monkeypatch.setattr(
        decode, "decoded_frames", lambda *a: (seen.append(f) or f for f in decoded_frames(*a))
    )
    list(iterate_frames(index.path(index.videos[0]), index.videos[0].frames))
    assert len(seen) == 9
    seen.clear()
    list(iterate_frames(index.path(index.videos[3]), index.videos[3].frames))
    assert len(seen) == 10 + 12  # from the keyframe at 16 to its first frame at 28, then its own


def test_all_cameras_of_an_episode_are_on_one_side_of_the_split(written):
    sides = {}
    for camera in (TOP, WRIST):
        config = replace(DATA, data_dir=str(written), camera=camera)
        index = build_index(config)
        for split in ("train", "held_out"):
            videos = PairDataset(index, config, split=split).manifest()["videos"]
            assert videos
            for name in videos:
                sides.setdefault(name.split("/")[-1], set()).add(split)
    assert len(sides) == 4
    assert all(len(found) == 1 for found in sides.values())


def test_the_only_camera_needs_no_flag_and_depth_is_none(dataset_dir):
    info = json.loads((dataset_dir / "meta/info.json").read_text())
    info["features"][WRIST]["info"]["video.is_depth_map"] = True
    edit_json(dataset_dir / "meta/info.json", features=info["features"])
    assert [entry.name for entry in index_of(dataset_dir).videos] == TOP_NAMES


def test_only_the_first_episodes(written):
    assert [entry.name for entry in index_of(written, camera=TOP, max_videos=2).videos] == TOP_NAMES[:2]


def test_the_cache_holds_files_not_episodes(dataset_dir):
    first = index_of(dataset_dir, camera=TOP)
    cached = pq.read_table(dataset_dir / ".concerto-laq-index.parquet")
    assert cached["num_frames"].to_pylist() == [28, 10]
    assert index_of(dataset_dir, camera=TOP).videos == first.videos


class TestRefusals:
    def test_a_choice_of_cameras_is_the_user_s(self, written):
        with pytest.raises(DatasetError, match=rf"several cameras; choose one with --camera: {TOP}, {WRIST}"):
            index_of(written)

    def test_a_camera_that_is_not_there(self, written):
        with pytest.raises(DatasetError, match=rf"no camera 'front'; it has {TOP}, {WRIST} \(--camera\)"):
            index_of(written, camera="front")

    def test_frames_outside_of_videos(self, dataset_dir):
        picture = {"dtype": "image", "shape": [64, 64, 3], "names": None}
        edit_json(dataset_dir / "meta/info.json", features={TOP: picture})
        with pytest.raises(
            DatasetError, match="keeps its pictures outside of videos; only features of dtype"
        ):
            index_of(dataset_dir)

    def test_another_version(self, dataset_dir):
        edit_json(dataset_dir / "meta/info.json", codebase_version="v2.1")
        with pytest.raises(DatasetError, match=r"version v2\.1; version v3\.0 is read\. Convert it with"):
            index_of(dataset_dir)

    def test_an_info_file_that_is_no_json(self, dataset_dir):
        (dataset_dir / "meta/info.json").write_text("version https://git-lfs")
        with pytest.raises(DatasetError, match=r"info\.json is no JSON .* downloaded whole\?"):
            index_of(dataset_dir)

    @pytest.mark.parametrize(
        "changes", [{"fps": 0}, {"fps": None}, {"features": {TOP: {"dtype": "video"}}}, {"features": [TOP]}]
    )
    def test_an_info_file_with_other_fields(self, dataset_dir, changes):
        edit_json(dataset_dir / "meta/info.json", **changes)
        with pytest.raises(DatasetError, match=r"info\.json lacks or garbles a field of LeRobot v3\.0"):
            index_of(dataset_dir, camera=TOP)

    def test_a_missing_column(self, dataset_dir):
        column = f"videos/{TOP}/from_timestamp"
        edit_episodes(
            dataset_dir, lambda rows: [{k: v for k, v in row.items() if k != column} for row in rows]
        )
        with pytest.raises(DatasetError, match=rf"file-000\.parquet lacks the column {column}"):
            index_of(dataset_dir, camera=TOP)

    def test_an_episode_that_lies_nowhere(self, dataset_dir):
        edit_episodes(dataset_dir, lambda rows: [{**row, f"videos/{TOP}/file_index": None} for row in rows])
        with pytest.raises(DatasetError, match=rf"does not say where each episode of {TOP} lies"):
            index_of(dataset_dir, camera=TOP)

    def test_no_table_of_episodes(self, dataset_dir):
        (dataset_dir / "meta/episodes/chunk-000/file-000.parquet").unlink()
        with pytest.raises(
            DatasetError, match=r"has no meta/episodes/\*/\*\.parquet; is the dataset downloaded"
        ):
            index_of(dataset_dir, camera=TOP)

    def test_no_video_at_all(self, dataset_dir):
        """One line for a file, however many episodes lie in it."""
        for path in (dataset_dir / f"videos/{TOP}/chunk-000").iterdir():
            path.unlink()
        with pytest.raises(DatasetError) as error:
            index_of(dataset_dir, camera=TOP)
        missing = "the file is missing, or its name is not UTF-8"
        assert str(error.value) == (
            f"no video in {dataset_dir} can be used ({TOP_NAMES[0]} and 2 more: videos/{TOP}/chunk-000/"
            f"file-000.mp4: {missing}; {TOP_NAMES[3]}: videos/{TOP}/chunk-000/file-001.mp4: {missing}); "
            "give other videos"
        )


class TestSkippedEpisodes:
    def reason(self, folder, number):
        index = index_of(folder, camera=TOP)
        assert [entry.name for entry in index.videos] == [n for n in TOP_NAMES if n != TOP_NAMES[number]]
        (skipped,) = index.skipped
        assert skipped.name == TOP_NAMES[number]
        return skipped.reason

    def test_a_missing_file_costs_its_episodes(self, dataset_dir):
        (dataset_dir / f"videos/{TOP}/chunk-000/file-001.mp4").unlink()
        assert f"videos/{TOP}/chunk-000/file-001.mp4: the file is missing" in self.reason(dataset_dir, 3)

    def test_a_file_that_ends_too_early(self, dataset_dir):
        write_video(dataset_dir / f"videos/{TOP}/chunk-000/file-001.mp4", 6, codec="libx264")
        assert "needs frames 0 to 9 of videos/" in self.reason(dataset_dir, 3)

    def test_a_place_between_frames_of_other_times(self, dataset_dir):
        shift = {f"videos/{TOP}/from_timestamp": -0.3}
        edit_episodes(dataset_dir, lambda rows: [{**rows[0], **shift}, *rows[1:]])
        assert "frame 0 should be at -0.300 s of videos/" in self.reason(dataset_dir, 0)

    def test_an_episode_shorter_than_a_pair(self, dataset_dir):
        edit_episodes(dataset_dir, lambda rows: [*rows[:2], {**rows[2], "length": 3}, rows[3]])
        assert self.reason(dataset_dir, 2) == "3 frames, but a pair 3 frames apart needs 4"


def test_a_video_of_another_frame_rate_is_no_episode(dataset_dir):
    """At 20 frames a second the tenth frame comes too early, and the second episode's place is another's."""
    edit_json(dataset_dir / "meta/info.json", fps=20)
    with pytest.raises(DatasetError, match=r"frame 8 should be at 0\.400 s .* nearest is at 0\.800 s"):
        index_of(dataset_dir, camera=TOP)


def test_flags_of_other_kinds_of_folders_are_remarked(written, tmp_path):
    assert "no views: --view fixed does not apply" in index_of(written, camera=TOP, view="fixed").summary()
    write_video(tmp_path / "plain/cup.webm", 8)
    summary = index_of(tmp_path / "plain", camera="top").summary()
    assert "only LeRobot datasets have cameras: --camera top does not apply" in summary
