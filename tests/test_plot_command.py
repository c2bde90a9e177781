"""`seqlab plot`: its files, its refusals, and the user's own Matplotlib backend."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from plots import CELLS
from studies import ENVIRONMENT, PYTHON
from synthetic import measurement, result

from seqlab.cli import main
from seqlab.errors import InputError
from seqlab.figures import Looks, Request, select
from seqlab.figures.names import AXES, MEASURES
from seqlab.figures.request import KINDS
from seqlab.figures.style import WIDTHS
from seqlab.report import drawable
from seqlab.spec.run import RunSpec
from seqlab.study.result import Result

BACKENDS = (
    "module://matplotlib_inline.backend_inline",
    "bogus",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("module://nowhere", "tkagg", "svg")),
)


@pytest.mark.parametrize("backend", BACKENDS)
def test_figures_need_no_backend(backend, store):
    words = [*PYTHON, "plot", store, "-o", "a.png"]
    environment = ENVIRONMENT | {"MPLBACKEND": backend}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    told = "drawn: a.png, its data: a.csv\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", told)
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("backend", "before"),
    [
        ("module://nowhere", ""),
        ("svg", "import matplotlib; matplotlib.use('pdf')"),
        (None, ""),
    ],
)
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_is_drawn_and_its_data_kept_beside(store, kind):
    for name in ("a.png", "c.pdf"):
        done = command(store, "--kind", kind, "-o", name)
        told = f"drawn: {name}, its data: {name[0]}.csv\n"
        assert (done.exit_code, done.stdout, done.stderr) == (0, "", told)
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
    damaged, drawn = done.stderr.splitlines()
    assert str(path) in damaged
    assert drawn == "drawn: a.pdf, its data: a.csv"
    assert len(set(pd.read_csv("a.csv")["arch"])) == 3


def test_a_table_that_is_no_figures_data_is_not_overwritten(store):
    Path("a.csv").write_text("hash,arch\n")
    done = command(store, "-o", "a.pdf")
    assert done.exit_code == 2
    assert "a.csv is not a figure's data and would be overwritten" in done.stderr
    assert Path("a.csv").read_text() == "hash,arch\n"
    assert not Path("a.pdf").exists()


def test_help_lists_what_there_is_to_ask_for():
    """And a name of a width or a scale is one that figures know."""
    said = " ".join(command("--help").output.split())
    for names in (MEASURES, AXES, KINDS):
        for name in names:
            assert re.search(rf"\b{re.escape(name)}\b", said), name
    assert tuple(WIDTHS) == drawable.WIDTHS
    assert tuple(MEASURES) == drawable.VALUES
    for scale in drawable.SCALES:
        Looks(xscale=scale, yscale=scale)


REFUSED = [
    ((), "store: none is not a folder of results"),
    (("--x", "lenght"), "x: 'lenght' is no field; arch, "),
    (("--facet", "colour"), "facet: 'colour' is no field; arch, "),
    (("--x", "arch", "--y", "arch"), "y: arch is the field of x already"),
    (("--value", "decay"), "value: 'decay' is not measured; log10_attenuation, "),
    (("--value", "lyapunov_1"), "value: no run of this store has lyapunov_1"),
    (("--value", "horizon_1e-3", "--x", "length"), "value: horizon_1e-3 is one number a run"),
    (("--kind", "pie"), "kind: 'pie' is not drawn; heatmap, curves, profile, distribution, hist"),
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
    (("--yscale", "sqrt"), "yscale: 'sqrt' is unknown; log, linear"),
    (("--numbers", "--kind", "curves"), "kind: 'curves' is not allowed; heatmap beside numbers"),
    (("--numbers",), "numbers: 4 x 13 cells are too small for them; choose with where"),
    (("--xscale", "log"), "kind: 'heatmap' is not allowed; curves or histogram beside xscale"),
    (
        ("--kind", "histogram", "--yscale", "log"),
        "kind: 'histogram' is not allowed; curves or distribution beside yscale",
    ),
    (
        ("--kind", "histogram", "--value", "decay_rate", "--xscale", "log"),
        "xscale: 'log' is not allowed; logarithms alone have a choice, not decay_rate",
    ),
    (("--kind", "histogram", "--x", "lag"), "x: a histogram has its values there; y and facet are"),
    (("--kind", "histogram", "--y", "length"), "y: length cannot tell histogram apart; a field"),
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
        select([], Request())

    def spoil(log_norm, lag):
        log_norm[...] = np.nan

    for kind in ("heatmap", "curves", "distribution"):
        with pytest.raises(InputError, match="value: log10_attenuation is nan throughout"):
            select([result(edit=spoil)], Request(kind))


def test_more_panels_than_can_be_seen_are_refused():
    runs = [result("rnn", gain=1 + k / 10, init="normal") for k in range(13)]
    with pytest.raises(InputError, match="facet: gain has 13 values; 12 is the most"):
        select(runs, Request(facet="gain"))
