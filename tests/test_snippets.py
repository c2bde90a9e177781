"""What the pages show is run: every block of Python, every command of a console, page by page.

`<!-- not run: REASON -->` before a block leaves it out. What pages take as the reader's own, and
what is not run whole, stands here: `readers`, `NOT_STARTED`, `LONGEST`, `OF_MANY_RUNS` and
`RECORDS`.
"""

import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pytest
import weight_files
from click.testing import CliRunner

import seqlab
from seqlab.cli import main
from seqlab.spec import kinds
from seqlab.study import run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(f"docs/{one.name}" for one in (ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"(?:<!-- not run: ([^>]+) -->\n)?^```(\w+)\n([\s\S]*?)^```$", re.MULTILINE)
OF_TORCH = ("docs/probe.md",)  # whose every block goes on from PyTorch's

# Commands that other programs or machines are needed for.
NOT_STARTED = {
    "dask": "a scheduler and its workers",
    "sbatch": "a batch system",
    "--scheduler": "a cluster",
    "bench": "the peers, and minutes",
}
# What takes longer by its own account, in seconds of two cores, is checked to the last value and
# stopped where the measuring begins. Commands of many runs have no one account: their options are
# read.
LONGEST = 0.3
OF_MANY_RUNS = ("reach", "verify")
# The records of claims, hours in all: tests/test_claims.py settles the cheap ones, and holds the
# commands to the book. Here their options are read.
RECORDS = ("docs/claims.md", "docs/papers.md")


class Block(NamedTuple):
    """`line` is where it begins, `reason` why it is not run."""

    language: str
    text: str
    line: int
    reason: str | None


class Begun(Exception):
    """All was checked, and the measuring would begin."""


def blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        reason, language, body = found.groups()
        yield Block(language, body, text.count("\n", 0, found.start(3)) + 1, reason)


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the files that pages have of the reader."""
    folder, rng = tmp_path_factory.mktemp("readers"), np.random.default_rng(0)
    np.savez(folder / "W.npz", **weight_files.weights("gru"))
    np.save(folder / "X.npy", rng.normal(size=(100, 2, 3)))
    model = weight_files.model("float32")
    (folder / "model.safetensors").write_bytes(weight_files.safetensors(model))
    layers = {f"{n}.weight": rng.normal(size=(8, 8)) / 8**0.5 for n in range(5)}
    np.savez(folder / "weights.npz", **layers)
    lines = ["import torch", "def make():"]
    lines += ["    return torch.nn.LSTM(4, 8), torch.randn(1000, 2, 4)"]
    (folder / "model.py").write_text("\n".join(lines) + "\n")
    seqlab.run(arch="lstm", steps=1000, store=folder / "seqlab-results")
    return folder


def commands(text: str) -> Iterator[list[str]]:
    """Where lines begin with "$ ", the others are what is printed."""
    lines = text.replace("\\\n", " ").splitlines()
    typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    for line in typed or lines:
        if words := shlex.split(line, comments=True):
            yield words


def run_command(words: list[str], page: str, patch: pytest.MonkeyPatch) -> None:
    """Raises AssertionError where its exit status is another than 0."""
    if words[0] in NOT_STARTED:
        return
    assert words[0] == "seqlab", f"{words[0]} is no command that is run here"
    name, *options = words[1:]
    if page in RECORDS or name in OF_MANY_RUNS or any(word in NOT_STARTED for word in words):
        main.commands[name].make_context(name, options, parent=click.Context(main))
        return
    measure = run.measure_spec

    def measured(spec: Any, *args: Any, **others: Any) -> Any:
        if kinds.cost(spec).seconds(spec, 2) > LONGEST:
            raise Begun
        return measure(spec, *args, **others)

    with patch.context() as patched:
        patched.setattr(run, "measure_spec", measured)
        done = CliRunner().invoke(main, words[1:])
    assert done.exit_code == 0 or isinstance(done.exception, Begun), done.output


def needs_torch(block: Block, page: str) -> bool:
    words = ("torch", "seqlab probe") if block.language == "console" else ("torch", "seqlab.probe")
    return page in OF_TORCH or any(word in block.text for word in words)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of PyTorch: two are slower by far where others work too."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def shown() -> list[str]:
    """The pages that show something to run."""
    return [p for p in PAGES if any(one.language in ("console", "python") for one in blocks(p))]


@pytest.mark.parametrize("page", shown())
def test_what_a_page_shows_runs(
    page: str, readers: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an empty folder but for the reader's files; Python's blocks share their names."""
    shutil.copytree(readers, here, dirs_exist_ok=True)
    has_torch, left_out = importlib.util.find_spec("torch") is not None, 0
    names: dict[str, Any] = {"__name__": page}
    for block in blocks(page):
        where = f"{page}:{block.line}"
        if block.reason is not None or block.language not in ("console", "python", "toml"):
            continue
        if needs_torch(block, page) and not has_torch:
            left_out += 1
        elif block.language == "toml":
            (here / "study.toml").write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, where, "exec"), names)
        else:
            for words in commands(block.text):
                try:
                    run_command(words, page, monkeypatch)
                except Exception as error:
                    pytest.fail(f"{where}: {shlex.join(words)}\n{error}", pytrace=False)
    if left_out:
        pytest.skip(f"{left_out} blocks need PyTorch (the extra `torch`); the others ran")
