"""Copies of the package to which a test adds something small, and Python that runs there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import seqlab

ROOT = Path(__file__).parents[1]


def copied_package(tmp_path, *others):
    """A folder with a copy of the package, and of `others` of the project; gives its path."""
    folder = tmp_path / "copy"
    sources = [Path(seqlab.__file__).parent, *(ROOT / name for name in others)]
    for source in sources:
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / source.name, ignore=ignored)
        else:
            shutil.copy(source, folder)
    return folder


def insert(path, anchor, text):
    """Add lines to a file, after the one line that has the anchor."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    (place,) = [number for number, line in enumerate(lines, 1) if anchor in line]
    lines.insert(place, text.rstrip("\n") + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def run_python(folder, code, jit=False):
    """What Python prints that runs in the folder, where its copy of the package is `seqlab`.

    Without `jit` kernels are not compiled: that takes longer than anything tiny they do.
    """
    environment = os.environ | {"PYTHONPATH": str(folder), "NUMBA_DISABLE_JIT": str(int(not jit))}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
