"""A floor of the house imports only floors below it. The picture, docs/architecture.md, changes with it."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "laq" / "laq_model"

# Lowest first. Rooms of one floor do not import each other, unless the floor is marked as chained.
FLOORS = [
    (
        "ground",
        ["errors", "structures", "batch_rows", "weights", "presets", "config_file", "console", "devices"],
        "chained",
    ),
    ("formats", ["lerobot"], ""),
    (
        "rooms",
        [
            *("video", "vggt", "geometry", "pointcloud", "ptv3"),
            *("transformer", "quantizers", "metrics", "published_weights"),
        ],
        "",
    ),
    ("second rooms", ["action_model", "simulation", "geometry_source"], ""),
    ("scene", ["encoder_config", "scene_observation"], "chained"),
    ("assembly", ["webm_dataset", "concerto_wrapper", "concerto_laq"], ""),
    (
        "services",
        [
            *("durable_files", "skipped_videos", "feature_store", "checkpoint", "encoder_fingerprint"),
            *(
                "work_units",
                "process_engine",
                "work_engine",
                "ray_engine",
                "pair_encoding",
                "span_decoding",
                "token_batches",
                "known_actions",
                "trained_run",
                "report",
            ),
        ],
        "chained",
    ),
    (
        "jobs",
        ["training", "precompute", "labelling", "run_report", "visualize", "pretraining", "doctor"],
        "",
    ),
    ("judgement", ["rivals", "evaluation"], "chained"),
    ("demo", ["demo"], ""),
    ("door", ["cli"], ""),
]
LEVEL = {room: level for level, (_, rooms, _) in enumerate(FLOORS) for room in rooms}
CHAINED = {level for level, (_, _, kind) in enumerate(FLOORS) if kind == "chained"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports relatively; every import of ours inside the package is relative."""
    depth = len(path.relative_to(PACKAGE).parts)
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            rooms |= {name for name in names if name != "__version__"}
        if isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            assert not any(name.startswith("laq_model") for name in names), f"{path}: import relatively"
    return rooms


def files() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE]


def test_every_room_has_a_floor():
    assert {room_of(path) for path in files()} - set(LEVEL) == set()


def test_imports_go_down_only():
    wrong = []
    for path in files():
        own = room_of(path)
        for room in imported_rooms(path) - {own}:
            allowed = LEVEL[room] < LEVEL[own] or (LEVEL[room] == LEVEL[own] and LEVEL[own] in CHAINED)
            if not allowed:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {room}")
    assert wrong == []


def test_the_picture_names_every_room():
    picture = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text()
    missing = [room for room in LEVEL if f"{room}/" not in picture and f"{room}.py" not in picture]
    assert missing == []
