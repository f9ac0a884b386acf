"""A scan finds a video's true frames, where one may seek, and where its damage begins."""

import random

import av
import numpy as np
import pytest

from laq_model.errors import VideoReadError
from laq_model.video.decode import read_frames
from laq_model.video.scan import picture_digest, scan_video
from written_videos import number_in, write_video


def overwrite(path, *, share, num_bytes=120):
    """Replace bytes in the middle of a file by noise."""
    content = bytearray(path.read_bytes())
    start = int(len(content) * share)
    content[start : start + num_bytes] = random.Random(0).randbytes(num_bytes)
    path.write_bytes(content)


def cut(path, *, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def test_a_webm_that_was_cut_off_keeps_its_sound_frames(tmp_path):
    path = write_video(tmp_path / "cut.webm", 60)
    cut(path, share=0.6)
    table = scan_video(path)
    assert 6 < table.num_frames < 60
    assert table.damage == (
        f"only the first {table.num_frames} frames are sound (matroska,webm: File ended prematurely)"
    )
    frames = read_frames(path, table, range(table.num_frames))
    assert [number_in(rgb) for rgb in frames] == list(range(table.num_frames))


def test_an_mp4_that_was_cut_off_keeps_its_sound_frames(tmp_path):
    """With its header in front; otherwise nothing can be read (see below)."""
    path = write_video(tmp_path / "cut.mp4", 60, codec="libx264", container_options={"movflags": "faststart"})
    cut(path, share=0.7)
    table = scan_video(path)
    assert 6 < table.num_frames < 60
    assert table.damage.startswith(f"only the first {table.num_frames} frames are sound (a packet is cut")
    frames = read_frames(path, table, range(table.num_frames))
    assert [number_in(rgb) for rgb in frames] == list(range(table.num_frames))


def test_a_container_without_its_directory_cannot_be_opened(tmp_path):
    path = write_video(tmp_path / "cut.mp4", 60, codec="libx264")
    cut(path, share=0.5)
    with pytest.raises(VideoReadError, match=r"cut\.mp4: cannot be opened as a video \(Invalid data found"):
        scan_video(path)


def noise(num_frames: int) -> list[np.ndarray]:
    """Pictures that take many bytes, so that a hole in the file hits one."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(num_frames)]


@pytest.mark.parametrize(
    ("name", "codec", "pictures", "num_bytes"),
    [
        ("hole.webm", "libvpx-vp9", 60, 120),
        ("hole.webm", "libvpx", 60, 120),
        # Two frames and more: inside one frame H.264 takes noise for a picture in every second stream.
        ("hole.mp4", "libx264", noise(40), 4000),
        ("hole.avi", "mpeg4", noise(40), 4000),
    ],
    ids=["vp9", "vp8", "h264", "mpeg4"],
)
def test_frames_after_damage_are_not_used(tmp_path, name, codec, pictures, num_bytes):
    path = write_video(tmp_path / name, pictures, codec=codec, options={"g": "8"})
    sound = scan_video(path)
    before = read_frames(path, sound, range(sound.num_frames))
    overwrite(path, share=0.6, num_bytes=num_bytes)
    table = scan_video(path)
    assert sound.damage == ""
    assert 10 < table.num_frames < 0.8 * sound.num_frames
    assert table.damage.startswith(f"only the first {table.num_frames} frames are sound (")
    for index, rgb in enumerate(read_frames(path, table, range(table.num_frames))):
        assert np.array_equal(rgb, before[index])


def test_what_the_decoder_only_complains_about_is_told(tmp_path):
    """Decoders complain about harmless tags too, so such frames are used; FFV1 notices a wrong checksum."""
    path = write_video(tmp_path / "flipped.mkv", 40, codec="ffv1", options={"level": "3", "slicecrc": "1"})
    with av.open(str(path)) as container:
        packet = list(container.demux(video=0))[5]
        middle = packet.pos + packet.size // 2
    content = bytearray(path.read_bytes())
    content[middle] ^= 0xFF
    path.write_bytes(content)
    table = scan_video(path)
    assert table.num_frames == 40
    assert table.damage.startswith("the decoder complains (ffv1: slice CRC mismatch")
    assert not table.keyframes


def test_complaints_belong_to_their_own_file(tmp_path):
    broken, sound = write_video(tmp_path / "a.webm", 30), write_video(tmp_path / "b.webm", 30)
    cut(broken, share=0.6)
    damage = scan_video(broken).damage
    assert damage != ""
    assert scan_video(broken).damage == damage  # FFmpeg's log would leave a repeated message out
    assert scan_video(sound).damage == ""
    assert av.logging.get_level() is None or av.logging.get_level() < av.logging.ERROR


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no video, just words\n" * 50, r"cannot be opened as a video \(Invalid data found"),
        (b"", r"cannot be opened as a video \(Invalid data found"),
        (bytes(2000), r"cannot be opened as a video \(Invalid data found"),
    ],
    ids=["text", "empty", "zeros"],
)
def test_no_video_at_all(tmp_path, content, reason):
    path = tmp_path / "fake.webm"
    path.write_bytes(content)
    with pytest.raises(VideoReadError, match=reason):
        scan_video(path)


def test_sound_without_pictures(tmp_path):
    path = tmp_path / "song.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus", rate=48000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 960), np.int16), format="s16", layout="stereo")
        silence.sample_rate = 48000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(VideoReadError, match=r"song\.webm: holds no video stream"):
        scan_video(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(VideoReadError, match=r"gone\.webm: cannot be opened as a video \(No such file"):
        scan_video(tmp_path / "gone.webm")


def test_tags_in_an_old_code_page_are_no_obstacle(tmp_path):
    path = write_video(tmp_path / "tagged.mkv", 8)
    with av.open(str(path)) as source, av.open(str(tmp_path / "new.mkv"), "w") as target:
        target.metadata["title"] = "K-che"
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    content = (tmp_path / "new.mkv").read_bytes()
    assert content.count(b"K-che") == 1
    path.write_bytes(content.replace(b"K-che", b"K\xfcche"))
    assert scan_video(path).num_frames == 8


def test_the_containers_own_claim_does_not_count(tmp_path):
    """A WebM that was cut still claims its full duration."""
    path = write_video(tmp_path / "cut.webm", 60)
    cut(path, share=0.6)
    with av.open(str(path)) as container:
        assert container.duration == 6 * av.time_base
    assert scan_video(path).time_s(scan_video(path).num_frames - 1) < 5


def test_only_keyframes_that_give_the_same_pictures_are_kept(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.webm", 50, options={"g": "20"})
    assert list(scan_video(path).keyframes) == [20, 40]
    seen = []

    def lying_digest(frame):
        """After the scan from the start, the frames after the second keyframe look different."""
        seen.append(frame.pts)
        return hash((picture_digest(frame), len(seen) > 13 and frame.pts >= 4000))

    monkeypatch.setattr("laq_model.video.scan.picture_digest", lying_digest)
    assert list(scan_video(path).keyframes) == [20]


def test_keyframes_close_together_are_thinned(tmp_path):
    path = write_video(tmp_path / "intra.avi", 50, codec="mjpeg", pix_fmt="yuvj420p")
    assert list(scan_video(path).keyframes) == [16, 32, 48]


def test_the_digest_sees_pixels_and_not_the_padding():
    picture = np.zeros((10, 30, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="gray")
    assert frame.planes[0].line_size > 30
    digest = picture_digest(frame)
    padded = bytearray(frame.planes[0])
    padded[30] = 77  # the first byte after the first row's pixels
    frame.planes[0].update(bytes(padded))
    assert picture_digest(frame) == digest
    padded[29] ^= 1
    frame.planes[0].update(bytes(padded))
    assert picture_digest(frame) != digest
