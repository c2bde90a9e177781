"""Texts and names on figures: any the user gives, drawn letter by letter where there is room."""

import os
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from plots import clashes
from synthetic import result

from seqlab.cells import CELLS as SHAPES
from seqlab.errors import InputError
from seqlab.figures import Looks, Request, figure, plot, writing
from seqlab.figures.style import style
from seqlab.spec.run import RunSpec

# That some runs are drawn as one is said in a note, which has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore:runs are drawn as one:seqlab.errors.Note")

LONG = "What is left of the gradient of the very last output, after so many steps back; "
TEXTS = {
    "long": {"title": (4 * LONG)[:300]} | dict.fromkeys(("xlabel", "ylabel", "value_label"), LONG),
    "wide": {"title": 300 * "W"} | dict.fromkeys(("xlabel", "ylabel", "value_label"), 80 * "W"),
    "formulas": {
        "title": r"cost \$5, $6 and $\partial L/\partial h_t$ of $x^2 - y$ (US$ and $A)",
        "xlabel": r"$\tau$ steps for $5 and $6",
        "ylabel": r"$\log_{10} \|\partial L / \partial h_t\| / \|\partial L / \partial h_T\|$",
        "value_label": r"$\log_{10} \|\frac{\partial L}{\partial h_t}\|$ in $",
    },
}


@pytest.mark.parametrize("texts", TEXTS)
@pytest.mark.parametrize(
    ("store", "asked", "width"),
    [
        ("cells", {}, "single"),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (
                ("gains", {"x": "gain", "y": "activation", "facet": "init"}, "double"),
                ("gains", {"kind": "distribution", "facet": "init"}, "single"),
                ("one", {"kind": "profile"}, "slide"),
            )
        ),
        ("cells", {"kind": "curves"}, "slide"),
    ],
)
def test_any_text_has_room(store, asked, width, texts, drawn):
    page, _ = drawn(store, asked, width=width, **TEXTS[texts])
    assert clashes(page) == []


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        ("cost $5 and $6", []),
        ("US$ and $A", []),
        ("$5-$6, $100,$200", []),
        (r"\$x\$ in $", []),
        ("a $x - y$, b", ["$x - y$"]),
        (r"$\alpha$ for $5, $x$.", [r"$\alpha$", "$x$"]),
        (r"$a \$ b$", [r"$a \$ b$"]),
    ],
)
def test_money_is_no_mathematics(text, formulas, drawn):
    writing.check("title", text)
    shown = writing.written(text)
    assert re.findall(r"(?<!\\)\$(?:\\\$|[^$])*?(?<!\\)\$", shown) == formulas
    assert is_math_text(shown) == bool(formulas)
    assert shown.replace(r"\$", "$") == text.replace(r"\$", "$")
    page, _ = drawn("cells", title=text)
    assert page.texts[0].get_text() == shown


@pytest.mark.parametrize("letters", range(4, 40))
def test_no_formula_is_broken(letters):
    text = r"so $a - b$ and ($x + y$), then a-word-of-hyphens \$5 of $\frac{1 - x}{2 + y}$"
    lines = writing.wrapped(text, 1000, 7, letters)
    assert all(line.replace(r"\$", "").count("$") % 2 == 0 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_lines_beside_a_panel_are_alike():
    label = "log10 attenuation (decades), linear between ticks"
    one, other = writing.balanced(label, 0.95 * writing.length(label, 7), 7)
    assert f"{one} {other}" == label
    assert abs(len(one) - len(other)) < 12
    assert writing.balanced(label, 1.05 * writing.length(label, 7), 7) == [label]
    label = "decay rate (nat/layer)"
    for room in range(40, 90):  # no word, of 37 points at most, is broken for it
        assert " ".join(writing.balanced(label, room, 7)) == label


LETTERS = st.sampled_from(
    [*"$$$$\\{}_^ a5é-(x", r"\frac", r"\sqrt", r"\alpha", r"\$", r"\left(", r"\right)", "\n"]
)


@given(st.lists(LETTERS, max_size=14).map("".join))
@settings(deadline=None, max_examples=200)
def test_whatever_is_not_refused_can_be_drawn(text):
    try:
        writing.check("title", text)
    except InputError as refusal:
        assert "\n" not in str(refusal)  # noqa: PT017
        return
    with style():
        page = Figure(figsize=(3, 3))
        page.text(0, 0, "\n".join(writing.wrapped(writing.written(text), 50, 7, 5)))
        page.draw_without_rendering()


@pytest.mark.parametrize("looks", [{"title": 3}, {"value_range": (1,)}, {"value_range": "01"}])
def test_looks_of_another_type_are_refused(looks):
    with pytest.raises(InputError, match="is not allowed"):
        Looks(**looks)


NAMES = (
    *("a$1$b$.npz", "cost $5 and $6.npz", 200 * "x" + ".npz", "日本語.npz", "W" * 100 + ".npz"),
    *(os.fsdecode(b"\xf6$$.npz"), "two\nlines.npz", "_under.npz", r"back\slash$.npz"),
)


@pytest.fixture
def named_runs(tmp_path):
    """Runs of weights in files of every name."""
    runs = []
    for k, name in enumerate(NAMES):
        spec = RunSpec.create(arch="rnn", steps=300, hidden=3, inputs=2)
        shapes = SHAPES["rnn"].shapes(spec.sizes)
        arrays = {part: np.full(shape, k + 1.0) for part, shape in shapes.items()}
        np.savez(tmp_path / name, **arrays)
        path = str(tmp_path / name)
        runs.append(result("rnn", -0.1 - 0.05 * k, networks=1, steps=300, params=path))
    return runs


@pytest.mark.parametrize(
    ("asked", "width"),
    [
        ({}, "single"),
        ({"kind": "curves"}, "single"),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (
                ({"kind": "distribution"}, "single"),
                ({"kind": "distribution", "y": "params"}, "single"),
                ({"x": "params", "y": "clip"}, "double"),
                ({"kind": "profile", "facet": "params"}, "single"),
                ({"kind": "curves", "x": "params", "value": "horizon_1e-3"}, "slide"),
            )
        ),
    ],
)
def test_any_name_of_a_file_is_drawn_letter_by_letter(asked, width, named_runs, monkeypatch):
    kept = []
    monkeypatch.setattr(figure, "save", lambda *parts: kept.append(parts[0]))
    plot(named_runs, "a.pdf", Request(**asked), Looks(width=width))
    texts = [text.get_text() for text in kept[0].findobj(mpl.text.Text)]
    assert any(r"\$" in text for text in texts)
    assert not any(map(is_math_text, texts))
    assert clashes(kept[0]) == []


def test_the_data_have_whole_names(named_runs, tmp_path):
    plot(named_runs, tmp_path / "a.png", Request("curves"))
    found = set(pd.read_csv(tmp_path / "a.csv")["params"])
    expected = {str(tmp_path / name) for name in NAMES}
    assert {name.replace(r"\udcf6", "\udcf6") for name in found} == expected
