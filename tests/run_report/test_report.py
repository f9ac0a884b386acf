"""The report job on a run of a second: from a store, from videos, and what is said of what is missing."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch

from encoded_videos import store_and_run
from fake_encoder import FakeEncoder
from laq_model.cli import main
from laq_model.errors import ConfigError, DatasetError, RunError
from laq_model.feature_store import FeatureStore
from laq_model.run_report import report as report_module
from laq_model.run_report import shown_pairs as shown_module
from laq_model.run_report.report import RunReportConfig, report, report_page
from laq_model.structures import DepthAndCameras
from laq_model.trained_run import open_trained_run
from laq_model.video.config import VideoDataConfig
from written_videos import write_recorded, write_video

DATA = VideoDataConfig(frame_size=112, frame_offset=5, num_workers=2, held_out_fraction=0.4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Plain videos, their store, and a run trained from it."""
    root = tmp_path_factory.mktemp("made")
    for number in range(8):
        write_video(root / "videos" / f"v{number}.webm", 16)
    store_and_run(root, replace(DATA, data_dir=str(root / "videos")), num_steps=10)
    return root


class BrightIsNear:
    """Depth that follows from the frames alone, before a camera that stands still."""

    name = "bright"

    def __call__(self, frames, recorded):
        scenes, views, _, height, width = frames.shape
        middle = (width - 1) / 2
        intrinsics = torch.tensor([[100.0, 0, middle], [0, 100, middle], [0, 0, 1]])
        return DepthAndCameras(
            depth=1 - 0.4 * frames.mean(2),
            confidence=torch.ones(scenes, views, height, width),
            intrinsics=intrinsics.expand(scenes, views, 3, 3),
            cam_from_world=torch.eye(3, 4).expand(scenes, views, 3, 4),
            world_up=torch.tensor([[0.0, -1, 0]]).expand(scenes, 3),
            is_metric=False,
        )


@pytest.fixture(autouse=True)
def no_networks(monkeypatch):
    """A fake encoder with a fake source; no weights beside a store."""
    encoder = FakeEncoder()
    encoder.source = BrightIsNear()
    monkeypatch.setattr(shown_module, "build_encoder", lambda config, device: encoder)
    monkeypatch.setattr(shown_module, "has_vggt_weights", lambda model, file: False)


def config_for(made, **changes) -> RunReportConfig:
    return replace(RunReportConfig(checkpoint=made / "run", device="cpu"), **changes)


def held_out(made) -> set[str]:
    return set(json.loads((made / "run/run.json").read_text())["data"]["held_out"])


def test_codes_are_those_of_the_held_out_pairs(made):
    page = report_page(config_for(made))
    store, model = FeatureStore(made / "store"), open_trained_run(made / "run").model
    rows = [row for row, name in enumerate(store.names) if name.video in held_out(made)]
    assert list(page.pairs.names) == [store.names[row] for row in rows]
    assert torch.equal(page.pairs.codes, model.encode(store.read(rows).to("cpu")).codes)
    assert page.gallery.groups
    everything = report_page(config_for(made, videos="all"))
    assert len(everything.pairs.names) == len(store)


def test_videos_are_encoded_where_they_are_asked_for(made):
    page = report_page(config_for(made, data_dir=str(made / "videos"), max_videos=2))
    assert {name.video for name in page.pairs.names} == set(sorted(held_out(made))[:2])
    # By default a pair begins where one ends.
    assert sorted({name.current_index for name in page.pairs.names}) == [0, 5, 10]
    assert "as the model sees it" in page.gallery.text
    drawn = [clip.motion_px for group in page.gallery.groups for clip in group.clips]
    assert any(path is not None for path in drawn)
    titles = [section.title for section in page.sections()]
    assert titles.index("The two frames in one world") == titles.index("What moved between two frames") + 1
    every = report_page(config_for(made, data_dir=str(made / "videos"), videos="all", every_n=2))
    assert "nominal cm" in " ".join(group.text for group in every.gallery.groups)
    assert sorted({name.current_index for name in every.pairs.names}) == [0, 2, 4, 6, 8, 10]


def test_the_page_is_one_file_and_says_what_was_not_measured(made, tmp_path, capsys):
    main(["report", str(made / "run"), "--output", str(tmp_path / "deep/page.html"), "--num_codes", "1"])
    said = capsys.readouterr().out
    assert re.search(r"report → .*page\.html \(0\.\d MiB\)", said)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["page.html"]
    page = (tmp_path / "deep/page.html").read_text()
    for words in ("This was not measured", f"concerto-laq evaluate --checkpoint {made / 'run'}"):
        assert words in page
    for title in (
        "What each code means",
        "Use of the codes",
        "What follows what",
        "Training",
        "Known limits",
    ):
        assert f">{title}</h2>" in page
    assert "the weights of VGGT are not on this machine" in page
    assert "What moved between two frames" not in page


def test_an_evaluation_of_these_weights_is_found(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    figures = {"copy_ratio_hard": 0.5, "probe.linear.ee_displacement.r2_mean": 0.25, "notes": []}
    (run / "evaluation").mkdir()
    file = run / "evaluation" / "evaluation.json"
    file.write_text(json.dumps({**figures, "model": open_trained_run(run).fingerprint}))
    titles = [section.title for section in report_page(config_for(made, checkpoint=run)).sections()]
    assert titles[0] == "What the tokens tell of the hand's motion"
    assert "Prediction" in titles
    file.write_text(json.dumps({**figures, "model": "older"}))
    page = report_page(config_for(made, checkpoint=run))
    assert page.evaluation is None
    assert any("is of older weights of this run, and is left out" in line for line in page.missing)
    with pytest.raises(RunError, match="is of the model older, the run's is"):
        report_page(config_for(made, checkpoint=run, evaluation=str(file)))


def test_without_videos_there_are_codes_but_no_clips(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    record = json.loads((run / "run.json").read_text())
    record["config"]["data"]["data_dir"] = str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(record))
    page = report_page(config_for(made, checkpoint=run))
    assert page.pairs is not None
    assert page.gallery is None
    assert any(line.startswith("No clips, because the run's videos are not here") for line in page.missing)
    record["config"]["features"] = str(tmp_path / "gone_too")
    (run / "run.json").write_text(json.dumps(record))
    page = report_page(config_for(made, checkpoint=run))
    assert page.pairs is None
    assert any(line.startswith("No codes and clips, because") for line in page.missing)
    assert "Training" in [section.title for section in page.sections()]


def test_what_was_asked_for_by_name_must_be_there(made, tmp_path):
    with pytest.raises((ConfigError, DatasetError), match="nowhere"):
        report_page(config_for(made, data_dir=str(tmp_path / "nowhere")))
    with pytest.raises(DatasetError, match="nowhere"):
        report_page(config_for(made, features=str(tmp_path / "nowhere")))
    with pytest.raises(DatasetError, match="no pair of the view 'fixed' of a video that the run was not"):
        report_page(config_for(made, view="fixed"))
    with pytest.raises(RunError, match=r"is no run folder|has no weights"):
        report(config_for(made, checkpoint=tmp_path))


def test_a_page_that_cannot_be_written_is_refused_before_the_work(made, tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "open_trained_run", lambda *_, **__: pytest.fail("worked first"))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write to .*; choose another --output"):
        report(config_for(made, output=str(tmp_path / "file" / "page.html")))


def test_an_interrupted_report_leaves_nothing(made, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(report_module, "code_gallery", stop)
    with pytest.raises(SystemExit) as exit_info:
        main(["report", str(made / "run"), "--output", str(tmp_path / "page.html")])
    assert exit_info.value.code == 130
    assert list(tmp_path.iterdir()) == []


def test_recorded_hands_are_drawn_over_recorded_videos(made, tmp_path):
    folder = tmp_path / "recorded"
    write_recorded(folder, episodes=2, num_frames=16)
    page = report_page(config_for(made, data_dir=str(folder)))
    assert "the hand, as recorded" in page.gallery.text
    assert {name.video for name in page.pairs.names} == {
        f"videos/{view}/reach-00{number}.webm" for view in ("fixed", "moving") for number in range(2)
    }


def test_videos_of_another_store_give_no_clips(made, tmp_path):
    write_recorded(tmp_path / "other", episodes=2, num_frames=16)
    page = report_page(
        config_for(made, data_dir=str(tmp_path / "other"), features=str(made / "store"), videos="all")
    )
    assert len(page.pairs.names) == len(FeatureStore(made / "store"))
    assert page.gallery is None
    assert any("has none of the store's videos" in line for line in page.missing)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"every_n": -1}, "every_n must not be negative, got -1"), ({"batch_size": 0}, "batch_size must be")],
)
def test_impossible_settings_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        RunReportConfig(**changes)
