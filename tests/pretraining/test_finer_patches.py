import torch
import torch.nn.functional as F
from test_tiny_vggt import MICRO_NETWORK
from torch.testing import assert_close

from laq_model.pretraining.finer_patches import resize_kernel, with_patch_size
from laq_model.pretraining.vggt_in_training import new_network
from laq_model.vggt import build_vggt, load_official_weights


def test_a_small_patch_is_seen_as_its_enlargement():
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(5, 3, 14, 14, generator=generator)
    patch = torch.rand(2, 3, 8, 8, generator=generator)
    enlarged = F.interpolate(patch, size=(14, 14), mode="bicubic", align_corners=False)
    small = resize_kernel(kernel, 8)
    assert small.shape == (5, 3, 8, 8)
    assert_close(F.conv2d(patch, small), F.conv2d(enlarged, kernel), rtol=1e-4, atol=1e-4)


def test_the_same_patch_size_changes_nothing():
    kernel = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert_close(resize_kernel(kernel, 4), kernel)


def test_a_network_starts_from_one_with_larger_patches():
    tensors = new_network(MICRO_NETWORK, seed=0).state_dict()
    half = MICRO_NETWORK["patch_size"] // 2
    finer = with_patch_size(tensors, patch_size=half, img_size=MICRO_NETWORK["img_size"])
    network = build_vggt({**MICRO_NETWORK, "patch_size": half})
    load_official_weights(network, finer)
    changed = {name for name, value in finer.items() if value is not tensors[name]}
    assert changed == {
        "aggregator.patch_embed.patch_embed.proj.weight",
        "aggregator.patch_embed.pos_embed",
    }
    # An even picture is the same picture enlarged, so every patch says what the old ones say.
    even = torch.full((1, 3, MICRO_NETWORK["img_size"], MICRO_NETWORK["img_size"]), 0.7)
    old = build_vggt(MICRO_NETWORK)
    load_official_weights(old, tensors)
    said, says = (net.aggregator.patch_embed.patch_embed(even) for net in (old, network))
    assert says.shape[-1] == 2 * said.shape[-1]
    assert_close(says, said[..., :1, :1].expand_as(says), rtol=1e-3, atol=1e-4)
