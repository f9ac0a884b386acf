"""The demo pack's 24 episodes before the fixed camera as a LeRobot v3.0 dataset, to try recipes on.

python examples/demo_as_lerobot.py demo_lerobot      # or: … demo_lerobot 4, for the first four episodes
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laq_model.lerobot.statistics import FeatureStatistics
from laq_model.published_weights import embedded_file

CAMERA = "observation.images.fixed"
FILE = "chunk-000/file-000"
COUNTERS = ("frame_index", "episode_index", "index", "task_index")


def main(folder: Path, num_episodes: int) -> None:
    """Write the first episodes into a folder that does not exist yet."""
    if folder.exists():
        sys.exit(f"error: {folder} is there already; name a folder that is not")
    pack = embedded_file("demo_pack")
    index = json.loads((pack / "index.json").read_text())
    episodes, fps = index["episodes"][:num_episodes], index["fps"]
    tasks = sorted({episode["task"] for episode in episodes})
    for sub in (f"videos/{CAMERA}", "data", "meta/episodes"):
        (folder / sub / FILE).parent.mkdir(parents=True)

    videos = [pack / "videos" / "fixed" / f"{episode['name']}.webm" for episode in episodes]
    size = write_video(folder / f"videos/{CAMERA}/{FILE}.mp4", pictures_of(videos), fps=fps)
    tables, first = [], 0
    for number, episode in enumerate(episodes):
        labels = np.load(pack / "labels" / f"{episode['name']}.npz")
        tables.append(frames_table(labels, number, first, tasks.index(episode["task"]), fps))
        first += len(tables[-1])
    frames = pa.concat_tables(tables)
    pq.write_table(frames, folder / f"data/{FILE}.parquet")
    pq.write_table(episodes_table(tables, episodes, fps), folder / f"meta/episodes/{FILE}.parquet")
    pq.write_table(tasks_table(tasks), folder / "meta/tasks.parquet")
    (folder / "meta/stats.json").write_text(json.dumps(statistics(frames)))
    (folder / "meta/info.json").write_text(json.dumps(info(frames, episodes, tasks, fps, size), indent=2))
    print(f"{len(episodes)} episodes, {len(frames)} frames → {folder}")


def pictures_of(videos: list[Path]) -> Iterator[np.ndarray]:
    """All frames of all videos, as one after the other."""
    for video in videos:
        with av.open(str(video)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")


def write_video(path: Path, pictures: Iterator[np.ndarray], *, fps: int) -> list[int]:
    """One H.264 file of all episodes; gives height and width."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18", "g": "5"})
        for picture in pictures:
            if not stream.codec_context.is_open:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
        return [stream.height, stream.width]


def frames_table(labels: Any, episode: int, first: int, task: int, fps: int) -> pa.Table:
    """The rows of one episode: hand and gripper as state, the command as action."""
    state = np.column_stack([labels["ee_pos"], labels["gripper_open"]]).astype(np.float32)
    action = labels["actions"].astype(np.float32)
    action = np.concatenate([action, action[-1:]])  # the last frame leads nowhere: its command is held
    count = len(state)
    return pa.table(
        {
            "observation.state": pa.array(state.tolist(), pa.list_(pa.float32(), 4)),
            "action": pa.array(action.tolist(), pa.list_(pa.float32(), 4)),
            "timestamp": pa.array([frame / fps for frame in range(count)], pa.float32()),
            "frame_index": range(count),
            "episode_index": [episode] * count,
            "index": range(first, first + count),
            "task_index": [task] * count,
        }
    )


def episodes_table(tables: list[pa.Table], episodes: list[dict[str, Any]], fps: int) -> pa.Table:
    """Where each episode lies in the files, and its statistics."""
    rows, first = [], 0
    for number, (table, episode) in enumerate(zip(tables, episodes, strict=True)):
        end = first + len(table)
        rows.append(
            {
                "episode_index": number,
                "tasks": [episode["task"]],
                "length": len(table),
                "data/chunk_index": 0,
                "data/file_index": 0,
                "dataset_from_index": first,
                "dataset_to_index": end,
                f"videos/{CAMERA}/chunk_index": 0,
                f"videos/{CAMERA}/file_index": 0,
                f"videos/{CAMERA}/from_timestamp": first / fps,
                f"videos/{CAMERA}/to_timestamp": end / fps,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
                **{
                    f"stats/{column}/{kind}": value
                    for column, of_column in statistics(table).items()
                    for kind, value in of_column.items()
                },
            }
        )
        first = end
    return pa.Table.from_pylist(rows)


def tasks_table(tasks: list[str]) -> pa.Table:
    """As pandas writes a table whose index is the task: lerobot reads it so."""
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": dtype, "metadata": None}
        for name, kind, dtype in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    described = {"index_columns": ["task"], "columns": columns, "column_indexes": []}
    table = pa.table({"task_index": range(len(tasks)), "task": tasks})
    return table.replace_schema_metadata({"pandas": json.dumps(described)})


def statistics(frames: pa.Table) -> dict[str, dict[str, list[float]]]:
    """Of every column."""
    found = {}
    for name in frames.column_names:
        of_column = FeatureStatistics()
        of_column.add(np.array(frames[name].to_pylist(), np.float64).reshape(len(frames), -1))
        found[name] = of_column.as_json()
    return found


def info(
    frames: pa.Table, episodes: list[dict[str, Any]], tasks: list[str], fps: int, size: list[int]
) -> dict[str, Any]:
    """What ``meta/info.json`` says."""
    vector = {"dtype": "float32", "shape": [4], "names": ["x", "y", "z", "gripper"]}
    return {
        "codebase_version": "v3.0",
        "robot_type": "simulated",
        "total_episodes": len(episodes),
        "total_frames": len(frames),
        "total_tasks": len(tasks),
        "chunks_size": 1000,
        "fps": fps,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {
            CAMERA: {"dtype": "video", "shape": [*size, 3], "names": ["height", "width", "channels"]},
            "observation.state": vector,
            "action": vector,
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **{name: {"dtype": "int64", "shape": [1], "names": None} for name in COUNTERS},
        },
    }


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or not all(number.isdecimal() for number in sys.argv[2:]):
        sys.exit("usage: python examples/demo_as_lerobot.py FOLDER [NUMBER OF EPISODES]")
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 24)
