"""What type checkers, editors and `help` see of the public names."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from hints import fits
from tensors import Tensor

import seqlab
from seqlab.errors import InputError
from seqlab.numbers.spellings import NAMES
from seqlab.spec import keywords
from seqlab.spec.learn_table import LEARN_TABLE
from seqlab.spec.stack_table import STACK_TABLE
from seqlab.spec.table import TABLE
from seqlab.spec.train_table import TRAIN_TABLE
from seqlab.study.reach import _FIXED

ROOT = Path(__file__).parents[1]
FUNCTIONS = {
    "run": (TABLE, keywords.RunOptions),
    "depth": (STACK_TABLE, keywords.DepthOptions),
    "learn": (LEARN_TABLE, keywords.LearnOptions),
    "train": (TRAIN_TABLE, keywords.TrainOptions),
    "reach": (TABLE, keywords.ReachOptions),
}
EXPLICIT = {"backend", "store", "progress", "vary", "keep", "between", "arch"}
VALUES = [
    *(1, np.int64(3), np.int32(20), 0.5, np.float64(0.5), np.float32(0.5), True),
    *("chrono", "sqrt", "pre", "outside", "last", "latch", "sgd", "cosine", "none", "he", "zeros"),
    *("float32", "gated", "layer", *NAMES, "10,20", "1:9:3", Path("w.npz")),
    *([1, 2], (np.int64(1), 2), [0.5], ("none", "norm:1"), {"w": np.ones(2)}),
    *(np.ones((2, 2, 2)), Tensor(np.ones((2, 2, 2))), [[[0.5]]]),
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_option_has_a_type_that_takes_what_its_parser_takes(name):
    table, options = FUNCTIONS[name]
    hints = get_type_hints(options)
    own = inspect.signature(getattr(seqlab, name)).parameters.keys() & {"arch"} - hints.keys()
    left_out = {*own, *(_FIXED if name == "reach" else ())}
    assert hints.keys() == set(table.words.values()) - left_out
    for option, word in table.words.items():
        if word in left_out:
            continue
        assert not fits(object(), hints[word])
        assert word == "arch" or fits(None, hints[word])
        values = [*table.archs] if word == "arch" else VALUES
        taken = [value for value in values if parses(table[option], value)]
        assert taken, word
        for value in taken:
            assert fits(value, hints[word]), (word, value)


def parses(row, value):
    """Whether an option allows a value."""
    try:
        row.parse(row.name, value)
    except InputError:
        return False
    return True


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_are_keywords_with_their_help(name):
    table, options = FUNCTIONS[name]
    function = getattr(seqlab, name)
    found = inspect.signature(function).parameters
    assert found.keys() - EXPLICIT == get_type_hints(options).keys() - {"arch"}
    assert all(one.kind is one.KEYWORD_ONLY for one in found.values())
    lines = inspect.getdoc(function).splitlines()
    for option, word in table.words.items():
        told = [line for line in lines if line.startswith(f"    {word}: ")]
        assert len(told) == (word in found)
        assert not told or table[option].help.split(";")[0].split("--")[0][:60] in told[0]
    assert "--" not in function.__doc__
    assert "repeat it" not in function.__doc__


def test_checkers_see_every_public_name():
    """Without its being imported at run time: each under its own name, from where it lives."""
    tree = ast.parse(Path(seqlab.__file__).read_text())
    [branch] = [node for node in tree.body if isinstance(node, ast.If)]
    assert branch.test.id == "TYPE_CHECKING"
    seen = [(one.asname, node.module, one.name) for node in branch.body for one in node.names]
    homes = [(name, f"seqlab.{home}", name) for name, home in seqlab._HOME.items()]
    assert sorted(seen) == sorted(homes)
    for _, module, name in seen:
        assert getattr(import_module(module), name) is getattr(seqlab, name)


SNIPPET = """\
import numpy as np
import seqlab

result = seqlab.run(arch="lstm", steps=np.int64(9), forget_bias="chrono", lengths=[3, 9])
reveal_type(result)
reveal_type(result["none"].decay_rate)
reveal_type(result.plot())
reveal_type(seqlab.attenuation("gru", {}, np.ones(3), [1]))
reveal_type(seqlab.reach(arch="lstm", steps=9, vary="gain").answers[0].value)
seqlab.depth(depth=3, alpha="sqrt", params={"0.weight": np.ones((3, 3))}, progress=True)
seqlab.learn(arch="rnn", lr=[0.1, 0.2], clip="norm:1")
seqlab.train(depths="2,3", frozen=True, sequences=None)
# refused:
seqlab.run(arch="lstm", stepz=9)
seqlab.run(steps=9)
seqlab.depth(depth="deep")
seqlab.reach(arch="lstm", vary="gain", clip="none")
seqlab.forwards
result["none"].decay
"""
REVEALED = [
    "seqlab.study.result.Result",
    "float",
    "matplotlib.figure.Figure",
    "seqlab.study.attenuation.Attenuation",
    "float",
]
ERRORS = [
    'Unexpected keyword argument "stepz" for "run"',
    'Missing named argument "arch" for "run"',
    'Argument "depth" to "depth" has incompatible type "str"',
    'Unexpected keyword argument "clip" for "reach"',
    'Module has no attribute "forwards"',
    '"Numbers" has no attribute "decay"',
]


@pytest.mark.slow  # mypy reads all of the package, NumPy and pandas for it
def test_mypy_knows_the_public_names_and_their_options(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed (the extra `test`)")
    (tmp_path / "snippet.py").write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", str(tmp_path / "snippet.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    notes = [line for line in done.stdout.splitlines() if "Revealed type is" in line]
    assert [line.split('"')[1].removeprefix("builtins.") for line in notes] == REVEALED
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == len(ERRORS), done.stdout
    for number, (line, said) in enumerate(zip(errors, ERRORS, strict=True)):
        place = SNIPPET.splitlines().index("# refused:") + 2 + number
        assert f"snippet.py:{place}: error: {said}" in line
