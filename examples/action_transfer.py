"""Transfer of an action: encode it on one clip, apply it to other clips, find the nearest real outcome.

    make demo                                        # trains the small model of demo_output/run, in minutes
    python examples/action_transfer.py               # or: … action_transfer.py DEMO_FOLDER PICTURE.png

The action is that of the pair in which most moved, of all held-out ones before the fixed camera. In each
other held-out clip it is applied to every stored frame; shown is the frame whose real future comes nearest to
what the model expects, in shares of the error of expecting no change. The hand's true motion says whether it
is the same action.
"""

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from laq_model.action_model.motion import scene_motion, seen_by_both
from laq_model.concerto_laq import ConcertoLAQ
from laq_model.feature_store import FeatureStore, PairName
from laq_model.published_weights import embedded_file
from laq_model.structures import PairTokens
from laq_model.trained_run import open_trained_run
from laq_model.video.decode import read_frames
from laq_model.video.scan import scan_video

PACK = embedded_file("demo_pack")


def main(demo: Path, picture: Path) -> None:
    """Print the outcome in every clip, and draw it."""
    model, store = open_trained_run(demo / "run").model, FeatureStore(demo / "features")
    held_out = json.loads((demo / "run" / "run.json").read_text())["data"]["held_out"]
    pairs = [n for n, name in enumerate(store.names) if name.video in held_out and "/fixed/" in name.video]
    source = max(pairs, key=lambda n: float(scene_motion(store.read([n]).to("cpu")).norm()))
    codes = model.encode(store.read([source]).to("cpu")).codes
    shown = [store.names[source]]
    print(f"the action: codes {codes[0].tolist()}, {described(shown[0])}")
    for video in sorted({store.names[n].video for n in pairs} - {shown[0].video}):
        candidates = [n for n in pairs if store.names[n].video == video]
        error = outcome_error(model, store.read(candidates).to("cpu"), codes)
        nearest = store.names[candidates[int(error.argmin())]]
        alike = [likeness(shown[0], store.names[n]) for n in candidates]
        print(
            f"{described(nearest)}; error {error.min():.2f} of copying's, "
            f"cosine with the action {likeness(shown[0], nearest):.2f} "
            f"(mean of the clip {np.mean(alike):.2f})"
        )
        shown.append(nearest)
    draw(shown, picture)
    print(f"picture: {picture}")


def outcome_error(model: ConcertoLAQ, pairs: PairTokens, codes: Tensor) -> Tensor:
    """How far each real future is from what the action predicts, over how far it is from no change."""
    expected = model.predict_next(pairs, codes.expand(len(pairs.feat), -1))
    is_told = seen_by_both(pairs)

    def distance(features: Tensor) -> Tensor:
        squared = ((features - pairs.feat[:, 1]) / model.feature_std).square().mean(-1)
        return (squared * is_told).sum(-1)

    return distance(expected) / distance(pairs.feat[:, 0])


def hand_motion_cm(name: PairName) -> np.ndarray:
    """The true motion, which the model never saw."""
    hand_m = np.load(PACK / "labels" / f"{Path(name.video).stem}.npz")["ee_pos"]
    return 100 * (hand_m[name.future_index] - hand_m[name.current_index])


def likeness(one: PairName, other: PairName) -> float:
    """Cosine of two motions of the hand; 0 if one stands still."""
    a, b = hand_motion_cm(one), hand_motion_cm(other)
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-9))


def described(name: PairName) -> str:
    """Clip, frames and the hand's motion."""
    x, y, z = hand_motion_cm(name)
    clip = f"{Path(name.video).stem}, frames {name.current_index} to {name.future_index}"
    return f"{clip}: hand moves by ({x:.1f}, {y:.1f}, {z:.1f}) cm"


def draw(shown: list[PairName], path: Path) -> None:
    """Current and future frame of each, one column a clip, the action first."""
    figure = Figure(figsize=(2.6 * len(shown), 5.6), layout="constrained")
    for column, (name, axes) in enumerate(
        zip(shown, figure.subplots(2, len(shown), squeeze=False).T, strict=True)
    ):
        table = scan_video(PACK / name.video)
        frames = read_frames(PACK / name.video, table, [name.current_index, name.future_index])
        for frame, cell in zip(frames, axes, strict=True):
            cell.imshow(frame)
            cell.set_axis_off()
        x, y, z = hand_motion_cm(name)
        axes[0].set_title(
            "the action" if column == 0 else f"nearest in\n{Path(name.video).stem}", fontsize=10
        )
        axes[1].set_title(f"hand ({x:.1f}, {y:.1f}, {z:.1f}) cm", fontsize=9)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output")
    main(folder, Path(sys.argv[2]) if len(sys.argv) > 2 else folder / "action_transfer.png")
