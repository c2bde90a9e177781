"""What people have of a result in Python: numbers as attributes, short words, a notebook's view,
figures of one result, and a line of progress."""

import base64
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from drawn import draw
from hints import fits
from matplotlib.figure import Figure
from studies import TINY, write
from synthetic import made_result, probed, result

import seqlab
from seqlab import figures
from seqlab.errors import InputError
from seqlab.numbers.quantities import IN_TABLES_OF_TRAINING
from seqlab.report.numbers import Numbers

TRAINED = {"lengths": [4, 6], "hidden": 3, "networks": 2, "updates": 7}


@pytest.fixture(scope="module")
def trained():
    return seqlab.learn(arch="rnn", **TRAINED)


def test_the_numbers_of_a_rule_are_those_of_its_json(trained):
    run = made_result(spectrum=3, clip=["none", "norm:1"], replaced={"theory": np.array(np.nan)})
    for one in (run, probed(), trained):
        assert one.rules == tuple(one) == one.spec.clip
        for rule, curve in zip(one.rules, one.to_json()["curves"], strict=True):
            mine = {name.replace("-", "_"): value for name, value in curve.items()}
            assert json.loads(json.dumps(vars(one[rule]))) == mine


def test_the_numbers_have_types(trained):
    """Every field of the document, and no other."""
    hints = get_type_hints(Numbers)
    names = [name for row in IN_TABLES_OF_TRAINING for name in row.fields]
    assert list(hints) == ["clip", *dict.fromkeys(name.replace("-", "_") for name in names)]
    lost = made_result(networks=3, replaced={"theory": np.array(np.nan)})
    for one in (made_result(spectrum=3), lost, probed(), trained):
        for name, value in vars(one[one.rules[0]]).items():
            assert fits(value, hints[name]), (name, value, hints[name])


def test_what_a_result_has_not_is_told():
    run = made_result()
    with pytest.raises(
        InputError, match=r"^rule: 'step-norm:2' is not allowed; none or step-norm:1"
    ):
        run["step-norm:2"]
    with pytest.raises(AttributeError, match=r"^no number is called 'decay' .did you mean decay_r"):
        run["none"].decay  # noqa: B018
    with pytest.raises(AttributeError, match=r"^solved_share is a number of training alone$"):
        run["none"].solved_share  # noqa: B018


def test_words_of_what_has_arrays_are_short(trained):
    run = draw("lstm", hidden=4, inputs=3, steps=6, batch=2)
    trajectory = seqlab.forward("lstm", run.params, run.x)
    u, a = np.ones((1, 2, 5)), -np.ones((2, 3))
    scan = seqlab.selective_scan_backward(u, u, u, a, np.ones((1, 3, 5)), np.ones((1, 3, 5)))
    reach = seqlab.reach(arch="lstm", vary="forget_bias", between=(0, 9), **TINY)
    said = {
        "Result of lstm: steps 1000, networks 16, clip none+step-norm:1\n"
        "none: decay rate -0.45 nat/step, horizon 16": made_result(),
        "Result of rnn: steps 6, networks 2, clip none+norm:1\n"
        "none: 0 of 2 networks solved the longest": trained,
        "Attenuation of Mine: steps 100, networks 1, clip none\n"
        "none: decay rate -0.001 nat/step, horizon > 100": probed(-0.001),
        "Attenuation of Mine: lag 0 alone": probed(engine="input", lengths=(1,)),
        "Trajectory: output (6, 2, 4), final ((2, 4), (2, 4)), float64 on cpu": trajectory,
        "Gradients: 4 params, x (6, 2, 3), initial ((2, 4), (2, 4)), float64": seqlab.backward(
            trajectory, np.ones((6, 2, 4))
        ),
        "ScanGradients: u (1, 2, 5), delta (1, 2, 5), A (2, 3), B (1, 3, 5), C (1, 3, 5), "
        "float64": scan,
        f"Reach: forget_bias that keeps 0.001 over 20 steps: {reach.answers[0].value:.6g}; "
        f"{len(reach.tried)} values tried": reach,
    }
    assert {text: repr(one) for text, one in said.items()} == {text: text for text in said}


class Page(HTMLParser):
    """The text of what a notebook shows, and its pictures."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags, self.pictures = "", [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.pictures += [value for name, value in attrs if name == "src"]

    def handle_data(self, data):
        self.text += data


def test_a_notebook_shows_the_table_and_the_figure(trained):
    for one in (made_result(), trained, probed(name="<b>&lt;", parts={"a": 0.0, "b": -1.0})):
        page = one._repr_html_()
        shown = Page(page)
        assert shown.tags == ["div", "pre", "img"]
        assert shown.text == one.summary()
        kind, picture = shown.pictures[0].split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(picture).startswith(b"\x89PNG")
        assert len(page) < 60_000


def test_a_notebook_shows_the_table_alone_where_nothing_can_be_drawn():
    run = made_result("rnn")
    run.variables["log_norm"].data[:] = np.nan
    assert Page(run._repr_html_()).tags == ["div", "pre"]
    assert probed(engine="input", lengths=(1,))._repr_html_() is None


@pytest.mark.parametrize("make", [made_result, probed])
def test_a_figure_is_given_and_written_where_a_path_is(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = make().plot()
    assert isinstance(drawn, Figure)
    assert not list(tmp_path.iterdir())
    assert isinstance(make().plot("a.svg"), Figure)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.svg"]


@pytest.mark.parametrize("kind", ["curves", "heatmap", "profile", "distribution", "histogram"])
def test_every_kind_of_figure_takes_one_result(kind):
    draw_one = getattr(figures, kind)
    for one in (made_result(clip=["none"]), probed(), result(clip=["none"])):
        alone, listed = (draw_one(given) for given in (one, [one]))
        np.testing.assert_equal(
            [list(line.get_ydata()) for line in alone.lines],
            [list(line.get_ydata()) for line in listed.lines],
        )
        assert alone.get_xlabel() == listed.get_xlabel()


def test_a_whole_figure_takes_one_result(tmp_path):
    figures.plot(probed(), tmp_path / "one.svg")
    figures.plot([probed()], tmp_path / "list.svg")
    figures.plot(iter([probed()]), tmp_path / "iterator.svg")
    assert len({path.read_bytes() for path in tmp_path.glob("*.svg")}) == 1


SHOWN = {
    "run": lambda progress: seqlab.run(arch="rnn", progress=progress, **TINY),
    "depth": lambda progress: seqlab.depth(depth=3, width=4, networks=1, progress=progress),
    "learn": lambda progress: seqlab.learn(arch="rnn", progress=progress, **TRAINED),
    "train": lambda progress: seqlab.train(
        depths=[2], width=4, networks=1, updates=7, progress=progress
    ),
    "reach": lambda progress: seqlab.reach(
        arch="lstm", vary="forget_bias", between=(0, 9), progress=progress, **TINY
    ),
    "sweep": lambda progress: seqlab.sweep(write(Path("s.toml")), "store", progress=progress),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_line_of_progress_on_stderr(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SHOWN[name](False)
    assert capsys.readouterr() == ("", "")
    if name == "sweep":
        (tmp_path / "store").rename("elsewhere")
    SHOWN[name](True)
    out, err = capsys.readouterr()
    lines = err.split("\r")
    assert (out, lines[0], lines[-1]) == ("", "", "")
    assert "%  " in lines[1]
    assert lines[-2].strip() == ""
    assert len(lines[-2]) == len(lines[1]) < 200
    with pytest.raises(
        InputError, match="progress: 3 is not allowed; a function of a fraction and"
    ):
        SHOWN[name](3)


def test_a_stream_that_is_closed_stops_nothing(monkeypatch, tmp_path):
    stream = (tmp_path / "log").open("w")
    stream.close()
    monkeypatch.setattr("sys.stderr", stream)
    assert SHOWN["run"](True).spec.steps == 20
