"""Studies for tests: their files, their stores, and the commands that sweep them."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from synthetic import made_result

import seqlab
from seqlab.cli import main
from seqlab.errors import InputError
from seqlab.spec.run import RunSpec
from seqlab.spec.study import StudySpec
from seqlab.study import netcdf
from seqlab.study.result import Result

PYTHON = (sys.executable, "-m", "seqlab")
# A process elsewhere runs the very package that is tested here.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(seqlab.__file__).parents[1])}
PATIENCE = 600  # seconds until a process is taken to hang, on however slow a machine
TINY = {"steps": 20, "hidden": 3, "inputs": 2, "networks": 4}
TINY_WORDS = tuple(word for name, value in TINY.items() for word in (f"--{name}", str(value)))
ENDLESS = {"arch": "lstm", "hidden": 1024, "steps": 200_000, "networks": 2}  # hours, anywhere
SEEDS = {"seed": [0, 1, 2]}
RNN, GRU = (("run", "--arch", arch, *TINY_WORDS) for arch in ("rnn", "gru"))


def tables(fixed=None, grid=None, zipped=None, name="a study"):
    """The tables of a study of tiny rnn."""
    fixed = {"arch": "rnn"} | TINY | (fixed or {})
    fixed = {key: value for key, value in fixed.items() if key not in {**(grid or {})}}
    fixed = {key: value for key, value in fixed.items() if key not in {**(zipped or {})}}
    return {"study": {"name": name}, "fixed": fixed, "grid": grid or {}, "zip": zipped or {}}


def study(*args, **kwargs):
    """The study of some tables."""
    return StudySpec.create(tables(*args, **kwargs))


def tree(folder):
    """Every file below a folder with its content."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def toml(content):
    """The text of a study file."""
    lines = []
    for table, fields in content.items():
        lines.append(f"[{table}]")
        lines += [f"{json.dumps(key)} = {_value(value)}" for key, value in fields.items()]
    return "\n".join(lines) + "\n"


def _value(value):
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def write(path, *args, **kwargs):
    """Write a study file; gives its path."""
    path.write_text(toml(tables(*args, **kwargs)), encoding="utf-8")
    return path


def made(**fields):
    """A result of a made-up measurement of tiny rnn."""
    return made_result(**({"arch": "rnn"} | TINY | fields))


def make_older(path):
    """Make a result's file one of format 1, sound but for that."""
    variables, attributes = netcdf.decode(path.read_bytes())
    del attributes["checksum"]
    path.write_bytes(netcdf.encode(variables, attributes | {"format": 1.0}))


def data(store):
    """The bits of every variable of every result in a folder, read with their checksums."""
    return {
        path.name: {name: v.data.tobytes() for name, v in Result.read(path).variables.items()}
        for path in Path(store).glob("*.nc")
    }


def seqlab_(*args):
    """Run a command in this process."""
    return CliRunner().invoke(main, [str(arg) for arg in args])


def process(*args, stdout=subprocess.PIPE):
    """Run a command as users do."""
    words = [*PYTHON, *map(str, args)]
    return subprocess.run(
        words, stdout=stdout, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, check=False
    )


def start(*args, **options):
    """Start a command as users do."""
    words = [*PYTHON, *map(str, args)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, env=ENVIRONMENT, **(streams | options))


def hear_ctrl_c():
    """For a process that is about to start: its parents may ignore SIGINT, as batch systems do."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def refusal(result):
    """The one line of a refused command."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"seqlab: error: [^\n]+\n", result.stderr)
    return result.stderr.removeprefix("seqlab: error: ").strip()


def spec_refusal(**fields):
    """The message that a spec is refused with: one line."""
    with pytest.raises(InputError) as caught:
        RunSpec.create(**fields)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    return message
