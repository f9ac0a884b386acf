"""The pixels-only rival: patches, codes that follow from pixels, and what it is told."""

from dataclasses import asdict

import pytest
import torch
from moving_square import pixel_config, square_at
from torch.testing import assert_close

from laq_model.errors import ConfigError
from laq_model.rivals.config import rival_of
from laq_model.rivals.patches import patch_centres, patch_statistics, to_patches
from laq_model.rivals.pixel_laq import PixelLAQ
from tiny_training import MODEL


def model(**changes) -> PixelLAQ:
    torch.manual_seed(0)
    return PixelLAQ(pixel_config(**changes))


def pair(*columns: int) -> torch.Tensor:
    return torch.from_numpy(torch.stack([torch.from_numpy(square_at(c)) for c in columns]).numpy())[None]


def test_a_patch_is_a_square_of_the_picture():
    frames = torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8)
    frames[0, 1, 1, 2] = torch.tensor([255, 51, 0])  # row 1, column 2: in the second patch of the first row
    patches = to_patches(frames, patch_size=2)
    assert patches.shape == (1, 2, 4, 12)
    expected = torch.zeros(2, 4, 12)
    expected[1, 1, 6:9] = torch.tensor([1.0, 0.2, 0.0])  # second row, first column of that patch
    assert_close(patches[0], expected)
    # Columns run fastest, to the right; rows go down.
    assert patch_centres(2)[:, :2].tolist() == [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]


def test_standardised_patches_have_mean_0_and_deviation_1_where_anything_varies():
    rival = model()
    frames = torch.randint(0, 256, (64, 2, 32, 32, 3), dtype=torch.uint8)
    frames[..., 0] = 77  # red never varies
    batches = to_patches(frames, patch_size=8).split(10)
    rival.set_patch_statistics(*patch_statistics(batches))
    rows = rival.patches(frames).flatten(0, 2)
    assert_close(rows.mean(0), torch.zeros(192), atol=1e-3, rtol=0)
    expected = torch.ones(64, 3)
    expected[:, 0] = 0
    assert_close(rows.std(0).view(64, 3), expected, atol=1e-2, rtol=0)


def test_sizes_and_codes_are_those_of_the_run():
    config = rival_of(MODEL, frame_size=112, patch_size=14)
    assert config.patches_per_side == 8
    for name in ("dim", "codebook_size", "code_seq_len", "quantizer", "quantizer_dim", "predictor_depth"):
        assert asdict(config)[name] == asdict(MODEL)[name]
    with pytest.raises(ConfigError, match="pixel_patch_size must divide pixel_frame_size, got 15 for 112"):
        rival_of(MODEL, frame_size=112, patch_size=15)


def test_a_frame_with_itself_has_one_code_whatever_it_shows():
    rival = model().eval()
    same = torch.cat([pair(3, 3), pair(20, 20)])
    vectors = rival.encode_continuous(same)
    assert_close(vectors[0], vectors[1])
    moved = rival.encode_continuous(torch.cat([pair(3, 9), pair(9, 3)]))
    assert (moved[0] - moved[1]).abs().max() > 1e-3
    assert (rival.prediction_errors(same, vectors)[1] == 0).all()


def test_the_predictor_sees_the_current_frame_and_the_codes_only():
    rival = model().eval()
    frames = torch.cat([pair(3, 9), pair(3, 20)])
    patches = rival.patches(frames)
    vectors = rival.encode_continuous(frames)[:1].expand(2, -1, -1)
    change = rival.forward_dynamics(patches[:, 0], vectors, rival.angles)
    assert_close(change[0], change[1])
    error, copy_error = rival.prediction_errors(frames, vectors)
    assert_close(error, (change - patches[:, 1] + patches[:, 0]).square().mean(-1))
    assert not torch.equal(copy_error[0], copy_error[1])


@pytest.mark.parametrize("progress", [0.1, 0.9])  # noise in place of the error; hard codes
def test_every_parameter_learns_and_both_losses_are_reported(progress):
    rival = model().train()
    frames = torch.cat([pair(c, c + d) for c, d in ((2, 4), (8, -4), (12, 0), (5, 6))])
    for _ in range(2):  # the first step starts the codebook
        out = rival(frames, generator=torch.Generator().manual_seed(1), progress=progress)
        rival.zero_grad()
        out.loss.backward()
    idle = [name for name, p in rival.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    is_hard = progress > 0.5
    assert torch.equal(out.hard_code_loss, out.prediction_loss.detach()) == is_hard
    assert set(out.scalars()) >= {"loss", "copy_loss", "codebook_loss", "perplexity"}
