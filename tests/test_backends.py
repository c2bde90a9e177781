"""What kernels and backends offer, and what is said where one lacks a cell."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import studies
from drawn import draw
from faces import faults
from studies import TINY, refusal, seqlab_

import seqlab
from seqlab.cells import CELLS
from seqlab.errors import InputError
from seqlab.kernels import backends
from seqlab.spec import kinds
from seqlab.study import limits

pytestmark = pytest.mark.tiny


def test_every_module_offers_what_the_contract_says() -> None:
    """On the CPU; cuda_parity.py holds the other backend to it."""
    assert faults("cpu") == []


def test_a_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels: Any = backends.kernels("cpu", "gru")
    monkeypatch.delattr(kernels, "faintest")
    monkeypatch.setattr(kernels, "forward", lambda weights, x, saved, state: None)
    assert faults("cpu") == ["gru: no faintest", "gru: forward(weights, x, saved, state)"]


def test_which_cells_a_backend_has() -> None:
    for backend in backends.BACKENDS:
        assert backends.cells_of(backend) == tuple(CELLS)
    assert not backends.has_cell("cpu", "cell")  # a module of that name is not there
    assert backends.having("lstm") == backends.BACKENDS


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Take the lstm from a backend."""

    def lack(backend: str) -> None:
        monkeypatch.setattr(
            backends, "has_cell", lambda name, arch: (name, arch) != (backend, "lstm")
        )

    return lack


def test_a_backend_that_lacks_a_cell_is_refused(lacking: Callable[[str], None]) -> None:
    """In one line, before it is asked whether this machine has such a backend at all."""
    lacking("cuda")
    run = draw("lstm")
    words = r"^backend: cuda has no lstm; it is on cpu$"
    for call in (
        partial(seqlab.forward, "lstm", run.params, run.x),
        partial(seqlab.attenuation, "lstm", run.params, run.x, [3]),
        partial(seqlab.run, arch="lstm", **TINY),
    ):
        with pytest.raises(InputError, match=words):
            call(backend="cuda")
    assert backends.cells_of("cuda") == tuple(arch for arch in CELLS if arch != "lstm")
    assert seqlab.forward("lstm", run.params, run.x).backend == "cpu"


def test_auto_takes_a_backend_that_has_the_cell(
    lacking: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking("cpu")
    monkeypatch.setattr(backends, "_cuda", lambda: backends.AVAILABLE)
    assert backends.resolve("auto", arch="lstm") == "cuda"
    assert backends.resolve("auto", arch="gru") == "cpu"
    monkeypatch.setattr(backends, "_cuda", lambda: "no GPU")
    with pytest.raises(InputError, match=r"^backend: cuda is not available: no GPU"):
        backends.resolve("auto", arch="lstm")
    monkeypatch.setattr(backends, "has_cell", lambda backend, arch: False)
    with pytest.raises(InputError, match=r"^backend: none has lstm$"):
        backends.resolve("auto", arch="lstm")


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--arch", "rnn", "--arch", "lstm", "--steps", 20, "--backend", "cpu"),
        ("sweep", "study.toml", "--backend", "cpu"),
        ("sweep", "study.toml", "--backend", "cpu", "--dry-run"),
        ("sweep", "study.toml", "--backend", "cpu", "--dry-run", "--scheduler", "tcp://h:1"),
    ],
)
def test_commands_refuse_it_before_any_work(
    words: tuple[Any, ...],
    lacking: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though the first cell would do."""
    lacking("cpu")
    monkeypatch.chdir(tmp_path)
    studies.write(tmp_path / "study.toml", grid={"arch": ["rnn", "lstm"]})
    assert refusal(seqlab_(*words)) == "backend: cpu has no lstm; it is on cuda"
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


@pytest.mark.parametrize("networks", [1, 2, 3, 7, 100, 1001])
@pytest.mark.parametrize("each", [1, 10**6, 10**7, 10**9])
def test_networks_at_once_are_those_of_the_largest_blocks(networks: int, each: int) -> None:
    blocks = backends.blocks("cpu", networks, each)
    most = backends.at_once("cpu", blocks) * max(map(len, blocks))
    assert backends.networks_at_once("cpu", networks, each) == most


@pytest.mark.parametrize(
    "kind", [{"arch": "rnn"}, {"arch": "mlp"}, {"arch": "rnn", "kind": "learn"}]
)
def test_what_has_no_room_is_refused_without_its_blocks(
    kind: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of a thousand million blocks takes half a minute, and a memory of its own."""
    monkeypatch.setattr(backends, "blocks", None)
    spec = kinds.create(**kind, steps=9, networks=10**9)
    with pytest.raises(InputError, match=r"^networks: 1000000000 is not allowed; the run would"):
        limits.require_memory(spec)
