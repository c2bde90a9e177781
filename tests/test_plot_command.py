"""Whole figures as `seqlab plot` writes them: what is on them, beside them, and refused.

`python tests/test_plot_command.py` draws the pictures in tests/pictures anew; look at them then.
"""

import itertools
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave
from studies import ENVIRONMENT, PYTHON
from synthetic import measurement, result

from seqlab.cells import CELLS as SHAPES
from seqlab.cli import main
from seqlab.errors import InputError
from seqlab.figures import Asked, Looks, figure, plot, select, writing
from seqlab.figures.style import style
from seqlab.spec.run import RunSpec
from seqlab.study.result import Result

LN10 = np.log(10)
PICTURES = Path(__file__).with_name("pictures")
BLOCK = 10  # pixels of a figure's 300 to the inch in one of a kept picture


def spoil(log_norm, lag):
    """The second rule cuts at 100 steps; of the first, some networks overflow, some are nan."""
    log_norm[:, 1:, :, lag > 100] = -np.inf
    log_norm[0, 0, :, lag > 500] = np.inf
    log_norm[1, 0, :, lag > 500] = np.nan


CELLS = {"rnn": -0.5, "lstm": -0.45, "gru": -0.4, "ssm": -0.004}
STORES = {
    "cells": [result(arch, rate) for arch, rate in CELLS.items()],
    "gains": [
        result("rnn", 0.05 * np.log(gain), gain=gain, init=init, activation=activation, seed=seed)
        for gain in (0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0)
        for init in ("normal", "orthogonal")
        for activation in ("tanh", "relu", "identity")
        for seed in (0, 1)
        if (gain, activation) != (1.1, "relu")
    ],
    "biases": [
        result("lstm", -0.5 / (1 + k), forget_bias=bias)
        for k, bias in enumerate((-1.0, 0.0, 1.0, 2.0, "chrono"))
    ],
    "one": [result(edit=spoil, clip=["none", "truncate:100"])],
    "one length": [result(steps=50, lengths=[50], clip=["none"])],
    "one step": [result(steps=1, networks=1)],
}
RATES = {"value": "decay_rate"}
FIGURES = [
    *((store, {"kind": "heatmap"}) for store in STORES),
    *((store, {"kind": "curves"}) for store in STORES),
    *((store, {"kind": "profile"}) for store in STORES if store not in ("gains", "biases")),
    *((store, {"kind": "distribution"}) for store in STORES),
    ("cells", {"x": "lag", "y": "arch", "facet": "clip"}),
    ("gains", {"x": "gain", "y": "activation", "facet": "init"}),
    ("gains", {"x": "init", "y": "gain"} | RATES),
    ("gains", {"kind": "curves", "x": "gain", "y": "activation"} | RATES),
    ("biases", {"kind": "curves", "x": "forget_bias", "value": "horizon_1e-3"}),
    ("one", {"kind": "distribution", "x": "length"}),
]
WIDTHS = ("single", "double", "slide")


@pytest.fixture
def drawn(monkeypatch):
    """Draw a figure and keep it: gives the figure and its data."""

    def draw(store, asked=None, **looks):
        kept = []
        monkeypatch.setattr(figure, "save", lambda *parts: kept.append(parts[:2]))
        plot(STORES[store], "a.pdf", Asked(**asked or {}), Looks(**looks))
        return kept[0]

    return draw


def legible(page):
    """The texts of a figure that are on it, ticks beyond an axis left out."""
    page.draw_without_rendering()
    hidden = set()
    for axis in itertools.chain.from_iterable((ax.xaxis, ax.yaxis) for ax in page.axes):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                hidden |= {tick.label1, tick.label2}
    found = page.findobj(mpl.text.Text)
    return [t for t in found if t.get_visible() and t.get_text().strip() and t not in hidden]


def clashes(page):
    """Texts that lie on one another or leave the figure."""
    texts = legible(page)
    boxes = [text.get_window_extent().padded(-0.5) for text in texts]
    names = [text.get_text() for text in texts]
    within = page.bbox.padded(0.5)
    outside = [
        name
        for name, box in zip(names, boxes, strict=True)
        if not (within.contains(box.x0, box.y0) and within.contains(box.x1, box.y1))
    ]
    turned = [text.get_rotation() % 90 != 0 for text in texts]  # their boxes are mostly empty
    crossed = [
        {names[i], names[k]}
        for i, k in itertools.combinations(range(len(texts)), 2)
        if boxes[i].overlaps(boxes[k]) and not (turned[i] and turned[k])
    ]
    return outside + crossed


@pytest.mark.parametrize(
    ("store", "asked", "width"),
    [(*one, width) for one, width in zip(FIGURES, itertools.cycle(WIDTHS), strict=False)],
)
def test_nothing_overlaps_nothing_is_cut_and_all_is_legible(store, asked, width, drawn):
    page, _ = drawn(store, asked, width=width)
    assert clashes(page) == []
    assert min(text.get_fontsize() for text in legible(page)) >= (14 if width == "slide" else 7)
    assert page.get_figwidth() == {"single": 3.5, "double": 7.0, "slide": 13.33}[width]
    assert page.get_figheight() == 7.5 or width != "slide"


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("store", "asked"), FIGURES)
def test_nothing_overlaps_at_any_width(store, asked, width, drawn):
    assert clashes(drawn(store, asked, width=width)[0]) == []


# Where fields go that nobody placed.


@pytest.mark.parametrize(
    ("store", "asked", "placed"),
    [
        ("cells", {}, ("length", "arch", None)),  # clipping tells nothing here
        ("gains", {}, ("length", "gain", None)),
        ("one", {}, ("length", "clip", None)),
        ("one length", {}, ("lag", "length", None)),
        ("cells", {"kind": "curves"}, ("lag", "arch", None)),
        ("one", {"kind": "curves"}, ("lag", "clip", None)),
        ("gains", {"kind": "curves"}, ("lag", "gain", None)),
        ("gains", {"kind": "curves"} | RATES, ("lag", "gain", None)),
        ("gains", {"kind": "curves", "value": "horizon_1e-3"}, ("gain", "clip", None)),
        ("one", {"kind": "profile"}, ("lag", "length", "clip")),
        ("cells", {"kind": "distribution"}, ("arch", "clip", None)),
        ("one length", {"kind": "distribution"}, ("length", None, None)),
    ],
)
def test_what_tells_most_is_shown(store, asked, placed):
    choice = select(STORES[store], Asked(**asked)).choice
    assert (choice.x, choice.y, choice.facet) == placed


def test_a_field_that_tells_something_gets_panels():
    rates = {"normal": 1.0, "orthogonal": 0.5}
    runs = [
        result("rnn", -0.02 * gain * rate, gain=gain, init=init)
        for init, rate in rates.items()
        for gain in (0.5, 1.0, 2.0)
    ]
    assert select(runs, Asked()).choice.facet == "init"
    heads = [head for head, _ in select(runs, Asked()).panels()]
    assert heads == ["init normal", "init orthogonal"]


def test_the_title_says_what_is_pooled_and_left_out(drawn):
    page, _ = drawn("gains")
    title = page.texts[0].get_text()
    assert title.startswith("rnn, clip none, median of ")
    assert title.endswith("pooled over init, activation and seed")


def test_every_text_can_be_written_anew(drawn):
    words = {"title": "T", "xlabel": "X", "ylabel": "Y", "value_label": "V"}
    for asked in ({"facet": "clip"}, {}):
        page, _ = drawn("cells", asked, **words)
        assert set(words.values()) <= {text.get_text() for text in legible(page)}
    page, _ = drawn("cells", title="", xlabel="")
    assert not {"median of 5 networks", "sequence length (steps)"} & {
        text.get_text() for text in legible(page)
    }


def test_only_some_runs(drawn):
    _, data = drawn("gains", {"where": {"gain": ["0.5", "2"], "clip": ["step-norm:1"]}})
    assert sorted(set(data["gain"])) == [0.5, 2.0]


def test_a_range_of_values_is_kept(drawn):
    page, _ = drawn("cells", {"kind": "curves"}, value_range=(-5, 1))
    assert page.axes[0].get_ylim() == (-5, 1)
    page, _ = drawn("cells", value_range=(-5, 0))
    assert (page.axes[0].collections[0].norm.vmin, page.axes[0].collections[0].norm.vmax) == (-5, 0)


# Texts of the user's.

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
        ("gains", {"x": "gain", "y": "activation", "facet": "init"}, "double"),
        ("gains", {"kind": "distribution", "facet": "init"}, "single"),
        ("cells", {"kind": "curves"}, "slide"),
        ("one", {"kind": "profile"}, "slide"),
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
        ({"kind": "distribution"}, "single"),
        ({"kind": "distribution", "y": "params"}, "single"),
        ({"x": "params", "y": "clip"}, "double"),
        ({"kind": "profile", "facet": "params"}, "single"),
        ({"kind": "curves", "x": "params", "value": "horizon_1e-3"}, "slide"),
    ],
)
def test_any_name_of_a_file_is_drawn_letter_by_letter(asked, width, named_runs, monkeypatch):
    kept = []
    monkeypatch.setattr(figure, "save", lambda *parts: kept.append(parts[0]))
    plot(named_runs, "a.pdf", Asked(**asked), Looks(width=width))
    texts = [text.get_text() for text in kept[0].findobj(mpl.text.Text)]
    assert any(r"\$" in text for text in texts)
    assert not any(map(is_math_text, texts))
    assert clashes(kept[0]) == []


def test_the_data_have_whole_names(named_runs, tmp_path):
    plot(named_runs, tmp_path / "a.png", Asked("curves"))
    found = set(pd.read_csv(tmp_path / "a.csv")["params"])
    expected = {str(tmp_path / name) for name in NAMES}
    assert {name.replace(r"\udcf6", "\udcf6") for name in found} == expected


# The backend, which is the user's.

BACKENDS = (
    "module://matplotlib_inline.backend_inline",
    "module://nowhere",
    "bogus",
    "tkagg",
    "svg",
)


@pytest.mark.parametrize("backend", BACKENDS)
def test_figures_need_no_backend(backend, store):
    words = [*PYTHON, "plot", store, "-o", "a.png"]
    environment = ENVIRONMENT | {"MPLBACKEND": backend}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("backend", ["module://nowhere", "svg", None])
@pytest.mark.parametrize("before", ["", "import matplotlib; matplotlib.use('pdf')"])
def test_a_users_own_backend_stays(backend, before, store):
    code = (
        f"import os, sys\n{before}\n"
        "asked = os.environ.get('MPLBACKEND')\n"
        "from seqlab.study.result import Result\n"
        "from seqlab.figures import heatmap, plot\n"
        "import matplotlib\n"
        "found = [matplotlib.rcParams._get_backend_or_none()]\n"
        "results = [Result.read(path) for path in sys.argv[1:]]\n"
        "plot(results, 'a.png')\n"
        "heatmap(results)\n"
        "found += [matplotlib.rcParams._get_backend_or_none()]\n"
        f"assert found == 2 * [{'pdf' if before else backend!r}], found\n"
        f"assert asked == os.environ.get('MPLBACKEND') == {backend!r}\n"
    )
    given = {} if backend is None else {"MPLBACKEND": backend}
    environment = {k: v for k, v in ENVIRONMENT.items() if k != "MPLBACKEND"} | given
    words = [sys.executable, "-c", code, *map(str, store.iterdir())]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# The data beside a figure.


def test_the_data_are_what_is_drawn(drawn):
    _, data = drawn("cells")
    assert data.columns.tolist() == [
        *("figure", "arch", "length"),
        *(f"log10_attenuation{part}" for part in ("", "_q25", "_q75")),
        *("networks", "theory", "horizon_1e-3"),
    ]
    ssm = data[data["arch"] == "ssm"].iloc[-1]
    assert ssm["log10_attenuation"] == pytest.approx(-4 / LN10)
    assert (ssm["length"], ssm["networks"], ssm["horizon_1e-3"]) == (1000, 5, np.inf)
    assert ssm["theory"] == pytest.approx(-0.002)


def test_the_data_of_a_distribution_are_its_networks(drawn):
    _, data = drawn("one", {"kind": "distribution", "x": "length"})
    assert data.columns.tolist() == ["figure", "clip", "length", "network", "log10_attenuation"]
    assert len(data) == 2 * 13 * 5
    last = data[data["length"] == 1000].sort_values(["clip", "network"])["log10_attenuation"]
    assert np.isposinf(last.iloc[0])
    assert np.isnan(last.iloc[1])
    assert np.isneginf(last.iloc[5:]).all()


# The command.


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A folder of results, and the place to work in."""
    monkeypatch.chdir(tmp_path)
    for arch, rate in CELLS.items():
        spec = RunSpec.create(arch=arch, steps=100, networks=3)
        made = measurement(spec, rate)
        Result.from_measurement(spec, made, datetime.now(UTC), 0.1).write("store")
    return tmp_path / "store"


def command(*words):
    return CliRunner().invoke(main, ["plot", *map(str, words)])


@pytest.mark.parametrize("kind", ["heatmap", "curves", "profile", "distribution"])
def test_a_store_is_drawn_and_its_data_kept_beside(store, kind):
    for name in ("a.png", "c.pdf"):
        done = command(store, "--kind", kind, "-o", name)
        assert (done.exit_code, done.output) == (0, "")
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    pdf = Path("c.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert Path("a.csv").read_bytes() == Path("c.csv").read_bytes()
    assert set(pd.read_csv("a.csv")["figure"]) == {kind}


def test_one_file_is_a_store_of_one_run(store):
    path = min(store.iterdir())
    assert command(path, "--kind", "profile", "-o", "a.pdf").exit_code == 0
    assert len(set(pd.read_csv("a.csv")["length"])) == 13


def test_a_damaged_file_is_told_once_and_left_out(store):
    path = min(store.iterdir())
    path.write_bytes(path.read_bytes()[:-1])
    done = command(store, "--kind", "profile", "-o", "a.pdf")  # reads twice
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert str(path) in done.stderr
    assert len(set(pd.read_csv("a.csv")["arch"])) == 3


def test_a_table_that_is_no_figures_data_is_not_overwritten(store):
    Path("a.csv").write_text("hash,arch\n")
    done = command(store, "-o", "a.pdf")
    assert done.exit_code == 2
    assert "a.csv is not a figure's data and would be overwritten" in done.stderr
    assert Path("a.csv").read_text() == "hash,arch\n"
    assert not Path("a.pdf").exists()


REFUSED = [
    ((), "store: none is not a folder of results"),
    (("--x", "lenght"), "x: 'lenght' is no field; arch, "),
    (("--facet", "colour"), "facet: 'colour' is no field; arch, "),
    (("--x", "arch", "--y", "arch"), "y: arch is the field of x already"),
    (("--value", "decay"), "value: 'decay' is not measured; log10_attenuation, "),
    (("--value", "lyapunov_1"), "value: no run of this store has lyapunov_1"),
    (("--value", "horizon_1e-3", "--x", "length"), "value: horizon_1e-3 is one number a run"),
    (("--kind", "pie"), "kind: 'pie' is not drawn; heatmap, curves, profile, distribution"),
    (("--kind", "profile", "--x", "lag"), "x, y: a profile has lag and length as its axes"),
    (("--kind", "distribution", "--x", "lag"), "x: a distribution is not drawn against lag"),
    (("--kind", "curves", "--y", "length"), "y: length cannot tell curves apart"),
    (("--facet", "lag"), "facet: lag cannot be spread over panels"),
    (("--where", "arch"), "where: 'arch' is not FIELD=VALUE"),
    (("--where", "arch=foo"), "where: arch=foo is in no run; arch is rnn, lstm, gru, ssm"),
    (("--where", "clip=value:1"), "where: clip=value:1 is in no run; clip is none, step-norm:1"),
    (("--where", "color=red"), "where: 'color' is no field"),
    (("--width", "wide"), "width: 'wide' is unknown; single, double, slide"),
    (("--xscale", "sqrt"), "xscale: 'sqrt' is unknown; log, linear"),
    (("--value-range", "1"), "value_range: '1' is not LOW:HIGH"),
    (("--value-range", "1:0"), "value_range: (1.0, 0.0) does not ascend"),
    (("--value-range", "0:0"), "value_range: (0.0, 0.0) does not ascend"),
    (("--value-range", "nan:1"), "value_range: (nan, 1.0) is not allowed; two numbers within"),
    (("--value-range", "0:nan"), "value_range: (0.0, nan) is not allowed; two numbers within"),
    (("--value-range=-inf:0",), "value_range: (-inf, 0.0) is not allowed; two numbers within"),
    (("--value-range=-1e308:1e308",), "value_range: (-1e+308, 1e+308) is not allowed; two num"),
    (("--value-range", "1:1.0000000000000002"), "value_range: (1.0, 1.0000000000000002) is not"),
    (("--value-range", "0:5e-324"), "value_range: (0.0, 5e-324) is not allowed; two numbers"),
    (
        ("--value-range", "0:10", "--value", "horizon_1e-3"),
        "value_range: (0.0, 10.0) is not allowed; above 0, where horizon_1e-3 is counted",
    ),
    (("--title", "$$"), r"title: '$$' is not allowed; '$$' between dollars is no mathematics; \$"),
    (("--xlabel", r"so $\frac{1}$"), r"xlabel: 'so $\\frac{1}$' is not allowed; '$\\frac{1}$' b"),
    (("--ylabel", "$x_$"), "ylabel: '$x_$' is not allowed; '$x_$' between dollars is no"),
    (("--value-label", "$" + "{" * 39 + "}" * 39 + "$"), "value_label: '${{"),
    (
        ("--title", "日本"),
        "title: '日本' is not allowed; letters of DejaVu Sans, which has no '日本'",
    ),
    (("--title", os.fsdecode(b"gr\xf6")), r"title: 'gr\udcf6' is not allowed; letters of"),
    (("--title", "x" * 301), "title: 'xxx"),
    (("--xlabel", "x" * 81), "xlabel: 'xxx"),
    (("--ylabel", f"${'x' * 78}$", "--width", "single"), "ylabel: '$xxx"),
    (("--contours",), "contours: they need decades over two axes of numbers"),
    (("-o", "a.gif"), "output: 'a.gif' has no known format"),
    (("-o", "none/a.pdf"), "output: none is not a folder; make it first"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_refused_in_one_line(store, words, said):
    done = command(
        "none" if not words else store, *([] if "-o" in words else ["-o", "a.pdf"]), *words
    )
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"seqlab: error: {said}")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["store"]


def test_an_empty_store_and_nan_alone_are_refused():
    with pytest.raises(InputError, match="plot: there is no result to draw"):
        select([], Asked())

    def spoil(log_norm, lag):
        log_norm[...] = np.nan

    for kind in ("heatmap", "curves", "distribution"):
        with pytest.raises(InputError, match="value: log10_attenuation is nan throughout"):
            select([result(edit=spoil)], Asked(kind))


def test_more_panels_than_can_be_seen_are_refused():
    runs = [result("rnn", gain=1 + k / 10, init="normal") for k in range(13)]
    with pytest.raises(InputError, match="facet: gain has 13 values; 12 is the most"):
        select(runs, Asked(facet="gain"))


# Pictures.

KEPT = {
    "heatmap": ("gains", {"facet": "activation", "y": "gain"}),
    "curves": ("cells", {"kind": "curves"}),
    "profile": ("one", {"kind": "profile"}),
    "distribution": ("gains", {"kind": "distribution", "x": "gain", "y": "activation"}),
}


def picture(store, asked, path):
    """A figure in blocks of a thirtieth of an inch, (rows, columns, 3), 0 to 1."""
    plot(STORES[store], path, Asked(**asked))
    pixels = imread(path)[..., :3]
    rows, columns = (side // BLOCK for side in pixels.shape[:2])
    cut = pixels[: rows * BLOCK, : columns * BLOCK]
    return cut.reshape(rows, BLOCK, columns, BLOCK, 3).mean(axis=(1, 3))


def alike(one, other):
    """Whether two pictures show the same.

    A block is half a letter wide. Another version of Matplotlib may draw letters and lines a pixel
    of 300 to the inch aside: a block then changes by a tenth of what is drawn in it, 0.1 at most.
    A colour, a line or a word that is another changes whole blocks, by 0.3 and more, and tens of
    them: 0.2% of a picture. So: all but 0.2% of the blocks within 0.2.
    """
    if one.shape != other.shape:
        return False
    return np.quantile(np.abs(one - other).max(axis=2), 0.998) < 0.2


@pytest.mark.parametrize("kind", KEPT)
def test_pictures_are_as_they_were_looked_at(kind, tmp_path):
    kept = imread(PICTURES / f"{kind}.png")[..., :3]
    assert alike(picture(*KEPT[kind], tmp_path / "a.png"), kept)


def test_a_picture_that_is_another_is_told(tmp_path):
    store, asked = KEPT["curves"]
    kept = imread(PICTURES / "curves.png")[..., :3]
    for changed in (
        {"where": {"arch": ["rnn", "lstm", "ssm"]}},
        {"where": {"clip": ["none"]}},
    ):
        assert not alike(picture(store, asked | changed, tmp_path / "a.png"), kept)


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for kind, (store, asked) in KEPT.items():
        imsave(PICTURES / f"{kind}.png", picture(store, asked, PICTURES / f"{kind}.png"))
        (PICTURES / f"{kind}.csv").unlink()
