"""The fixture under test, pytest's own tools for it, PyTorch where it is, and patience."""

import contextlib
import functools
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester", "seqlab.pytest_plugin"]
pytest.register_assert_rewrite("adjoints", "naive_runs")  # they say what differs, as tests do

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
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class MadeUp(list[tuple[Any, str]]):
    """What was measured, spec and backend; a seed in `failing` raises its error instead."""

    def __init__(self) -> None:
        self.failing: dict[int, BaseException] = {}

    @property
    def seeds(self) -> list[int]:
        return [spec.seed for spec, _ in self]


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    """Runs that measure nothing."""
    from synthetic import measurement

    measured = MadeUp()

    def measure(spec: Any, backend: str = "auto", progress: Any = None) -> Any:
        measured.append((spec, backend))
        progress(0.5, "halfway")
        if spec.seed in measured.failing:
            raise measured.failing[spec.seed]
        return measurement(spec)

    monkeypatch.setattr("seqlab.measure.measure", measure)
    return measured


@pytest.fixture
def said() -> list[str]:
    """What was reported."""
    return []


@pytest.fixture
def torch() -> Any:
    """PyTorch, for what no stand-in can show."""
    return pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Draw a figure and keep it: gives the figure and its data."""
    from plots import drawn

    return functools.partial(drawn, monkeypatch)


@pytest.fixture
def write(here: Path) -> Any:
    """Write a file of weights, by its suffix; gives its name in the folder that is worked in."""
    import weight_files

    return weight_files.write


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands for PyTorch; gives the options that files were loaded with."""
    import weight_files

    return weight_files.pretended(monkeypatch)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the numbers of a file is an error."""
    import weight_files

    weight_files.unread(monkeypatch)
