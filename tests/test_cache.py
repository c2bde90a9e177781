"""Results do not depend on whether a kernel was just compiled or read from the cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import hashlib, sys
import numpy as np
from seqlab import selective_scan, selective_scan_backward
from seqlab.measure import measure
from seqlab.spec import RunSpec

sha = hashlib.sha256()
dtype = sys.argv[2]
if sys.argv[1] == "scan":
    rng = np.random.default_rng(0)
    shapes = [(2, 5, 40), (2, 5, 40), (5, 3), (2, 3, 40), (2, 3, 40)]
    u, delta, A, B, C = (rng.normal(size=shape).astype(dtype) for shape in shapes)
    y = selective_scan(u, delta, -abs(A), B, C, delta_softplus=True)
    g = selective_scan_backward(y, u, delta, -abs(A), B, C, delta_softplus=True)
    arrays = [y, g.u, g.delta, g.A, g.B, g.C]
else:
    clip = ["none", "step-norm:0.9", "step-value:0.1", "norm:1"]
    spec = RunSpec.create(
        arch=sys.argv[1], steps=50, hidden=21, inputs=5, networks=3, clip=clip, dtype=dtype
    )
    variables = measure(spec).variables
    arrays = [variables[name].data for name in sorted(variables) if name != "rule"]
for array in arrays:
    sha.update(np.ascontiguousarray(array).tobytes())
print(sha.hexdigest())
"""


def bits(arch: str, dtype: str, cache: Path) -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", PROGRAM, arch, dtype]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("arch", ["rnn", "lstm", "gru", "ssm", "scan"])
def test_a_kernel_from_the_cache_has_the_bits_of_a_fresh_one(
    arch: str, dtype: str, tmp_path: Path
) -> None:
    """Two processes, the first of which compiles and the second of which does not."""
    compiled = bits(arch, dtype, tmp_path)
    assert list(tmp_path.rglob("*.nbc")), "the first process cached nothing"
    assert bits(arch, dtype, tmp_path) == compiled
