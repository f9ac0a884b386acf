"""The index of a folder: what it lists, what it says of the rest, and what it remembers."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from laq_model.errors import ConfigError, DatasetError
from laq_model.video import index as index_module
from laq_model.video import index_cache
from laq_model.video.config import VideoDataConfig
from laq_model.video.index import build_index
from written_videos import write_recorded, write_video

SOURCE_ROOT = Path(index_module.__file__).parents[2]


@pytest.fixture(autouse=True)
def own_cache_folder(tmp_path_factory, monkeypatch):
    """No test may leave a cache in the user's folder."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def scanned(monkeypatch):
    """Names of the files that were really decoded, in order."""
    names = []
    scan_videos = index_module.scan_videos

    def spy(paths, **settings):
        names.extend(path.name for path in paths)
        return scan_videos(paths, **settings)

    monkeypatch.setattr(index_module, "scan_videos", spy)
    return names


def index_of(folder, **settings):
    return build_index(VideoDataConfig(data_dir=str(folder), num_workers=2, **settings))


def test_every_file_is_listed_or_named_with_its_reason(tmp_path):
    write_video(tmp_path / "b.webm", 8)
    write_video(tmp_path / "deep/er/a.mp4", 9, codec="libx264")
    write_video(tmp_path / "UPPER.AVI", 10, codec="mpeg4")
    write_video(tmp_path / "one.webm", 1)
    write_video(tmp_path / "five.webm", 5)
    (tmp_path / "words.webm").write_text("no video, just words\n" * 50)
    (tmp_path / "notes.txt").write_text("not looked at")
    (tmp_path / "._b.webm").write_text("a ghost from another file system")
    (tmp_path / ".hidden").mkdir()
    write_video(tmp_path / ".hidden/c.webm", 8)
    cut = write_video(tmp_path / "cut.webm", 60)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 6 // 10])
    index = index_of(tmp_path)
    assert [(entry.name, entry.num_frames) for entry in index.videos if entry.name != "cut.webm"] == [
        ("UPPER.AVI", 10), ("b.webm", 8), ("deep/er/a.mp4", 9),
    ]  # fmt: skip
    assert {video.name: video.reason for video in index.skipped} == {
        "five.webm": "5 frames, but a pair 5 frames apart needs 6",
        "one.webm": "1 frame, but a pair 5 frames apart needs 6",
        "words.webm": "cannot be opened as a video (Invalid data found when processing input)",
    }
    frames = sum(entry.num_frames for entry in index.videos)
    num_cut = next(entry.num_frames for entry in index.videos if entry.name == "cut.webm")
    assert index.summary().splitlines() == [
        f"{tmp_path}: 4 videos with {frames} frames",
        "3 videos skipped:",
        "  five.webm: 5 frames, but a pair 5 frames apart needs 6",
        "  one.webm: 1 frame, but a pair 5 frames apart needs 6",
        "  words.webm: cannot be opened as a video (Invalid data found when processing input)",
        "1 video damaged, used as far as it can be decoded:",
        f"  cut.webm: only the first {num_cut} frames are sound (matroska,webm: File ended prematurely)",
    ]


def test_a_long_list_of_skipped_videos_is_shortened(tmp_path):
    write_video(tmp_path / "good.webm", 8)
    for number in range(23):
        (tmp_path / f"bad{number:02d}.webm").write_text("words")
    lines = index_of(tmp_path).summary().splitlines()
    assert lines[1] == "23 videos skipped:"
    assert lines[2].startswith("  bad00.webm: ")
    assert lines[-1] == "  ... and 3 more"
    assert len(lines) == 2 + 20 + 1


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: folder.rmdir(), "does not exist; give a folder of videos"),
        (lambda folder: (folder.rmdir(), folder.write_text("x")), "is a file, not a folder; give a folder"),
        (lambda folder: None, "holds no videos; looked in it and its subfolders for .3gp .avi "),
        (lambda folder: (folder / "readme.txt").write_text("x"), "holds no videos; looked in it"),
        (
            lambda folder: (folder / "words.webm").write_text("x"),
            r"no video in .* can be used \(words.webm: cannot be opened as a video \(Invalid data found when "
            r"processing input\)\); give other videos",
        ),
        (
            lambda folder: (write_video(folder / "a.webm", 3), write_video(folder / "b.webm", 5)),
            r"no video in .* can be used \(a.webm: 3 frames, but a pair 5 frames apart needs 6; b.webm: 5 "
            r"frames, but .*\); give other videos, or lower frame_offset 5",
        ),
        (
            lambda folder: (folder / "index.json").write_text("{"),
            r"index\.json is no JSON .* repair it, or rename it",
        ),
    ],
    ids=["missing", "file", "empty", "no videos", "unreadable", "offset too long", "broken index.json"],
)
def test_a_folder_without_usable_videos_is_refused(tmp_path, prepare, message):
    folder = tmp_path / "videos"
    folder.mkdir()
    prepare(folder)
    with pytest.raises(DatasetError, match=message):
        index_of(folder)


def test_no_folder_is_not_the_current_one(tmp_path, monkeypatch):
    write_video(tmp_path / "a.webm", 8)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"give --data_dir DIR, a folder of videos"):
        build_index(VideoDataConfig())
    assert index_of(".").videos[0].name == "a.webm"


def test_only_new_and_changed_files_are_decoded_again(tmp_path, scanned):
    write_video(tmp_path / "a.webm", 8)
    write_video(tmp_path / "b.webm", 9)
    (tmp_path / "words.webm").write_text("words")
    first = index_of(tmp_path)
    scanned.clear()
    assert index_of(tmp_path) == first
    assert scanned == ["words.webm"]  # a disk may have been to blame, so failures are not remembered
    (tmp_path / "words.webm").unlink()
    write_video(tmp_path / "b.webm", 11)
    write_video(tmp_path / "c.webm", 12)
    scanned.clear()
    again = index_of(tmp_path)
    assert scanned == ["b.webm", "c.webm"]
    assert [entry.num_frames for entry in again.videos] == [8, 11, 12]
    os.utime(tmp_path / "a.webm", ns=(1, 1))
    scanned.clear()
    index_of(tmp_path)
    assert scanned == ["a.webm"]


def test_the_cache_keeps_everything_that_reading_needs(tmp_path, scanned):
    write_video(tmp_path / "a.webm", 30)
    write_video(tmp_path / "raw.avi", 20, codec="libx264", options={"bf": "2"})
    first = index_of(tmp_path)
    assert index_of(tmp_path).videos == first.videos
    assert scanned == ["a.webm", "raw.avi"]
    (entry, without_times) = first.videos
    assert list(entry.frames.keyframes) == [20]
    assert not without_times.frames.pts


def test_other_settings_share_the_cache(tmp_path, scanned):
    write_video(tmp_path / "a.webm", 8)
    write_video(tmp_path / "b.webm", 20)
    assert len(index_of(tmp_path).videos) == 2
    scanned.clear()
    index = index_of(tmp_path, frame_offset=10)
    assert [entry.name for entry in index.videos] == ["b.webm"]
    assert scanned == []


def test_a_removed_video_is_forgotten(tmp_path):
    write_video(tmp_path / "a.webm", 8)
    write_video(tmp_path / "b.webm", 8)
    index_of(tmp_path)
    (tmp_path / "a.webm").unlink()
    write_video(tmp_path / "c.webm", 8)
    index_of(tmp_path)
    assert pq.read_table(tmp_path / index_cache.FILE_NAME)["name"].to_pylist() == ["b.webm", "c.webm"]


@pytest.mark.parametrize("content", [b"", b"PAR1 broken", b"x" * 5000])
def test_a_damaged_cache_is_made_anew(tmp_path, scanned, content):
    write_video(tmp_path / "a.webm", 8)
    (tmp_path / index_cache.FILE_NAME).write_bytes(content)
    assert index_of(tmp_path).videos[0].num_frames == 8
    assert index_of(tmp_path).videos[0].num_frames == 8
    assert scanned == ["a.webm"]


def test_a_cache_of_another_version_is_made_anew(tmp_path, scanned, monkeypatch):
    write_video(tmp_path / "a.webm", 8)
    monkeypatch.setattr(index_cache, "_SCHEMA", index_cache._SCHEMA.with_metadata({"format": "0"}))
    index_of(tmp_path)
    monkeypatch.undo()
    index_of(tmp_path)
    assert pq.read_schema(tmp_path / index_cache.FILE_NAME).metadata[b"format"] == b"1"


def unwritable(monkeypatch, folder):
    """Make one folder read-only, also for a superuser."""
    mkstemp = index_cache.tempfile.mkstemp

    def refuse(*args, dir, **settings):
        if Path(dir) == folder:
            raise PermissionError(13, "Permission denied", str(dir))
        return mkstemp(*args, dir=dir, **settings)

    monkeypatch.setattr(index_cache.tempfile, "mkstemp", refuse)


def test_a_read_only_folder_is_cached_in_the_users_folder(tmp_path, scanned, monkeypatch, own_cache_folder):
    write_video(tmp_path / "a.webm", 8)
    unwritable(monkeypatch, tmp_path)
    first = index_of(tmp_path)
    assert not (tmp_path / index_cache.FILE_NAME).exists()
    assert len(list((own_cache_folder / "concerto-laq").iterdir())) == 1
    assert index_of(tmp_path) == first
    assert scanned == ["a.webm"]


def test_the_newer_of_two_caches_counts(tmp_path, scanned, monkeypatch):
    """The folder was writable once, and its cache is out of date."""
    write_video(tmp_path / "a.webm", 8)
    index_of(tmp_path)
    os.utime(tmp_path / index_cache.FILE_NAME, ns=(1, 1))
    write_video(tmp_path / "a.webm", 9)
    unwritable(monkeypatch, tmp_path)
    index_of(tmp_path)
    scanned.clear()
    assert index_of(tmp_path).videos[0].num_frames == 9
    assert scanned == []


def test_without_any_place_for_a_cache_the_index_is_made_each_time(tmp_path, scanned, monkeypatch):
    write_video(tmp_path / "a.webm", 8)
    monkeypatch.setattr(index_cache.tempfile, "mkstemp", lambda **_: (_ for _ in ()).throw(OSError("full")))
    assert index_of(tmp_path).videos[0].num_frames == 8
    assert index_of(tmp_path).videos[0].num_frames == 8
    assert scanned == ["a.webm", "a.webm"]


def test_a_cache_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    write_video(tmp_path / "a.webm", 8)
    index_of(tmp_path)
    before = (tmp_path / index_cache.FILE_NAME).read_bytes()
    write_video(tmp_path / "b.webm", 8)

    def fail_half_way(table, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index_cache.pq, "write_table", fail_half_way)
    assert len(index_of(tmp_path).videos) == 2
    assert (tmp_path / index_cache.FILE_NAME).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [index_cache.FILE_NAME, "a.webm", "b.webm"]


def test_max_videos_counts_usable_ones_and_stops_decoding(tmp_path):
    (tmp_path / "a.webm").write_text("words")
    write_video(tmp_path / "b.webm", 8)
    for number in range(60):
        (tmp_path / f"c{number:02d}.webm").hardlink_to(tmp_path / "b.webm")
    index = index_of(tmp_path, max_videos=3)
    assert [entry.name for entry in index.videos] == ["b.webm", "c00.webm", "c01.webm"]
    assert [video.name for video in index.skipped] == ["a.webm"]
    assert pq.read_table(tmp_path / index_cache.FILE_NAME).num_rows < 20
    assert len(index_of(tmp_path).videos) == 61


def test_the_number_of_workers_changes_nothing(tmp_path):
    for number in range(5):
        write_video(tmp_path / f"{number}.webm", 8 + number)
    (tmp_path / "words.webm").write_text("words")
    one = build_index(VideoDataConfig(data_dir=str(tmp_path), num_workers=1))
    (tmp_path / index_cache.FILE_NAME).unlink()
    assert build_index(VideoDataConfig(data_dir=str(tmp_path), num_workers=3)) == one


def test_links_to_folders_are_followed_once(tmp_path):
    write_video(tmp_path / "real/a.webm", 8)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real/loop").symlink_to(folder)
    assert [entry.name for entry in index_of(folder).videos] == ["linked/a.webm"]


def test_a_name_that_is_no_utf8_is_listed(tmp_path):
    write_video(tmp_path / "a.webm", 8)
    try:
        os.rename(os.fsencode(write_video(tmp_path / "b.webm", 8)), os.fsencode(tmp_path) + b"/caf\xe9.webm")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    index = index_of(tmp_path)
    assert [(video.name, video.reason) for video in index.skipped] == [
        ("caf\\udce9.webm", "the file is missing, or its name is not UTF-8")
    ]


def test_the_recorded_layout_is_recognised(tmp_path):
    write_recorded(tmp_path, episodes=2)
    index = index_of(tmp_path)
    assert [entry.name for entry in index.videos] == [
        "videos/fixed/reach-000.webm",
        "videos/moving/reach-000.webm",
        "videos/fixed/reach-001.webm",
        "videos/moving/reach-001.webm",
    ]
    assert index.recorded is not None
    assert index.summary() == f"{tmp_path}: 4 videos with 48 frames, recorded layout (fixed, moving)"
    one_view = index_of(tmp_path, view="moving", max_videos=1)
    assert [entry.name for entry in one_view.videos] == ["videos/moving/reach-000.webm"]
    with pytest.raises(DatasetError, match=r"has no view 'still'; it has fixed, moving"):
        index_of(tmp_path, view="still")


def test_recorded_videos_must_fit_their_index(tmp_path):
    write_recorded(tmp_path, episodes=4, views=("fixed",))
    folder = tmp_path / "videos/fixed"
    (folder / "reach-000.webm").unlink()
    write_video(folder / "reach-001.webm", 11)
    write_video(folder / "reach-002.webm", 12)  # 64x48 instead of 64x64
    write_video(folder / "stranger.webm", 12)
    index = index_of(tmp_path)
    assert [entry.name for entry in index.videos] == ["videos/fixed/reach-003.webm"]
    assert {video.name: video.reason for video in index.skipped} == {
        "videos/fixed/reach-000.webm": "the file is missing, or its name is not UTF-8",
        "videos/fixed/reach-001.webm": "index.json says 12 frames, 11 can be decoded",
        "videos/fixed/reach-002.webm": "64x48 pixels, but index.json says 64x64",
    }
    assert "left out because index.json does not name them: 1 of the files in videos" in index.summary()


def test_a_plain_folder_has_no_views(tmp_path):
    write_video(tmp_path / "a.webm", 8)
    (tmp_path / "index.json").write_text('{"some": "other tool"}')
    index = index_of(tmp_path, view="moving")
    assert index.recorded is None
    assert "a plain folder has no views: --view moving does not apply" in index.summary()


def test_indexing_needs_no_guarded_main_module(tmp_path):
    """Scripts without ``if __name__ == "__main__"`` and Python's prompt can index too."""
    write_video(tmp_path / "a.webm", 8)
    script = tmp_path / "script.py"
    script.write_text(
        "from laq_model.video.config import VideoDataConfig\n"
        "from laq_model.video.index import build_index\n"
        f"print(build_index(VideoDataConfig(data_dir={str(tmp_path)!r})).videos[0].num_frames)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE_ROOT)}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "8"
