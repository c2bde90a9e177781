"""Stores: what is read, what is set aside, failures, claims, and the tidy table."""

import cProfile
import json
import pstats
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from studies import ENVIRONMENT, data, made, make_older, refusal, seqlab_

import seqlab
from seqlab.errors import InputError
from seqlab.report import store_table, tidy
from seqlab.spec.run import RunSpec
from seqlab.study import load
from seqlab.study.files import WriteError
from seqlab.study.locks import Claims
from seqlab.study.store import Store, describe


@pytest.fixture
def store(tmp_path):
    """Three results of made-up measurements."""
    kept = Store(tmp_path / "store")
    for seed in range(3):
        kept.keep(made(seed=seed))
    return kept


@pytest.fixture
def said():
    """What was reported."""
    return []


def path_of(store, spec):
    return store.folder / f"{spec.hash}.nc"


def damage(path, how, tmp_path):
    """Damage a file in one of the ways that files are."""
    content = path.read_bytes()
    kind, _, part = how.partition(" ")
    if kind == "cut":
        path.write_bytes(content[: len(content) * int(part) // 20])
    elif kind == "flipped":
        place = len(content) * int(part) // 20
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    elif kind == "foreign":
        path.write_bytes(made(seed=99).encode())
    elif kind == "folder":
        path.unlink()
        path.mkdir()


DAMAGES = [*(f"cut {part}" for part in range(20)), "flipped 1", "flipped 19", "foreign", "folder"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_reported_set_aside_and_never_deleted(how, store, said, tmp_path):
    spec, others = made(seed=1).spec, data(store.folder).keys() - {made(seed=1).file_name}
    assert store.has(spec, said.append)
    assert said == []
    damage(path_of(store, spec), how, tmp_path)
    content = path_of(store, spec).read_bytes() if how != "folder" else None
    assert not store.has(spec, said.append)
    aside = store.folder / f"{spec.hash}.nc.damaged-1"
    assert len(said) == 1
    assert str(path_of(store, spec)) in said[0]
    assert said[0].endswith(f"set aside as {aside.name}")
    assert aside.is_dir() if content is None else aside.read_bytes() == content
    assert not path_of(store, spec).exists()
    assert data(store.folder).keys() == others
    assert not store.has(spec, said.append)
    assert len(said) == 1


def test_what_is_set_aside_does_not_replace_what_was(store, said):
    spec = made(seed=1).spec
    for content in (b"one", b"two"):
        path_of(store, spec).write_bytes(content)
        store.has(spec, said.append)
    found = {path.suffix: path.read_bytes() for path in store.folder.glob("*.damaged-*")}
    assert found == {".damaged-1": b"one", ".damaged-2": b"two"}


LEFT_OUT = {
    "damaged": "damaged: its checksum does not fit its content; left out",
    "older": "has format 1 and this seqlab reads 2; measure it again (seqlab run --from FILE, or "
    "seqlab sweep); left out",
}


@pytest.mark.parametrize("why", LEFT_OUT)
@pytest.mark.parametrize(
    "command",
    [("table",), ("export", "-o", "out.csv"), ("plot", "-o", "out.svg", "--kind", "curves")],
)
def test_reading_leaves_out_what_it_cannot_read_and_says_so(
    command, why, store, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    drawn = "drawn: out.svg, its data: out.csv\n" if command[0] == "plot" else ""
    whole = seqlab_(command[0], store.folder, *command[1:])
    assert (whole.exit_code, whole.stderr) == (0, drawn)
    path = path_of(store, made(seed=1).spec)
    if why == "older":
        make_older(path)
    else:
        damage(path, "flipped 7", tmp_path)
    before = {found.name: found.read_bytes() for found in store.folder.iterdir()}
    result = seqlab_(command[0], store.folder, *command[1:])
    complaint = f"seqlab: error: {path}: {LEFT_OUT[why]}\n"
    assert (result.exit_code, result.stderr) == (1, complaint + drawn)
    if command[0] == "table":
        assert [line.split(",")[0] for line in result.stdout.splitlines() if "seed" in line] == [
            "  seed 0",
            "  seed 0",
            "  seed 2",
            "  seed 2",
        ]
    elif command[0] == "export":
        assert pd.read_csv("out.csv")["seed"].unique().tolist() == [0, 2]
    else:
        assert (pd.read_csv("out.csv")["networks"] == 2 * 4).all()
    assert {found.name: found.read_bytes() for found in store.folder.iterdir()} == before


def test_failures_are_kept_with_their_error_until_there_is_a_result(store):
    result = made(seed=9)
    assert store.failure(result.spec) is None
    try:
        raise MemoryError("too\nlarge")
    except MemoryError as error:
        store.keep_failure(result.spec, error)
    assert store.failure(result.spec) == "MemoryError: too large"
    record = json.loads((store.folder / f"{result.spec.hash}.failed.json").read_text())
    assert RunSpec.from_dict(record["spec"]) == result.spec
    assert "test_failures_are_kept" in record["traceback"]
    (store.folder / f"{result.spec.hash}.failed.json").write_text("{")
    assert store.failure(result.spec) == "its record cannot be read"
    store.keep(result)
    assert store.failure(result.spec) is None
    assert describe(InputError("steps: 0 is not allowed")) == "steps: 0 is not allowed"


CLAIMING = """
import sys
from pathlib import Path
from seqlab.study.locks import Claims
claims = Claims(Path(sys.argv[1]))
print(*(claims.take(run) for run in sys.argv[2:]), flush=True)
sys.stdin.read()  # until it is killed
"""


def test_a_claim_holds_against_other_processes_and_ends_with_its_own(tmp_path):
    one, other = (made(seed=seed).spec.hash for seed in (1, 2))
    words = [sys.executable, "-c", CLAIMING, str(tmp_path)]
    with Claims(tmp_path / "new" / "store") as claims:
        assert claims.take(one)
        assert claims.take(one)
    with Claims(tmp_path) as claims:
        assert claims.take(one)
        with subprocess.Popen(
            [*words, one, other],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        ) as process:
            assert process.stdout.readline() == "False True\n"
            assert not claims.take(other)
            claims.drop(one)
            assert claims.take(one)
            process.kill()
        assert claims.take(other)


def test_a_folder_that_cannot_be_written_cannot_be_claimed(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(WriteError, match=r"^cannot write .*\.lock: "):
            Claims(folder)


def test_a_file_system_without_locks_grants_every_claim(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", fail)
    with Claims(tmp_path) as claims:
        assert claims.take(made().spec.hash)
        claims.drop(made().spec.hash)


def test_drafts_of_killed_sweeps_are_removed_and_nothing_else(store):
    run = made().spec.hash
    draft, foreign = store.folder / f".{run}.nc.0a1b.part", store.folder / ".notes.part"
    draft.touch()
    foreign.touch()
    with Claims(store.folder) as claims:
        store.remove_drafts(claims)
    assert not draft.exists()
    assert foreign.exists()
    assert len(data(store.folder)) == 3


# The tidy table.


def test_the_table_has_a_row_for_each_run_rule_and_length(store):
    store.keep(made(arch="lstm", steps=30, lengths=[5, 30], clip="norm:1", spectrum=2))
    table = seqlab.load(store.folder)
    assert tuple(table.columns) == tidy.COLUMNS
    assert len(table) == 3 * 2 * len(made().spec.lengths) + 2
    assert not table.duplicated(["hash", "clip", "length"]).any()
    assert table["arch"].tolist() == ["rnn"] * (len(table) - 2) + ["lstm"] * 2
    assert table["seed"].tolist() == [*sorted(table["seed"][:-2]), 0, 0]
    for result in Store(store.folder).results(pytest.fail):
        document = result.to_json()
        for curve in document["curves"]:
            rows = table[(table["hash"] == result.spec.hash) & (table["clip"] == curve["clip"])]
            assert rows["length"].tolist() == curve["lengths"]
            assert rows["log10_attenuation"].tolist() == curve["log10_attenuation_by_length"]
            last = rows.iloc[-1]
            assert [last["log10_attenuation_q25"], last["log10_attenuation_q75"]] == (
                curve["log10_attenuation_iqr"]
            )
            assert [last["decay_rate_low"], last["decay_rate_high"]] == curve["decay_rate_ci95"]
            for name in ("decay_rate", "fit", "clipped_fraction", "theory", "zeros", "overflows"):
                assert last[name] == curve[name]
            for threshold, lag in curve["horizon"].items():
                assert pd.isna(last[f"horizon_{threshold}"]) == (lag is None)
                assert lag is None or last[f"horizon_{threshold}"] == lag
            for when, norm in curve["log10_param_grad_norm"].items():
                assert last[f"log10_param_grad_norm_{when}"] == norm
            if curve["lyapunov"]:
                assert last["lyapunov_1"] == curve["lyapunov"][0]
            else:
                assert np.isnan(last["lyapunov_1"])


def test_zeros_and_overflows_are_counted_at_each_length(tmp_path):
    result = made(networks=5, clip="none")
    norms = result.variables["log_norm"].data
    norms[:, 0, -1, -1] = [-np.inf, -np.inf, np.inf, np.nan, -3.0]
    result.write(tmp_path)
    table = seqlab.load(tmp_path)
    assert table["zeros"].tolist() == [0] * (len(table) - 1) + [2]
    assert table["overflows"].tolist() == [0] * (len(table) - 1) + [2]
    assert np.isnan(table["log10_attenuation"].iloc[-1])


def test_columns_have_one_type_whatever_the_store(tmp_path):
    made().write(tmp_path / "plain")
    made(arch="ssm", state=3).write(tmp_path / "ssm")
    made(arch="lstm", init="he", gain=0.5, forget_bias=1.0, networks=2).write(tmp_path / "lstm")
    types = [seqlab.load(tmp_path / name).dtypes for name in ("plain", "ssm", "lstm")]
    loose = {"activation", "init", "forget_bias", "params", "input", "fit"}
    for name in set(tidy.COLUMNS) - loose:
        assert len({str(found[name]) for found in types}) == 1, name


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_export_is_the_table_and_the_same_bytes_whatever_the_order(suffix, store, tmp_path):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    read = pd.read_csv if suffix == ".csv" else pd.read_parquet
    store.keep(made(arch="lstm", forget_bias="chrono"))
    store.keep(made(arch="lstm", forget_bias=0.5))
    first, again = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    assert seqlab_("export", store.folder, "-o", first).exit_code == 0
    moved = Store(tmp_path / "moved")
    for result in reversed(list(store.results(pytest.fail))):
        moved.keep(result)
    load.export(moved.folder, again)
    assert first.read_bytes() == again.read_bytes()
    frame, table = read(first), seqlab.load(store.folder)
    assert list(frame.columns) == list(table.columns)
    for name in ("log10_attenuation", "decay_rate", "seed", "horizon_1e-3"):
        assert frame[name].tolist() == table[name].tolist()
    assert set(frame["forget_bias"].dropna().astype(str)) == {"chrono", "0.5"}


def test_what_cannot_be_exported_is_refused(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for output, message in (
        ("tidy.xlsx", "output: 'tidy.xlsx' has no known format; .csv or .parquet"),
        ("none/tidy.csv", "output: none is not a folder; make it first"),
        ("/proc/tidy.csv", "output: cannot write /proc/tidy.csv"),
    ):
        assert refusal(seqlab_("export", store.folder, "-o", output)).startswith(message)
    monkeypatch.setattr(load, "find_spec", lambda name: None)
    said = refusal(seqlab_("export", store.folder, "-o", "tidy.parquet"))
    assert said == "output: Parquet needs pyarrow, which is not here; .csv does not"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", [("table",), ("export", "-o", "tidy.csv")])
def test_a_store_without_results_is_refused(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for store, message in (
        ("empty", "store: empty has no result"),
        ("none", "store: none is not a folder of results"),
        ("file", "store: file is not a folder of results"),
    ):
        assert refusal(seqlab_(command[0], store, *command[1:])) == message


def test_python_is_warned_of_damage(store, tmp_path):
    damage(path_of(store, made(seed=1).spec), "cut 3", tmp_path)
    with pytest.warns(UserWarning, match="damaged"):
        table = seqlab.load(store.folder)
    assert table["seed"].unique().tolist() == [0, 2]


def test_a_result_under_another_name_is_left_out(store, said):
    path_of(store, made(seed=1).spec).rename(store.folder / "mine.nc")
    assert [result.spec.seed for result in store.results(said.append)] in ([0, 2], [2, 0])
    assert said == [
        f"{store.folder}/mine.nc: its name is not {made(seed=1).file_name}, its spec's; left out"
    ]


# What the terminal shows.


def lines_of(text):
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(line != line.rstrip() for line in lines)
    return lines


def test_architectures_are_rows_and_lengths_are_columns(tmp_path):
    for arch in ("ssm", "rnn", "lstm"):
        made(arch=arch, steps=1000, clip="none").write(tmp_path)
    result = seqlab_("table", tmp_path)
    lines = lines_of(result.stdout)
    assert lines[3].startswith("steps 1000, hidden 3, inputs 2, networks 4, seed 0, ")
    assert lines[-7].split() == ["10", "22", "68", "147", "464", "1000"]
    # What one of them alone has is said of no other.
    assert lines[-6::2] == [
        "rnn: activation tanh, init pytorch",
        "lstm: init pytorch",
        "ssm: state 16",
    ]
    assert lines[-5].split()[:3] == ["clip", "none", "-1.95"]


def test_runs_of_an_architecture_are_told_apart_by_what_is_not_the_same_in_all(tmp_path):
    for gain in (0.5, 1.0):
        for steps in (10, 12):
            made(arch="rnn", init="he", gain=gain, steps=steps).write(tmp_path)
    made(arch="gru", steps=12).write(tmp_path)
    lines = lines_of(store_table.table(seqlab.load(tmp_path)))
    assert "rnn: activation tanh" in lines
    assert "gru" in lines
    row = next(
        line for line in lines if line.startswith("  steps 10, init he, gain 0.5, clip none")
    )
    following = lines[lines.index(row) + 1]
    assert (row + following).split()[-3:] == ["-1.95", "-", "-"]


def test_a_store_is_opened_in_time_that_grows_as_the_store(tmp_path, monkeypatch):
    """Counted in calls of functions, which are the same on every machine."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    calls = []
    for seeds in (range(50), range(50), range(50, 200)):  # the first loads what is loaded once
        for seed in seeds:
            made(steps=10, seed=seed).write(tmp_path)
        profile = cProfile.Profile()
        table = profile.runcall(seqlab.load, tmp_path)
        assert len(table) == (seeds[-1] + 1) * 2
        calls.append(pstats.Stats(profile).total_calls)
    _, fifty, two_hundred = calls
    assert 3.5 * fifty < two_hundred < 4.1 * fifty
