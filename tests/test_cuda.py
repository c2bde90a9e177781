"""The CUDA backend where there is no GPU: refused with the reason, and simulated."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqlab.errors import InputError
from seqlab.kernels import backends

HERE = Path(__file__).parent
INSTALLED = importlib.util.find_spec("numba_cuda") is not None


def test_a_backend_that_is_not_there_is_refused() -> None:
    assert backends.resolve("auto") == "cpu"
    reason = backends.describe()["cuda"]
    if reason == "available":
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match=r"^backend: cuda is not available: .*allowed here: cpu"):
        backends.resolve("cuda")
    assert INSTALLED or "pip install" in reason


def test_importing_seqlab_touches_no_cuda() -> None:
    program = (
        "import sys, seqlab\n"
        "for name in seqlab.__all__:\n"
        "    if not name.startswith('selective'): getattr(seqlab, name)\n"
        "assert not [m for m in sys.modules if m.startswith(('numba.cuda.', 'numba_cuda'))]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(not INSTALLED, reason="numba-cuda is not installed (the extra `cuda`)")
def test_parity_in_the_simulator() -> None:
    """Every test of cuda_parity*.py, in a process where CUDA is simulated."""
    files = sorted(path.name for path in HERE.glob("cuda_parity*.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    ran = subprocess.run(
        command,
        cwd=HERE,
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
