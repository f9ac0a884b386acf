"""The pixels-only rival learns from real clips, survives interruption, and is not trained twice."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from moving_square import OFFSET, SIDE, all_pairs_of, budget, pixel_config, write_squares
from torch.testing import assert_close

from laq_model.checkpoint import RunFolder, open_run
from laq_model.errors import RunError
from laq_model.rivals import train_pixels as module
from laq_model.rivals.frame_file import open_frame_file
from laq_model.rivals.pixel_laq import PixelLAQ
from laq_model.rivals.train_pixels import train_pixels


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("squares"))


def trained(folder, index, config=None, **changes):
    return train_pixels(
        folder, config or pixel_config(), budget(**changes), pairs=all_pairs_of(index), index=index
    )


@pytest.fixture(scope="module")
def unbroken(index, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, trained(folder / "pixels", index).state_dict()


def test_frames_are_those_of_the_videos(index, tmp_path):
    file = open_frame_file(tmp_path / "frames", index, index.videos, side=SIDE, num_workers=2)
    right = [entry.name for entry in index.videos].index("right_6.webm")
    pair = file.pairs([(right, 1)], frame_offset=OFFSET)[0]
    columns = (pair[:, :, :, 0] > 128).float().sum(1).argmax(-1)  # left edge of the square
    assert (columns[1] - columns[0]).item() == 2 * OFFSET
    written = (tmp_path / "frames" / "frames.npy").stat().st_mtime_ns
    open_frame_file(tmp_path / "frames", index, index.videos, side=SIDE)
    assert (tmp_path / "frames" / "frames.npy").stat().st_mtime_ns == written
    smaller = open_frame_file(tmp_path / "frames", index, index.videos[:2], side=16)
    assert smaller.pairs([(1, 0)], frame_offset=OFFSET).shape == (1, 2, 16, 16, 3)


def test_its_codes_tell_what_moves(index, tmp_path):
    model = trained(tmp_path / "pixels", index, num_steps=150, learning_rate=5e-3)
    pairs = all_pairs_of(index)
    file = open_frame_file(tmp_path / "frames", index, index.videos, side=SIDE)
    frames = file.pairs([pairs.draw(0, number) for number in range(len(pairs))], frame_offset=OFFSET)
    told = model.quantizer.lookup(model.quantizer.nearest(model.encode_continuous(frames)))
    error, copy_error = model.prediction_errors(frames, told)
    assert error.mean() < 0.6 * copy_error.mean()
    of_others = model.prediction_errors(frames, told.roll(8, 0))[0]  # two videos on: another way
    assert error.mean() < 0.9 * of_others.mean()


def test_a_stopped_training_goes_on_to_the_same_bits(index, unbroken, tmp_path, monkeypatch, capsys):
    append = RunFolder.append_metrics

    def stop(run, row):
        append(run, row)
        if row["step"] == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RunFolder, "append_metrics", stop)
    with pytest.raises(SystemExit) as caught:
        trained(tmp_path, index)
    assert caught.value.code == 128 + signal.SIGTERM
    said = capsys.readouterr().out
    assert "stopped after step 7 of 12 of the rival pixels; saved. Go on with:" in said
    assert "--resume" not in said
    monkeypatch.undo()
    assert (tmp_path / "frames").exists()
    state = trained(tmp_path, index).state_dict()
    assert all(torch.equal(state[key], value) for key, value in unbroken[1].items())
    steps = [row["step"] for row in open_run(tmp_path).read_metrics()]
    assert steps == list(range(1, 13))
    assert not (tmp_path / "frames").exists()


def test_a_step_in_turns_is_the_step_at_once(index, unbroken, tmp_path):
    file = open_frame_file(tmp_path / "frames", index, index.videos, side=SIDE)
    moved = []
    for size in (0, 3):
        model = PixelLAQ(pixel_config()).train()
        model.load_state_dict(unbroken[1])
        options = budget(micro_batch_size=size).optimization
        batches = module._Batches(all_pairs_of(index), file, options)
        # Plain descent: Adam's first step would be of one length whatever the gradient.
        module._take_step(model, torch.optim.SGD(model.parameters()), batches, step=8)
        weight = model.inverse_dynamics.embedding.weight
        moved.append(weight.detach() - unbroken[1]["inverse_dynamics.embedding.weight"])
    assert moved[0].any()
    assert_close(moved[1], moved[0], atol=0.02 * float(moved[0].abs().max()), rtol=0)


def test_a_finished_rival_is_read_not_trained(index, unbroken, monkeypatch):
    folder, state = unbroken
    monkeypatch.setattr(module, "open_frame_file", lambda *_, **__: pytest.fail("decoded again"))
    random = torch.get_rng_state()
    again = trained(folder / "pixels", index)
    assert torch.equal(torch.get_rng_state(), random)
    assert not again.training
    assert all(torch.equal(again.state_dict()[key], value) for key, value in state.items())


def test_a_rival_of_other_settings_is_refused(index, unbroken):
    folder = unbroken[0] / "pixels"
    with pytest.raises(
        RunError, match=r"was trained otherwise \(num_steps was 12, is 13\); delete that folder"
    ):
        trained(folder, index, num_steps=13)
    with pytest.raises(RunError, match="patch_size was 8, is 16"):
        trained(folder, index, replace(pixel_config(), patch_size=16))
    fewer = replace(index, videos=index.videos[:4])
    with pytest.raises(RunError, match="other training videos"):
        trained(folder, fewer)
