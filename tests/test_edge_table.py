"""The table of the edge of chaos: its numbers, its remarks, its width."""

import json
import math

import pytest

from seqlab.errors import InputError
from seqlab.report.edge_table import critical_document, critical_table


def cells(text: str, first: str) -> list[str]:
    """The row whose first cell this is."""
    rows = [line.replace("*", " ").split() for line in text.splitlines()]
    (row,) = [row for row in rows if row and row[0] == first]
    return row


@pytest.mark.tiny
def test_numbers_of_tanh() -> None:
    """Computed by another program, to the digits that are shown."""
    text = critical_table("tanh", [0, 0.05, 0.1], (2.0, 0.05))
    assert cells(text, "0") == ["0", "0", "0", "1", "1"]
    assert cells(text, "0.05") == ["0.05", "0.0025", "0.153692", "1.26009", "1.12254"]
    assert cells(text, "0.1") == ["0.1", "0.01", "0.273301", "1.42421", "1.1934"]
    off = cells(text, "0.721762")
    assert [float(x) for x in off] == pytest.approx(
        [0.721762, 1.047666, 0.023282, 1.388, 0.744082, 25.21], rel=4e-4
    )
    assert "moves away" not in text


@pytest.mark.tiny
@pytest.mark.parametrize("name", ["gelu", "silu"])
def test_points_that_a_network_leaves(name: str) -> None:
    """Below the half-stable points, bias variances of 0.172922 and 0.555143 (Roberts, Yaida & Hanin
    2022)."""
    edge = {"gelu": 0.172922, "silu": 0.555143}[name]
    scales = [0.0, 0.1, math.sqrt(edge - 1e-3), math.sqrt(edge + 1e-3), 2.0]
    document = critical_document(name, scales)
    assert [row["stays"] for row in document["critical"]] == [False] * 3 + [True] * 2
    text = critical_table(name, scales)
    assert text.count("\n*") == 4  # three rows and the remark
    assert "leaves it" in text
    assert "leaves it" not in critical_table(name, scales[3:])


@pytest.mark.tiny
@pytest.mark.parametrize(("name", "sw2"), [("relu", 2), ("leaky:0.5", 1.6), ("identity", 1)])
def test_homogeneous_activations(name: str, sw2: float) -> None:
    document = critical_document(name, [0.0, 0.1])
    without, with_biases = document["critical"]
    assert without["weight_variance"] == pytest.approx(sw2, rel=1e-12)
    assert without["gain"] == pytest.approx(math.sqrt(sw2), rel=1e-12)
    assert without["stays"] is True
    assert with_biases["weight_variance"] is with_biases["q"] is with_biases["stays"] is None
    assert f"variance of {sw2:g}" in " ".join(critical_table(name, [0.0, 0.1]).split())
    assert "stays what it begins as" in critical_table(name, [0.0])


@pytest.mark.tiny
def test_what_there_is_not() -> None:
    assert "softplus has no edge" in critical_table("softplus", [0.0])
    assert "no variance" in critical_table("relu", [0.0], (3.0, 0.0))
    at_edge = critical_document("relu", [0.0], (2.0, 0.0))["at"]
    assert at_edge["correlation_depth"] is None
    assert at_edge["rate"] == pytest.approx(0, abs=1e-12)
    assert cells(critical_table("relu", [], (2.0, 0.0)), "2")[-1] == "inf"


@pytest.mark.tiny
def test_text_and_json_fit() -> None:
    for name in ("relu", "gelu", "softplus", "prelu:0.123456789", "sigmoid"):
        text = critical_table(name, [0.0, 1e-5, 0.123456789, 12.0], (1.23456789, 0.0123456789))
        assert max(map(len, text.splitlines())) <= 80
        assert text == text.rstrip()
        document = critical_document(name, [0.0, 12.0], (1.5, 0.1))
        assert json.loads(json.dumps(document, allow_nan=False)) == document


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("name", "scales", "at", "field"),
    [
        ("elo", [0.0], None, "activation"),
        ("tanh", [-1.0], None, "bias_scale"),
        ("tanh", [math.nan], None, "bias_scale"),
        ("tanh", [0.0], (0.0, 0.1), "weight variance"),
        ("tanh", [0.0], (1.0, math.inf), "bias variance"),
    ],
)
def test_wrong_values_are_refused(
    name: str, scales: list[float], at: tuple[float, float] | None, field: str
) -> None:
    with pytest.raises(InputError, match=rf"^{field}: [^\n]* is not allowed; [^\n]*$"):
        critical_table(name, scales, at)
