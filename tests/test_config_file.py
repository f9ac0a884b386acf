"""Settings from a YAML file: their types, their rank among flags and presets, and what is refused."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from laq_model.cli import main, parse
from laq_model.config_file import read_settings, with_settings
from laq_model.errors import ConfigError
from laq_model.evaluation.config import EvaluateConfig
from laq_model.training.config import TrainConfig, as_json


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    is_on: bool = False
    sizes: tuple[int, int] = (1, 2)


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    folder: Path = Path("a")
    kind: Literal["auto", "no"] = "auto"
    inner: Inner = field(default_factory=Inner)


def written(folder: Path, text: str) -> Path:
    file = folder / "run.yaml"
    file.write_text(text)
    return file


def test_values_are_read_by_the_type_of_the_setting(tmp_path):
    # By YAML 1.1's own rules these would be a date, False, a text, and True.
    file = written(
        tmp_path, "name: 2026-11-25\nkind: no\nrate: 1e-3\nis_on: on\nsizes: [3, 4]\nfolder: b/c\n"
    )
    config = with_settings(Outer(), read_settings(file, Outer()))
    assert config == Outer("2026-11-25", Path("b/c"), "no", Inner(0.001, True, (3, 4)))


def test_a_setting_may_stand_in_its_section_or_alone(tmp_path):
    alone = read_settings(written(tmp_path, "rate: 2"), Outer())
    inside = read_settings(written(tmp_path, "inner:\n  rate: 2"), Outer())
    assert alone == inside == {("inner", "rate"): 2.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nrat: 1", r"run\.yaml, line 2: no setting is called 'rat'; did you mean rate\?"),
        ("inner:\n  name: a", r"line 2: no setting is called 'inner\.name'"),
        ("qqqq: 1", r"'qqqq'; --help lists what this command takes"),
        ("rate: fast", r"line 1: rate must be a number, got 'fast'"),
        ("is_on: maybe", r"is_on must be true or false, got 'maybe'"),
        ("kind: yes", r"kind must be one of 'auto', 'no', got 'yes'"),
        ("sizes: [1, 2, 3]", r"sizes must be 2 values, got 3"),
        ("sizes: [1, b]", r"sizes must be a whole number, got 'b'"),
        ("rate: [1]", r"rate must be one value"),
        ("inner: 3", r"no setting is called 'inner'"),
        ("rate: 1\nrate: 2", r"line 2: rate is given twice"),
        ("rate: 1\ninner:\n  rate: 2", r"line 3: rate is given twice"),
        ("- a", r"must hold settings, one `name: value` a line"),
        ("a: [", r"is no YAML: "),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as refusal:
        read_settings(written(tmp_path, text), Outer())
    assert "\n" not in str(refusal.value)


def test_a_missing_file_and_an_empty_one(tmp_path):
    with pytest.raises(ConfigError, match=r"--config .*nowhere\.yaml cannot be read \(No such file"):
        read_settings(tmp_path / "nowhere.yaml", Outer())
    assert read_settings(written(tmp_path, "# nothing yet\n"), Outer()) == {}


def test_flags_win_over_the_file_and_the_file_over_the_preset(tmp_path):
    file = written(tmp_path, "preset: tiny\ndim: 64\nmodel:\n  spatial_depth: 3\nnum_steps: 7\n")
    config = parse(TrainConfig, ["--num_steps", "9"], config_file=str(file))
    assert config.preset == "tiny"
    assert config.encoder.vggt_model == "embedded"  # of the preset
    assert config.model.dim == 64  # the preset says 128
    assert config.model.spatial_depth == 3  # the preset says 2
    assert config.optimization.num_steps == 9
    lapa = parse(TrainConfig, ["--preset", "lapa"], config_file=str(file))
    assert (lapa.preset, lapa.encoder.vggt_model, lapa.model.dim) == ("lapa", "facebook/VGGT-1B", 64)


def test_settings_that_cannot_work_together_are_refused(tmp_path):
    file = written(tmp_path, "dim: 30\n")
    with pytest.raises(ConfigError, match="num_heads must divide dim, got 8 heads for dim 30"):
        parse(TrainConfig, [], config_file=str(file))


def test_a_run_s_own_settings_can_be_given_again(tmp_path):
    import yaml  # noqa: PLC0415

    config = parse(TrainConfig, ["--preset", "tiny", "--use_tensorboard", "--learning_rate", "2e-4"])
    file = written(tmp_path, yaml.safe_dump(as_json(config)))
    assert parse(TrainConfig, [], config_file=str(file)) == config


def test_lists_are_lists(tmp_path):
    file = written(tmp_path, "probe_kinds: [linear]\nis_new_data: true\n")
    config = parse(EvaluateConfig, [], config_file=str(file))
    assert (config.probe_kinds, config.is_new_data) == (("linear",), True)


def test_the_command_line_takes_the_file_and_says_its_line(tmp_path, capsys):
    file = written(tmp_path, "data_dir: videos\nnum_stepz: 4\n")
    with pytest.raises(SystemExit) as stop:
        main(["train", "--config", str(file)])
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        f"error: {file}, line 2: no setting is called 'num_stepz'; did you mean num_steps?\n"
    )
