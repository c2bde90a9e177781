"""`seqlab probe`: what is refused before a file runs, what is measured, and what fails midway."""

import json
import re
import signal
import sys
import time

import pytest
from studies import PATIENCE, hear_ctrl_c, process, refusal, seqlab_, start, tree

import seqlab
from seqlab.study.result import Result

LINES = """\
import torch

class Decay(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(size, size, dtype=torch.float64) / size)

    def forward(self, x, state):
        ys = []
        for x_t in x:
            state = torch.tanh(x_t + state @ self.weight)
            ys.append(state)
        return torch.stack(ys), state

def make():
    return Decay(4), torch.randn(40, 2, 4, dtype=torch.float64), torch.zeros(2, 4).double()
"""
MODEL = f"{LINES}\nprint('hello from the file', __name__)\n"

# Without PyTorch, and before a file runs.

REFUSED = [
    (("model.py",), "function: 'model.py' is not allowed; FILE.py:FUNCTION is needed"),
    (("model.py:",), "function: 'model.py:' is not allowed; FILE.py:FUNCTION is needed"),
    (("model:make",), "function: 'model:make' is not allowed; FILE.py:FUNCTION is needed"),
    (("model.py:a b",), "function: 'model.py:a b' is not allowed"),
    (("none.py:make",), "function: cannot read none.py: No such file or directory"),
    (("folder.py:make",), "function: cannot read folder.py: Is a directory"),
    (("broken.py:make",), "function: broken.py:2: SyntaxError: "),
    (("zero.py:make",), "function: zero.py"),
    ((), "Missing argument 'FILE.py:FUNCTION'."),
    (("model.py:make", "--lengths", "20,10"), "lengths: '20,10' is not allowed; a:b:n with"),
    (("model.py:make", "--clip", "nrm:1"), "clip: 'nrm:1' is not a rule"),
    (("model.py:make", "--clip", "norm:0"), "clip: 'norm:0' has no positive"),
    (("model.py:make", "--every", 0), "every: 0 is not allowed; a whole number from 1 up"),
    (("model.py:make", "--networks", 0), "networks: 0 is not allowed; a whole number from 1 up"),
    (("model.py:make", "--dtype", "float16"), "dtype: 'float16' is not allowed; float64 or float3"),
    (("model.py:make", "--wrt", "a,,b"), "wrt: 'a,,b' is not allowed; state, input, layers or"),
    (("model.py:make", "--seed", -1), "seed: -1 is not allowed; a whole number from 0 up"),
    (("model.py:make", "--name", " "), "name: ' ' is not allowed; some text"),
    (("model.py:make", "--plot", "figure.gif"), "plot: 'figure.gif' has no known format"),
    (("model.py:make", "--plot", "no/figure.pdf"), "plot: no is not a folder; make it first"),
    (("model.py:make", "--store", "model.py"), "store: cannot write model.py/"),
    (("model.py:make", "--from", "x.nc"), "No such option '--from'."),
    (("model.py:make", "--backend", "cpu"), "No such option '--backend'."),
]  # fmt: skip


@pytest.fixture
def model(here):
    """A file that would leave a trace if it ran, and others that cannot."""
    (here / "model.py").write_text("open('ran', 'w')\n")
    (here / "broken.py").write_text("x = 1\ndef make(:\n")
    (here / "zero.py").write_bytes(b"x = 1\0")
    (here / "folder.py").mkdir()
    return here


@pytest.mark.parametrize(("args", "message"), REFUSED)
def test_refused_before_the_file_runs(args, message, model):
    before = tree(model)
    assert refusal(seqlab_("probe", *args)).startswith(message)
    assert tree(model) == before


def test_without_pytorch_it_says_what_to_install(model, monkeypatch):
    monkeypatch.setattr("seqlab.probes.loading.find_spec", lambda name: None)
    said = refusal(seqlab_("probe", "model.py:make"))
    how = "pip install 'seqlab[torch]', in a clone '.[torch]'"
    assert said == f"probe: PyTorch is needed and is not here; {how}"
    assert not (model / "ran").exists()


# With it.


@pytest.fixture
def mine(here, torch):
    """Writes model.py, and runs the command on a function of it."""

    def run(lines=MODEL, function="make", *args):
        (here / "model.py").write_text(lines)
        return seqlab_("probe", f"model.py:{function}", *args)

    return run


def test_it_measures_what_the_function_returns(mine, here, torch):
    result = mine(MODEL, "make", "--lengths", "10,40", "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == "hello from the file model\n"
    document = json.loads(result.stdout)
    found = Result.read(document["result"])
    assert [path.name for path in (here / "seqlab-results").iterdir()] == [found.path.name]
    torch.manual_seed(0)
    scope = {"__name__": "model"}
    exec(LINES, scope)
    torch.manual_seed(0)
    net, x, state = scope["make"]()
    expected = seqlab.probe(net, x, state, lengths=[10, 40])
    assert found.spec == expected.result.spec  # the digest of its curves among it
    assert document["spec"] == expected.to_json()["spec"]
    assert document["curves"] == expected.to_json()["curves"]


def test_the_table_and_the_figure(mine, here):
    result = mine(MODEL, "make", "--plot", "reach.svg", "--store", "kept", "--name", "tanh")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("probed: name tanh, steps 40, networks 1, engine autograd, dtype")
    assert max(map(len, lines)) <= 80
    assert "|dL/d state|" in result.stdout
    assert lines[-1].startswith("stored: kept/")
    assert "probed, tanh, clip none" in (here / "reach.svg").read_text()
    assert (here / "reach.csv").exists()


def test_two_calls_give_one_result_and_another_seed_another(mine, here):
    spec = [json.loads(mine(MODEL, "make", "--json", *words).stdout)["spec"] for words in
            ((), (), ("--seed", 1))]  # fmt: skip
    assert spec[0] == spec[1]
    assert spec[0]["content"] != spec[2]["content"]
    assert len(list((here / "seqlab-results").iterdir())) == 2


def test_rules_are_measured_each_on_its_way(mine, monkeypatch):
    from seqlab.probes import several

    walked = []

    def probe(**given):
        walked.append(given["clip"])
        return seqlab.probe(**given)

    monkeypatch.setattr(several, "probe", probe)
    words = [
        w for rule in ("none", "norm:1", "step-norm:1e-3", "value:2") for w in ("--clip", rule)
    ]
    document = json.loads(mine(MODEL, "make", *words, "--json").stdout)
    assert walked == ["none", "step-norm:0.001"]
    assert [curve["clip"] for curve in document["curves"]] == document["spec"]["clip"]
    none, norm, step, value = document["curves"]
    assert none["decay_rate"] == norm["decay_rate"] == value["decay_rate"] != step["decay_rate"]
    assert (none["clipped_fraction"], norm["clipped_fraction"]) == (0, "nan")
    assert step["clipped_fraction"] > 0


MAPPING = """
def several():
    def reset(net):
        torch.nn.init.normal_(net.weight, std=0.2)
    return {"net": Decay(4), "x": torch.randn(40, 2, 4).double(), "reset": reset, "networks": 2,
            "state": torch.zeros(2, 4).double(), "lengths": [20], "loss": lambda y: (y**2).sum()}
"""


def test_a_mapping_has_any_argument_and_options_go_before_it(mine):
    spec = json.loads(mine(LINES + MAPPING, "several", "--json").stdout)["spec"]
    assert (spec["networks"], spec["lengths"], spec["clip"]) == (2, [20], ["none"])
    words = ("--networks", 3, "--lengths", "10,40", "--every", 5, "--json")
    spec = json.loads(mine(LINES + MAPPING, "several", *words).stdout)["spec"]
    assert (spec["networks"], spec["lengths"], spec["every"]) == (3, [10, 40], 5)


DEEP = """
import torch

def make():
    blocks = [torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Sigmoid()) for _ in range(5)]
    return torch.nn.Sequential(*blocks), torch.randn(7, 3, 6)
"""


@pytest.mark.parametrize(
    ("wrt", "arch", "steps"),
    [("layers", "probed-layers", 5), ("1,3", "probed-layers", 2), ("input", "probed", 6)],
)
def test_with_respect_to(mine, wrt, arch, steps):
    result = mine(DEEP, "make", "--wrt", wrt, "--json")
    spec = json.loads(result.stdout)["spec"]
    assert (spec["arch"], spec["steps"]) == (arch, steps)
    text = " ".join(mine(DEEP, "make", "--wrt", wrt).stdout.split())
    assert ("|dL/dx|" in text) == (wrt == "input")


def test_dtype(mine):
    assert json.loads(mine(DEEP, "make", "--wrt", "layers", "--json").stdout)["spec"]["dtype"] == (
        "float32"
    )
    words = ("--wrt", "layers", "--dtype", "float64", "--json")
    assert json.loads(mine(DEEP, "make", *words).stdout)["spec"]["dtype"] == "float64"


NO = "function: 'model.py:make' is not allowed; "
MAKE = "def make(): return "
FAILING = [
    ("def make():\n    return 1 / 0\n", "function: model.py:2: ZeroDivisionError: division by "),
    ("import nowhere\n", "function: model.py:1: ModuleNotFoundError: No module named 'nowhere'"),
    ("def make():\n    import sys\n    sys.exit(3)\n", "function: model.py:3: SystemExit: 3"),
    ("def mako(): ...\n", f"{NO}its file has no such function (did you mean mako?)"),
    ("make = 3\n", f"{NO}its file has no such function"),
    ("def make(a): ...\n", f"{NO}it is called without arguments: missing a required argument: 'a'"),
    (f"{MAKE}None\n", "function: model.py:make returns NoneType; (net, x), (net, x, state) or a d"),
    (f"{MAKE}1, 2, 3, 4\n", "function: model.py:make returns tuple of 4; (net, x)"),
    (f"{MAKE}[1, 2]\n", "function: model.py:make returns list of 2; (net, x)"),
    (f"{MAKE}{{'net': 1}}\n", "function: model.py:make returns a dictionary without 'x'"),
    (
        f"{MAKE}{{'net': 1, 'x': 2, 'los': 3}}\n",
        "function: 'los' is not allowed; model.py:make may return net, x, state, readout, loss",
    ),
    (f"{MAKE}{{'net': 1, 'x': 2, 'progress': 3}}\n", "function: 'progress' is not allowed; "),
    (f"import torch\n{MAKE}torch.nn.Linear(2, 2), 3\n", "x: 'int' is not allowed; a"),
    (
        f"import torch\n{MAKE}torch.nn.LSTM(2, 2, 2, dropout=.5), torch.ones(5, 1, 2)\n",
        "net: 'dropout 0.5 in training mode' is not allowed",
    ),
]


@pytest.mark.parametrize(("lines", "message"), FAILING)
def test_what_cannot_be_probed_is_refused_in_a_line(lines, message, mine, here):
    path, argv, modules = sys.path[:], sys.argv[:], set(sys.modules)
    assert refusal(mine(lines)).startswith(message)
    assert [each.name for each in here.iterdir()] == ["model.py"]
    assert (sys.path, sys.argv) == (path, argv)
    assert "model" not in set(sys.modules) - modules


def test_lengths_beyond_the_sequence_are_refused(mine):
    said = refusal_after(mine(MODEL, "make", "--lengths", "10,41"))
    assert said == "lengths: [10, 41] is not allowed; whole numbers from 1 to 40"


def refusal_after(result):
    """The last line of a command that was refused after its file had run."""
    assert (result.exit_code, result.stdout) == (2, "")
    *_, line = result.stderr.splitlines()
    return line.removeprefix("seqlab: error: ")


LATE = LINES.replace(
    "        for x_t in x:\n", "        for x_t in x:\n            check(x_t)\n"
) + (
    "def check(x):\n    if x.sum() > 30:\n        raise RuntimeError('mine:\\nmore')\n"
    "def late():\n    net, x, state = make()\n    x[:] = torch.arange(40.0)[:, None, None] / 8\n"
    "    return net, x, state\n"
)


def test_what_a_model_raises_midway_is_a_line_with_its_place(mine, here):
    result = mine(LATE, "late")
    line = LATE.splitlines().index("        raise RuntimeError('mine:\\nmore')") + 1
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"seqlab: error: model.py:{line}: RuntimeError: mine:\n"
    assert [each.name for each in here.iterdir()] == ["model.py"]


def test_what_a_library_raises_midway_is_a_line_with_its_place(mine):
    lines = (
        "import functools, torch\n"
        "def make():\n"
        "    loss = functools.partial(torch.nn.functional.cross_entropy, target=torch.ones(7))\n"
        "    return {'net': torch.nn.RNN(3, 4), 'x': torch.ones(5, 2, 3), 'loss': loss}\n"
    )
    result = mine(lines, "make")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(
        r"seqlab: error: \S+functional.py:\d+: ValueError: Expected input batch_size [^\n]+\n",
        result.stderr,
    )


def test_the_file_finds_its_neighbours_and_is_not_the_main_one(here, torch):
    (here / "sub").mkdir()
    (here / "sub" / "beside.py").write_text(LINES)
    (here / "sub" / "random.py").write_text(
        "import sys\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Sizes:\n    size: 'int' = 4\n"
        "def make():\n"
        "    from beside import make\n"
        "    assert __name__ != '__main__' and sys.argv == [__file__]\n"
        "    return make()\n"
    )
    done = process("probe", "sub/random.py:make", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["spec"]["name"] == "Decay"
    assert {path.name for path in here.iterdir()} == {"sub", "seqlab-results"}


def test_ctrl_c_is_heard_in_the_middle(here, torch):
    slow = LINES.replace("for x_t in x:", "for x_t in x:\n            time.sleep(0.05)")
    slow = f"import time\n{slow}\nopen('ran', 'w')\n".replace("randn(40,", "randn(4000,")
    (here / "model.py").write_text(slow)
    running = start("probe", "model.py:make", preexec_fn=hear_ctrl_c)
    until = time.monotonic() + PATIENCE
    while not (here / "ran").exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, out, err) == (130, "", "seqlab: error: interrupted\n")
    assert not (here / "seqlab-results").exists()
