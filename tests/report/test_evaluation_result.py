"""What an evaluation found, for programs and for people."""

import json

import pytest

from laq_model.errors import RunError
from laq_model.report.evaluation_result import EvaluationResult, read_evaluation

KEY = "probe.linear.ee_displacement.r2_mean"


@pytest.fixture
def result() -> EvaluationResult:
    figures = {
        "copy_ratio_hard": 0.5,
        "control.random_codes.copy_ratio_hard": 1.25,
        "copy_ratio_hard.changed": 0.25,
        "codes.used_fraction": 0.9,
        "codes.perplexity": 120.0,
        "codes.perplexity.0": 100.0,
        "codes.perplexity.1": 90.5,
        KEY: 0.75,
        "probe.linear.ee_displacement.r2_std": 0.016,
        f"view.fixed.{KEY}": 0.8,
        f"transfer.fixed_to_moving.{KEY}": -1.5,
        f"control.random_codes.{KEY}": -0.001,
        f"control.shuffled_pairs.{KEY}": 0.1,
        "nothing": float("nan"),
    }
    return EvaluationResult(figures, {"run": "runs/a", "num_pairs": 12}, ["one note"])


def test_json_is_flat_and_strict(result):
    found = json.loads(result.json(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["copy_ratio_hard"] == 0.5
    assert found["control.random_codes.copy_ratio_hard"] == 1.25
    assert found["nothing"] is None
    assert found["run"] == "runs/a"
    assert found["notes"] == ["one note"]


def test_controls_stand_under_their_figure(result):
    table = {table.title: table for table in result.tables()}["What the tokens tell of the hand's motion"]
    assert table.columns == ["R², mean of dimensions", "all cameras", "fixed", "fixed → moving"]
    assert [(row.name, row.is_control) for row in table.rows] == [
        ("linear probe of the tokens", False),
        ("trained on shuffled pairs", True),
        ("random codes", True),
    ]
    assert table.rows[0].cells == ["0.75 ± 0.02", "0.80", "−1.50"]
    assert table.rows[2].cells == ["0.00", "–", "–"]


def test_a_missing_control_has_no_row(result):
    prediction = result.tables()[0]
    assert [(row.name, row.cells[0]) for row in prediction.rows] == [
        ("all places", "0.5"),
        ("random codes", "1.25"),
        ("places that changed most", "0.25"),
    ]


def test_codes_have_a_column_for_each_token(result):
    codes = result.tables()[1]
    assert codes.columns == ["", "all", "token 0", "token 1"]
    assert [row.cells for row in codes.rows] == [["0.9", "–", "–"], ["120", "100", "90.5"]]


def test_markdown_holds_the_same_tables(result):
    text = result.markdown()
    assert "| linear probe of the tokens | 0.75 ± 0.02 | 0.80 | −1.50 |" in text
    assert "| *control: random codes* | 0.00 | – | – |" in text
    assert "- one note" in text
    assert "- num_pairs: 12" in text


def test_what_was_written_is_read_back(result, tmp_path):
    file = tmp_path / "evaluation.json"
    file.write_text(result.json())
    found = read_evaluation(file)
    assert found.figures == {key: value for key, value in result.figures.items() if key != "nothing"}
    assert (found.facts, found.notes) == (result.facts, result.notes)
    assert found.markdown() == result.markdown()


@pytest.mark.parametrize("text", ["[]", "{", '{"notes": 1}', '{"notes": [], "copy_ratio_hard": [1]}'])
def test_what_is_no_evaluation_is_refused(text, tmp_path):
    file = tmp_path / "evaluation.json"
    file.write_text(text)
    with pytest.raises(RunError, match=r"evaluation\.json is no evaluation\.json of evaluate, or damaged"):
        read_evaluation(file)
    with pytest.raises(RunError, match=r"cannot read .*gone\.json"):
        read_evaluation(tmp_path / "gone.json")
