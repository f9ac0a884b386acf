"""A small LeRobot dataset of version 3.0, in the layout that the official package writes.

``python tests/written_lerobot.py FOLDER`` makes one to look at, or to open with that package.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from written_videos import numbered_frame, write_video

FPS = 10
LENGTHS = (9, 12, 7, 10)
TOP, WRIST = "observation.images.top", "observation.images.wrist"
SIZE_PX = 64  # the smallest that the AV1 encoder takes
CODECS = {TOP: "libsvtav1", WRIST: "libx264"}
# The last episode begins new files of the top camera and of the frames; the wrist camera has one file.
FILE_OF = {TOP: (0, 0, 0, 1), WRIST: (0, 0, 0, 0), "data": (0, 0, 0, 1)}
TASK = "put the block into the bowl"


def shown_number(episode: int, frame: int) -> int:
    """The number on the top camera's picture; the wrist camera shows 255 minus it."""
    return 40 * episode + frame


def state_of(episode: int, frame: int) -> list[float]:
    """Joint angles; what happens is frame² / 100, (episode + 1) · frame / 10, nothing."""
    return [frame * frame / 100, (episode + 1) * frame / 10, float(episode)]


def action_of(episode: int, frame: int) -> list[float]:
    return [float(frame), 0.5]


def write_lerobot(folder: Path) -> Path:
    """Four episodes, two cameras; frames, states and actions are those of the functions above."""
    features = _features()
    _write_frames(folder, features)
    from_s = {camera: _write_videos(folder, camera) for camera in (TOP, WRIST)}
    _write_meta(folder, features, from_s)
    return folder


def read_frames_table(folder: Path) -> pa.Table:
    """All rows of data/, in order."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("data/*/*.parquet"))])


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _features() -> dict[str, dict]:
    video = {"dtype": "video", "shape": [SIZE_PX, SIZE_PX, 3], "names": ["height", "width", "channels"]}
    counters = {
        name: {"dtype": "int64", "shape": [1], "names": None}
        for name in ("frame_index", "episode_index", "index", "task_index")
    }
    return {
        "action": {"dtype": "float32", "shape": [2], "names": ["shoulder.pos", "gripper.pos"]},
        "observation.state": {"dtype": "float32", "shape": [3], "names": None},
        **{
            camera: {
                **video,
                "info": {
                    "video.height": SIZE_PX,
                    "video.width": SIZE_PX,
                    "video.codec": "av1" if codec == "libsvtav1" else "h264",
                    "video.pix_fmt": "yuv420p",
                    "video.is_depth_map": False,
                    "video.fps": FPS,
                    "video.channels": 3,
                    "has_audio": False,
                },
            }
            for camera, codec in CODECS.items()
        },
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **counters,
    }  # fmt: skip


def _write_videos(folder: Path, camera: str) -> list[float]:
    """Where each episode begins in its file, in seconds."""
    from_s = []
    for file in sorted(set(FILE_OF[camera])):
        pictures: list[np.ndarray] = []
        for episode, length in enumerate(LENGTHS):
            if FILE_OF[camera][episode] == file:
                from_s.append(len(pictures) / FPS)
                numbers = [shown_number(episode, frame) for frame in range(length)]
                numbers = numbers if camera == TOP else [255 - number for number in numbers]
                pictures += [numbered_frame(number, width=SIZE_PX, height=SIZE_PX) for number in numbers]
        write_video(
            folder / f"videos/{camera}/chunk-000/file-{file:03d}.mp4",
            pictures,
            codec=CODECS[camera],
            rate=FPS,
            options={"g": "2", "crf": "30"},
        )
    return from_s


def _episode_rows(episode: int) -> dict[str, list]:
    frames = range(LENGTHS[episode])
    first = sum(LENGTHS[:episode])
    return {
        "action": [action_of(episode, frame) for frame in frames],
        "observation.state": [state_of(episode, frame) for frame in frames],
        "timestamp": [frame / FPS for frame in frames],
        "frame_index": list(frames),
        "episode_index": [episode for _ in frames],
        "index": [first + frame for frame in frames],
        "task_index": [0 for _ in frames],
    }


def _write_frames(folder: Path, features: dict[str, dict]) -> None:
    stored = {name: feature for name, feature in features.items() if feature["dtype"] != "video"}
    types = {"float32": pa.float32(), "int64": pa.int64()}
    schema = pa.schema(
        [
            (name, types[f["dtype"]] if f["shape"] == [1] else pa.list_(types[f["dtype"]], f["shape"][0]))
            for name, f in stored.items()
        ],
        metadata={"huggingface": json.dumps({"info": {"features": {n: _hub(f) for n, f in stored.items()}}})},
    )
    for file in sorted(set(FILE_OF["data"])):
        path = folder / f"data/chunk-000/file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(path, schema, compression="snappy") as writer:
            for episode in range(len(LENGTHS)):
                if FILE_OF["data"][episode] == file:
                    writer.write_table(pa.table(_episode_rows(episode), schema=schema))


def _hub(feature: dict) -> dict:
    value = {"dtype": feature["dtype"], "_type": "Value"}
    if feature["shape"] == [1]:
        return value
    return {"feature": value, "length": feature["shape"][0], "_type": "Sequence"}


def _write_meta(folder: Path, features: dict[str, dict], from_s: dict[str, list[float]]) -> None:
    meta = folder / "meta"
    (meta / "episodes/chunk-000").mkdir(parents=True)
    info = {
        "codebase_version": "v3.0",
        "robot_type": "so100",
        "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS),
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": FPS,
        "splits": {"train": f"0:{len(LENGTHS)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }
    (meta / "info.json").write_text(json.dumps(info, indent=4))
    rows = [_episode_rows(episode) for episode in range(len(LENGTHS))]
    every = {name: [value for row in rows for value in row[name]] for name in rows[0]}
    (meta / "stats.json").write_text(json.dumps({name: _stats(values) for name, values in every.items()}))
    episodes = [
        {
            "episode_index": episode,
            "tasks": [TASK],
            "length": length,
            "data/chunk_index": 0,
            "data/file_index": FILE_OF["data"][episode],
            "dataset_from_index": sum(LENGTHS[:episode]),
            "dataset_to_index": sum(LENGTHS[: episode + 1]),
            **{
                f"videos/{camera}/{name}": value
                for camera, begins in from_s.items()
                for name, value in {
                    "chunk_index": 0,
                    "file_index": FILE_OF[camera][episode],
                    "from_timestamp": begins[episode],
                    "to_timestamp": begins[episode] + length / FPS,
                }.items()
            },
            **{
                f"stats/{name}/{kind}": value
                for name, values in rows[episode].items()
                for kind, value in _stats(values).items()
            },
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for episode, length in enumerate(LENGTHS)
    ]
    pq.write_table(pa.Table.from_pylist(episodes), meta / "episodes/chunk-000/file-000.parquet")
    # As pandas writes a table whose index is the task.
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": dtype, "metadata": None}
        for name, kind, dtype in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    described = {"index_columns": ["task"], "columns": columns, "column_indexes": []}
    tasks = pa.table({"task_index": pa.array([0], pa.int64()), "task": [TASK]})
    pq.write_table(tasks.replace_schema_metadata({"pandas": json.dumps(described)}), meta / "tasks.parquet")


def _stats(values: list) -> dict[str, list]:
    array = np.array(values, np.float64).reshape(len(values), -1)
    quantiles = {f"q{round(100 * q):02d}": np.quantile(array, q, axis=0) for q in (0.01, 0.1, 0.5, 0.9, 0.99)}
    found = {
        "min": array.min(0),
        "max": array.max(0),
        "mean": array.mean(0),
        "std": array.std(0),
        **quantiles,
    }
    return {**{name: value.tolist() for name, value in found.items()}, "count": [len(values)]}


if __name__ == "__main__":
    print(write_lerobot(Path(sys.argv[1])))
