"""The fixture under test, and pytest's own tools to test it with; PyTorch where it is."""

from typing import Any

import pytest

pytest_plugins = ["pytester", "seqlab.pytest_plugin"]


@pytest.fixture
def torch() -> Any:
    """PyTorch, for what no stand-in can show."""
    return pytest.importorskip("torch", reason="PyTorch is not installed (the extra `peers`)")
