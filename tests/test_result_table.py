"""The table of a result, as it is printed, and its tidy data frame."""

import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from synthetic import made_result, measurement

from seqlab.report import run_table
from seqlab.spec.run import RunSpec

LN10 = math.log(10)


def lines_of(text):
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(line != line.rstrip() for line in lines)
    return lines


def test_the_table_says_what_the_document_says(tmp_path):
    result = made_result(steps=10000, rate=-0.55, spectrum=2).write(tmp_path)
    text = result.summary()
    lines = lines_of(text)
    assert lines[0].startswith("lstm: steps 10000, hidden 64, inputs 16, networks 16, seed 0")
    assert "measured on cpu in 0.25 s" in " ".join(lines[:2])
    assert "none         -0.5500 [-0.5534, -0.5466]  -2388.6 [-2410.3, -2366.9]" in lines
    assert "theory       -0.5480" in lines
    assert "none              13      188     1354  exp     0.0%   -0.30 -> -0.30   0.750" in lines
    assert "the 2 largest of 128: -0.5500, -0.6500" in " ".join(text.split())
    assert "".join(text[text.index("stored:") :].split()) == f"stored:{result.path}"


def test_cells_are_compared_in_one_table():
    results = [
        made_result("rnn", init="he"),
        made_result("lstm", rate=-0.005),
        made_result("ssm", rate=0.1),
    ]
    lines = lines_of(run_table.table(results))
    assert lines[0].startswith("rnn, lstm, ssm: steps 1000, hidden 64")
    assert "rnn: activation tanh, init he, gain 1" in lines
    assert "ssm: state 16" in lines
    assert sum(line.startswith("  none ") for line in lines) == 9
    assert sum(line.startswith("  theory ") for line in lines) == 3


EXTREME = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.lists(EXTREME, min_size=5, max_size=5),
    st.lists(EXTREME, min_size=5, max_size=5),
    st.sampled_from(["none", "step-value:1.7976931348623157e+308", "truncate:9007199254740992"]),
    EXTREME,
    st.sampled_from([1, 7, 2000]),
)
@example([-2388.5 * LN10] * 5, [-2388.5 * LN10] * 5, "norm:1", math.nan, 2000)
def test_the_table_has_80_columns_at_most_whatever_the_numbers(ends, grads, rule, theory, steps):
    spec = RunSpec.create(arch="lstm", steps=steps, networks=5, clip=rule, spectrum=5)
    norms = measurement(spec).variables["log_norm"].data.copy()
    norms[:, 0, -1, -1] = ends
    column = np.array(grads)[:, np.newaxis]
    replaced = {
        "log_norm": norms,
        "decay_rate": np.array(ends)[:, np.newaxis],
        "log_param_grad_norm_before": column,
        "log_param_grad_norm_after": -column,
        "lyapunov": np.array([ends] * 5),
        "theory": theory,
        "horizon": [[2**31 - 1] * 3],
        "float32_zero_lag": [2**31 - 1],
        "float64_zero_lag": [2**31 - 1],
    }
    result = made_result("lstm", steps, replaced, networks=5, clip=rule, spectrum=5)
    with np.errstate(all="ignore"):
        lines_of(result.summary())
        lines_of(run_table.table([result, made_result("rnn", steps, networks=5, clip="norm:1")]))
        json.dumps(result.to_json(), allow_nan=False)


def test_the_rounding_of_a_zero_is_written_as_zero():
    result = made_result(rate=-1e-18, spread=0.0, replaced={"theory": 0.0})
    assert "none         0.00000 [0.00000, 0.00000]  0.000 [0.000, 0.000]" in lines_of(
        result.summary()
    )


def test_long_paths_are_broken_over_lines(tmp_path):
    stored = made_result().write(tmp_path / ("deep" * 30))
    text = stored.summary()
    lines_of(text)
    assert "".join(text[text.index("stored:") :].split()) == f"stored:{stored.path}"


def test_the_data_frame_has_a_row_for_each_network_rule_length_and_lag():
    result = made_result(steps=20, networks=3)
    frame = result.to_dataframe()
    lags = result.variables["lag"].data
    assert len(frame) == 3 * 2 * sum((lags <= length).sum() for length in result.spec.lengths)
    assert not frame.duplicated(["network", "rule", "length", "lag"]).any()
    parts = {"log_norm", "log_norm_input", "log_norm_hidden", "log_norm_cell"}
    assert parts | {part.replace("log", "log10") for part in parts} < set(frame.columns)
    assert frame["arch"].unique().tolist() == ["lstm"]
    assert frame["hash"].unique().tolist() == [result.spec.hash]
    assert frame["networks"].unique().tolist() == [3]
    row = frame.query("network == 1 and rule == 'step-norm:1' and length == 20 and lag == 20")
    assert row["log_norm"].item() == pytest.approx(-0.45 * 20)
    assert row["log10_norm"].item() == pytest.approx(-0.45 * 20 / LN10)
    assert row["log_norm_cell"].item() == pytest.approx(-0.45 * 20 - 2)
    assert frame["log_norm"].notna().all()


def test_the_data_frame_has_columns_for_each_part_of_somebodys_own_state():
    """Names of columns are unlike even where those of parts are alike, or like the input's."""
    names = ["layer 1 hidden", "a b", "a_b", "input", "state['h']"]
    norms = np.random.default_rng(0).normal(size=(2, 2, len(names), 2, 5))
    kept = {"lag": np.array([0, 1, 2, 3, 4]), "length": np.array([2, 4])}
    given = {"part": np.array(names), "log_norm_part": norms} | kept
    given |= {name: np.zeros((2, 2, 2, 5)) for name in ("log_norm", "log_norm_input")}
    fields = {"steps": 4, "lengths": [2, 4], "networks": 2, "clip": ["none", "step-norm:1"]}
    frame = made_result("rnn", replaced=given, **fields).to_dataframe()
    columns = ["layer_1_hidden", "a_b", "a_b_", "input_", "state['h']"]
    assert list(frame.columns)[-14:] == [
        f"{log}_norm{end}"
        for end in ("", "_input", *(f"_{name}" for name in columns))
        for log in ("log", "log10")
    ]
    assert len(frame) == 2 * 2 * (3 + 5)
    for _, row in frame.iterrows():
        place = row["network"], fields["clip"].index(row["rule"]), [2, 4].index(row["length"])
        for k, name in enumerate(columns):
            value = norms[place[0], place[1], k, place[2], row["lag"]]
            assert row[f"log_norm_{name}"] == value
            assert row[f"log10_norm_{name}"] == pytest.approx(value / LN10, rel=1e-15)
