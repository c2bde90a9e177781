"""Copies of the package to which a test adds something small, and Python that runs there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import seqlab

ROOT = Path(seqlab.__file__).parents[1]


def copied_package(tmp_path, *others):
    """A folder with a copy of the package, and of `others` that lie beside it; gives its path."""
    folder = tmp_path / "copy"
    for name in ("seqlab", *others):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def insert(path, anchor, text):
    """Add lines to a file, after the one line that has the anchor."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    (place,) = [number for number, line in enumerate(lines, 1) if anchor in line]
    lines.insert(place, text.rstrip("\n") + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def run_python(folder, code):
    """What Python prints that runs in the folder, where its copy of the package is `seqlab`.

    Kernels are not compiled: that would take longer than anything tiny they do.
    """
    environment = os.environ | {"PYTHONPATH": str(folder), "NUMBA_DISABLE_JIT": "1"}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
