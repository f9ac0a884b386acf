import logging

import pytest
import torch
from accelerate.state import AcceleratorState

from laq_model import devices
from laq_model.devices import chosen_device, cpu_has_bfloat16, warn_of_slow_bfloat16
from laq_model.errors import ConfigError
from laq_model.training import processes
from laq_model.training.config import OptimizationConfig, TrainConfig


def test_a_device_is_the_one_asked_for():
    assert chosen_device("cpu") == torch.device("cpu")
    assert chosen_device("").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_device_that_nobody_knows():
    with pytest.raises(ConfigError, match="device must be cpu, cuda or another that torch knows, got 'gpu'"):
        chosen_device("gpu")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512_bf16 sse", True),
        ("fpu amx_bf16", True),
        ("asimd bf16", True),
        ("fpu avx2 avx512f", False),
    ],
)
def test_the_processor_says_whether_it_has_bfloat16(monkeypatch, tmp_path, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"model name : a b\nflags : {flags}\n")
    monkeypatch.setattr(devices, "_CPU_INFO", tmp_path / "cpuinfo")
    assert cpu_has_bfloat16() is expected


def test_a_processor_that_says_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "_CPU_INFO", tmp_path / "none")
    assert cpu_has_bfloat16() is None


@pytest.mark.parametrize(
    ("device", "has_bfloat16", "is_warned"),
    [("cpu", False, True), ("cpu", True, False), ("cpu", None, False), ("cuda", False, False)],
)
def test_who_asks_for_slow_bfloat16_is_told_what_is_faster(
    monkeypatch, caplog, device, has_bfloat16, is_warned
):
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: has_bfloat16)
    warn_of_slow_bfloat16(torch.device(device), instead="--no_bfloat16")
    assert ["--no_bfloat16 is many times faster" in text for text in caplog.messages] == [True] * is_warned


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_bfloat16_on_a_processor_without_it_is_warned_of(monkeypatch, caplog, tmp_path, has_bfloat16):
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: has_bfloat16)
    optimization = OptimizationConfig(mixed_precision="bf16")
    AcceleratorState._reset_state(reset_partial_state=True)
    with caplog.at_level(logging.WARNING):
        processes.build_accelerator(TrainConfig(output_dir=tmp_path, device="cpu", optimization=optimization))
    AcceleratorState._reset_state(reset_partial_state=True)
    assert any("bfloat16" in record.message for record in caplog.records) is not has_bfloat16
