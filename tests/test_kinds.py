"""A second kind of run: a row and a table of options, and the whole study serves it."""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from studies import seqlab_, tables, toml
from synthetic import measurement

import seqlab
from seqlab.errors import InputError
from seqlab.spec import kinds
from seqlab.spec.fields import choice, whole
from seqlab.spec.option import Option, Table
from seqlab.spec.run import RunSpec
from seqlab.spec.table import TABLE
from seqlab.study import limits
from seqlab.study.result import Result

STACKS = {"stack": SimpleNamespace(name="stack", options=frozenset())}
SHARED = ("steps", "networks", "seed", "clip", "lengths", "dtype")
STACK_TABLE = Table(
    STACKS,
    [
        Option("arch", choice(STACKS), "An architecture through depth."),
        *(TABLE[name] for name in SHARED),
        Option("hidden", whole(2), "Its width, from 2 up.", default=8),
        Option("norm", choice(("none", "batch")), "Normalisation.", default="none"),
    ],
)


@dataclass(frozen=True)
class StackSpec:
    """What a spec of another kind takes at least."""

    arch: str
    steps: int
    networks: int
    seed: int
    clip: tuple[str, ...]
    lengths: tuple[int, ...]
    dtype: str
    hidden: int
    norm: str

    @classmethod
    def create(cls, check: Any = None, /, **given: Any) -> "StackSpec":
        for name in given:
            if name not in STACK_TABLE:
                raise InputError(f"{name}: no such field")
        known = {n: STACK_TABLE[n].parse(n, v) for n, v in given.items() if v is not None}
        return cls(**({"lengths": (known["steps"],)} | STACK_TABLE.defaults | known))

    @classmethod
    def from_dict(cls, fields: Any) -> "StackSpec":
        return cls.create(**fields)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"clip": list(self.clip), "lengths": list(self.lengths)}

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()[:16]


def measure(spec: StackSpec, backend: str, progress: Any) -> Any:
    assert isinstance(spec, StackSpec)
    fields = {name: getattr(spec, name) for name in SHARED}
    return measurement(RunSpec.create(arch="rnn", **fields), rate=-0.25)


# The cost, which a kind names as a module: this one.


def require_backend(spec: StackSpec, backend: str, elsewhere: bool) -> None:
    assert isinstance(spec, StackSpec)


def memory_bytes(spec: StackSpec) -> int:
    return 1000 * spec.steps * spec.networks


def seconds(spec: StackSpec, threads: int) -> float:
    return 3600.0 * spec.steps / threads


def curve_shape(spec: StackSpec) -> tuple[int, int, int, int]:
    return spec.networks, len(spec.clip), len(spec.lengths), spec.steps + 1


def file_bytes(spec: StackSpec) -> int:
    return 3 * 2**20


@pytest.fixture(autouse=True)
def _stacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "stacks", sys.modules[__name__])
    row = kinds.Kind(StackSpec, STACK_TABLE, "stacks:measure", "stacks")
    monkeypatch.setattr(kinds, "KINDS", [kinds.KINDS[0], row])


def test_a_run_of_another_kind_is_measured_kept_and_read(here):
    result = seqlab.run(arch="stack", steps=20, networks=4, norm="batch", store="store")
    assert isinstance(result.spec, StackSpec)
    again = Result.read(result.path)
    assert again.spec == result.spec
    assert again.spec.norm == "batch"
    (curve, _) = again.to_json()["curves"]
    assert curve["decay_rate"] == pytest.approx(-0.25)
    assert list(again.to_dataframe().columns)[:4] == ["hash", "arch", "steps", "networks"]
    assert again.summary().startswith(
        "stack: steps 20, networks 4, seed 0, dtype float64, hidden 8"
    )


def test_one_study_has_runs_of_both_kinds(here, made_up):
    grid = {"arch": ["rnn", "stack"], "norm": ["none", "batch"], "gain": [0.5]}
    content = tables({"networks": 4, "init": "he"}, grid)
    del content["fixed"]["inputs"]
    (here / "study.toml").write_text(toml(content))
    planned = seqlab_("sweep", "study.toml", "--store", "store", "--dry-run")
    assert planned.exit_code == 0, planned.stderr
    assert planned.stderr.splitlines() == [
        "norm means nothing for rnn, and is left out there",
        "init means nothing for stack, and is left out there",
        "gain means nothing for stack, and is left out there",
        "1 of 4 runs equal another, measured once for both",
    ]
    assert planned.stdout.splitlines()[0] == "a study: 3 runs, 0 of them in store"
    done = seqlab_("sweep", "study.toml", "--store", "store")
    assert done.stdout == "a study: 3 runs measured, 0 found, 0 failed in store\n"
    assert [spec.arch for spec, _ in made_up] == ["rnn"]
    table = seqlab.load("store")
    assert table["arch"].unique().tolist() == ["rnn", "stack"]
    assert seqlab_("sweep", "study.toml", "--store", "store").stdout.startswith(
        "a study: 0 runs measured, 3 found"
    )


def test_a_value_is_refused_where_no_kind_of_the_study_takes_it(here):
    for name, value, said in (
        ("norm", "layer", "norm: 'layer' is not allowed; none or batch"),
        ("hidden", 1, "hidden: 1 is not allowed; a whole number from 2 up"),
        ("nrm", 1, "nrm: no such field (did you mean norm?)"),
    ):
        (here / "study.toml").write_text(toml(tables({"arch": "stack", name: value})))
        assert seqlab_("sweep", "study.toml").stderr.endswith(f"fixed.{said}\n")


def test_what_another_kind_takes_is_refused_by_its_own_cost(monkeypatch):
    monkeypatch.setattr("seqlab.study.limits.available_memory", lambda: 10**6)
    with pytest.raises(InputError, match=r"^steps: 2000 is not allowed; the run would take"):
        limits.require_memory(kinds.create(arch="stack", steps=2000, networks=2))
    with pytest.raises(InputError, match=r"^networks: 90000000 is not allowed; with 2 rules"):
        limits.require_file(kinds.create(arch="stack", steps=20, networks=90_000_000))


def test_an_architecture_that_no_kind_has_is_the_first_ones_to_refuse():
    for arch in ("stck", None, ["stack"], 3):
        with pytest.raises(InputError, match=r"^arch: "):
            kinds.create(arch=arch, steps=9)
