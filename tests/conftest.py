"""The fixture under test, pytest's own tools for it, PyTorch where it is, and patience."""

import contextlib
from typing import Any

import pytest

pytest_plugins = ["pytester", "seqlab.pytest_plugin"]

with contextlib.suppress(ImportError):  # the environment of the CUDA tests has no Hypothesis
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "any machine",
        deadline=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.function_scoped_fixture,  # the folders of several examples may be one
        ],
    )
    settings.load_profile("any machine")


@pytest.fixture
def torch() -> Any:
    """PyTorch, for what no stand-in can show."""
    return pytest.importorskip("torch", reason="PyTorch is not installed (the extra `peers`)")
