"""`decay_regression` as a stranger uses it, in a project of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import seqlab
from seqlab.guard import baseline
from seqlab.pytest_plugin import LONGEST_NAME, _file_name

MINE = """
    import os
    import pytest

    RATE = float(os.environ.get("RATE", "-0.46"))

    def curve(steps=1000, rate=RATE):
        lag = range(steps + 1)
        return {"lag": lag, "log_norm": [rate * k for k in lag]}

    def test_one(decay_regression):
        decay_regression.check(curve())

    @pytest.mark.parametrize("case", ["a/b", "a_b", 3])
    def test_several(decay_regression, case):
        decay_regression.check(curve(10), name="short")
        decay_regression.check(curve(100), name="long")

    class TestMore:
        def test_one(self, decay_regression):
            decay_regression.check(curve(100))
"""
NETWORKS = """
    import os
    import seqlab

    def test_lstm(decay_regression):
        decay_regression.check(
            seqlab.run(
                arch="lstm", steps=500, hidden=8, networks=4,
                forget_bias=float(os.environ.get("BIAS", "1")),
                dtype=os.environ.get("DTYPE", "float64"),
            )
        )
"""
FILES = [
    "TestMore.test_one.decay.csv",
    "test_one.decay.csv",
    "test_several-3.long.decay.csv",
    "test_several-3.short.decay.csv",
    "test_several-a_b.long.decay.csv",
    "test_several-a_b.short.decay.csv",
]


@pytest.fixture
def project(pytester, monkeypatch):
    """A project of one test file; gives how to run its tests, and how often which way they end."""

    def make(text):
        pytester.makepyfile(test_mine=text)

        def run(*words, **settings):
            with monkeypatch.context() as patch:
                for name, value in settings.items():
                    patch.setenv(name, value)
                return pytester.runpytest_inprocess(
                    "-p", "seqlab.pytest_plugin", "-W", "error", *words
                )

        return run

    return make


def kept(pytester):
    """The baselines, by name."""
    folder = pytester.path / "test_mine"
    return {path.name: path.read_text() for path in folder.glob("*")} if folder.is_dir() else {}


def test_a_missing_baseline_fails_with_the_command_that_makes_it(project, pytester):
    run = project(MINE)
    done = run()
    done.assert_outcomes(failed=5)
    done.stdout.fnmatch_lines(
        [
            f"*no baseline {Path('test_mine/test_one.decay.csv')}; make it with",
            "*  pytest test_mine.py::test_one --decay-update",
        ]
    )
    assert "pytest 'test_mine.py::test_several[[]a/b]' --decay-update" in str(done.stdout).replace(
        "[a/b]", "[[]a/b]"
    )
    assert kept(pytester) == {}


def test_updated_it_passes_and_only_the_option_writes(project, pytester):
    run = project(MINE)
    run("--decay-update").assert_outcomes(passed=5)
    written = kept(pytester)
    plain = [re.sub(r"-[0-9a-f]{8}(?=\.decay)", "", name) for name in written]
    assert sorted(plain) == sorted([*FILES, *FILES[4:]])  # a/b and a_b are two
    run().assert_outcomes(passed=5)
    run("-k", "TestMore", RATE="-0.40").assert_outcomes(failed=1, deselected=4)
    assert kept(pytester) == written
    assert written["test_one.decay.csv"].splitlines()[:6] == [
        "curve,quantity,lag,value",
        "curve,rate,,-0.460000",
        "curve,rate_low,,-0.460000",
        "curve,rate_high,,-0.460000",
        "curve,log10,0,0.000000",
        "curve,log10,1,-0.199775",
    ]
    assert len(written["test_one.decay.csv"]) < 1500
    run("--decay-update", RATE="-0.40").assert_outcomes(passed=5)
    run(RATE="-0.40").assert_outcomes(passed=5)


def test_a_failure_says_where_by_how_much_and_shows_it(project, pytester):
    run = project(MINE)
    run("--decay-update")
    done = run("-k", "test_one and not More", RATE="0.46")  # an error of sign
    done.assert_outcomes(failed=1, deselected=4)
    done.stdout.fnmatch_lines(
        [
            "*decay differs from test_mine?test_one.decay.csv",
            "*400 decades apart at lag 1000, 0.05 allowed: 199.775, was -199.775",
            "*beyond that from lag 1 on, at 34 of 35 lags compared",
            "*rate 0.46 nat/step, was -0.46; -0.461 to -0.459 is allowed",
            "*picture: *test_one.decay.png",
            "*if that is right: pytest test_mine.py::test_one --decay-update",
        ]
    )
    # with CI set, pytest repeats the whole message in its summary
    picture = re.findall(r"picture: (\S+)", str(done.stdout))[0]
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    assert Path(picture).parent.name.startswith("decay")
    assert not list((pytester.path / "test_mine").glob("*.png"))


def test_networks_that_changed_a_little_fail_and_another_dtype_does_not(project, pytester):
    run = project(NETWORKS)
    run("--decay-update").assert_outcomes(passed=1)
    run().assert_outcomes(passed=1)
    run(DTYPE="float32").assert_outcomes(passed=1)
    done = run(BIAS="1.05")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*none: * decades apart at lag 500, 0.05 allowed: *"])


def test_a_curve_with_nan_is_no_baseline(project, pytester):
    run = project("""
        def test_nan(decay_regression):
            decay_regression.check({"lag": range(3), "log_norm": [0, -1, float("nan")]})
    """)
    for words in ((), ("--decay-update",), ()):
        done = run(*words)
        done.assert_outcomes(failed=1)
        done.stdout.fnmatch_lines(["*InputError: curve: nan at lag 2, at 1 of 3 lags*finite"])
        assert kept(pytester) == {}


def documented():
    """The tests in the README and the pages of the documentation."""
    root = Path(__file__).parents[1]
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    blocks = [block for page in pages for block in re.findall(BLOCK, page.read_text("utf-8"))]
    return [block for block in blocks if "decay_regression" in block]


BLOCK = r"(?ms)^```python\n(.*?)^```$"


def test_there_are_documented_examples():
    assert len(documented()) >= 2


@pytest.mark.parametrize("example", documented(), ids=range(len(documented())))
def test_a_documented_example_is_complete(example, project, pytester):
    if "torch" in example:
        pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
    run = project(example)
    run().assert_outcomes(failed=1)
    run("--decay-update").assert_outcomes(passed=1)
    run().assert_outcomes(passed=1)
    [(name, content)] = kept(pytester).items()
    path = pytester.path / "test_mine" / name
    path.write_text(content.replace(",0,0.", ",0,0.1"))
    run().assert_outcomes(failed=1)


def test_a_second_curve_without_a_name_is_told(project):
    run = project("""
        def test_two(decay_regression):
            for rate in (-0.1, -0.2):
                decay_regression.check({"lag": [0, 1], "log_norm": [0, rate]})
    """)
    done = run("--decay-update")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*a second curve would be *two.decay.csv: give each its own name=*"])


# A rate for each, so that no test passes with another's baseline.
ALIKE = """
    import pytest

    CASES = ["a::b", "a.b", "A", "a", "a-b", "LSTM", "lstm", "Lstm", "a[b]", "a].b", "x::y.z"]

    def curve(key):
        rate = -0.1 - sum(ord(letter) * k for k, letter in enumerate(key, 1)) / 1000
        return {"lag": range(11), "log_norm": [rate * k for k in range(11)]}

    @pytest.mark.parametrize("case", CASES)
    def test_case(decay_regression, case):
        decay_regression.check(curve(case))
        for name in ("b", "B", "b]"):
            decay_regression.check(curve(case + "." + name), name=name)

    def test_A(decay_regression):
        decay_regression.check(curve("A"))

    def test_a(decay_regression):
        decay_regression.check(curve("a"))
        decay_regression.check(curve("Aa"), name="test_b")

    class Test_a:
        def test_b(self, decay_regression):
            decay_regression.check(curve("b"))

        def test_B(self, decay_regression):
            decay_regression.check(curve("B"))
"""


def test_each_curve_has_a_file_of_its_own_on_every_file_system(project, pytester):
    run = project(ALIKE)
    run("--decay-update").assert_outcomes(passed=15)
    written = kept(pytester)
    assert len({name.lower() for name in written}) == 11 * 4 + 1 + 2 + 2
    assert {"test_case-a.decay.csv", "test_case-a-b.decay.csv", "test_A.decay.csv"} <= set(written)
    run().assert_outcomes(passed=15)
    for test, cases in {"test_case": 11, "test_a": 1, "test_A": 1, "Test_a": 2}.items():
        run(f"test_mine.py::{test}").assert_outcomes(passed=cases)
    run("--decay-update").assert_outcomes(passed=15)
    assert kept(pytester) == written


def test_what_was_kept_keeps_its_name(project, pytester):
    """Names that have capitals or dots, from before they could be another's."""
    run = project("""
        import pytest

        @pytest.mark.parametrize("case", ["LSTM", "torch.float32", "0.5", "gru"])
        def test_case(decay_regression, case):
            decay_regression.check({"lag": [0, 1], "log_norm": [0, -1]})
            decay_regression.check({"lag": [0, 1], "log_norm": [0, -1]}, name="Q")
    """)
    folder = pytester.path / "test_mine"
    cases = ("LSTM", "torch.float32", "0.5", "gru")
    names = [f"test_case-{case}{name}.decay.csv" for case in cases for name in ("", ".Q")]
    for name in names:
        baseline.write(folder / name, baseline.curves_of({"lag": [0, 1], "log_norm": [0, -1]}))
    run().assert_outcomes(passed=4)
    run("--decay-update").assert_outcomes(passed=4)
    assert sorted(kept(pytester)) == sorted(names)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("test_x[a::b]",), ("test_x[a.b]",)),
        (("test_x[A]",), ("test_x[a]",)),
        (("test_x", "A"), ("test_x", "a")),
        (("test_x[a].b]",), ("test_x[a]", "b]")),
        (("test_x[é::a]",), ("test_x[é.a]",)),
        (("test_x[" + "a" * 200 + "]",), ("test_x[" + "a" * 201 + "]",)),
    ],
)
def test_no_other_curve_is_needed_to_name_a_file(one, other):
    """Tests that run apart, or at once, do not meet."""
    assert _file_name(*one).lower() != _file_name(*other).lower()


def test_installed_it_is_there_and_loads_nothing(tmp_path):
    """Found by its entry point; a test that does not use it does not pay for it."""
    source = Path(seqlab.__file__).parents[1]
    installed = tmp_path / "site" / "seqlab-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: seqlab\nVersion: 0\n")
    name = "seqlab.pytest_plugin"
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{name} = {name}\n")
    assert f'"{name}" = "{name}"' in (Path(__file__).parents[1] / "pyproject.toml").read_text()
    (tmp_path / "test_mine.py").write_text(
        "import sys\n"
        "def test_light():\n"
        "    assert 'seqlab.pytest_plugin' in sys.modules\n"
        "    assert not {'numpy', 'numba', 'matplotlib'} & set(sys.modules)\n"
        "def test_curve(decay_regression):\n"
        "    decay_regression.check({'lag': [0, 1], 'log_norm': [0, -1]})\n"
        "    assert not {'numba', 'matplotlib'} & set(sys.modules)\n"
    )
    path = os.pathsep.join([str(installed.parent), str(source)])
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "--decay-update"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_parallel_workers_do_not_disturb_each_other(project, pytester):
    pytest.importorskip("xdist")
    run = project(MINE)
    run("-n", "3", "--decay-update").assert_outcomes(passed=5)
    assert len(kept(pytester)) == 8
    run("-n", "3").assert_outcomes(passed=5)


@pytest.mark.parametrize("name", ["test_x[a]", "test_x[../../a]", "test_x[é]", "x" * 300, "a:b"])
def test_file_names_are_safe(name):
    made = _file_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_.+=,-]+", made)
    assert len(made) <= LONGEST_NAME + 9
    assert _file_name(f"{name} ") != made
