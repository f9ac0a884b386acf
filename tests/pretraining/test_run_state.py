import json

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.testing import assert_close

from laq_model.errors import RunError
from laq_model.pretraining.run_state import (
    AverageWeights,
    learning_rate_share,
    load_run_state,
    report,
    save_network,
    save_run_state,
)


def test_learning_rate_is_a_trapezoid():
    shares = [learning_rate_share(s, num_steps=10, warmup_steps=2, decay_steps=4) for s in range(10)]
    assert shares == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_average_forgets_the_first_weights():
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(0.0)
    average = AverageWeights(network, decay=0.9)
    network.weight.data.fill_(1.0)
    average.update(network)
    # First update: decay is min(0.9, 2/11).
    assert_close(average.tensors["weight"], torch.tensor([[9 / 11]]))


def run_of(seed: int):
    torch.manual_seed(seed)
    network = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return network, AverageWeights(network, 0.9), [optimizer]


def test_saved_run_comes_back_whole(tmp_path):
    network, average, optimizers = run_of(0)
    average.update(network)
    save_run_state(tmp_path, step=7, network=network, average=average, optimizers=optimizers)
    other, other_average, other_optimizers = run_of(1)
    step = load_run_state(tmp_path, network=other, average=other_average, optimizers=other_optimizers)
    assert (step, other_average.num_updates) == (7, 1)
    assert_close(other.weight, network.weight)
    saved, loaded = (o[0].state_dict()["state"][0]["exp_avg"] for o in (optimizers, other_optimizers))
    assert_close(saved, loaded)
    assert [path.name for path in tmp_path.iterdir()] == ["resume.pt"]


def test_nothing_to_resume_and_another_network_are_errors(tmp_path):
    network, average, optimizers = run_of(0)
    with pytest.raises(RunError, match="nothing to resume"):
        load_run_state(tmp_path, network=network, average=average, optimizers=optimizers)
    save_run_state(tmp_path, step=1, network=network, average=average, optimizers=optimizers)
    with pytest.raises(RunError, match="another network"):
        load_run_state(
            tmp_path, network=nn.Conv2d(1, 1, 1, bias=False), average=average, optimizers=optimizers
        )


def test_shipped_file_is_half_precision_and_says_what_it_is(tmp_path):
    path = tmp_path / "net.safetensors"
    save_network(path, {"a": torch.tensor([1.0, 2.5])}, config={"depth": 3}, provenance={"steps": 4})
    with safe_open(path, framework="pt") as archive:
        metadata = archive.metadata()
        assert archive.get_tensor("a").dtype == torch.float16
    assert json.loads(metadata["config"]) == {"depth": 3}
    assert metadata["licence"] == "Apache-2.0"
    assert json.loads(metadata["provenance"]) == {"steps": 4}


def test_value_beyond_float16_is_refused(tmp_path):
    with pytest.raises(RunError, match="not finite in float16, so not saved: a"):
        save_network(tmp_path / "n.safetensors", {"a": torch.tensor([1e6])}, config={}, provenance={})
    assert list(tmp_path.iterdir()) == []


def test_report_appends(tmp_path):
    report(tmp_path, {"step": 1})
    report(tmp_path, {"step": 2})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
