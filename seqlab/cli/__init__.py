"""The command line: options in, tables out. Whatever is heavy is imported inside a command."""

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import seqlab
from seqlab.cli import streams
from seqlab.errors import InputError, Note
from seqlab.wording import printable

if TYPE_CHECKING:
    from seqlab.claims.checks import Check
    from seqlab.spec.kinds import Spec
    from seqlab.study.result import Result

FAILED, REFUSED, INTERRUPTED = 1, 2, 130


class Commands(click.Group):
    """A group whose every error is one line on stderr, without usage and without traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        streams.prepare()
        try:
            with _notes():
                code = super().main(*args, **extra | {"standalone_mode": False})
        except click.ClickException as error:
            code = _complain(error.format_message(), REFUSED)
        except InputError as error:
            code = _complain(str(error), REFUSED)
        except click.Abort:
            code = _complain("interrupted", INTERRUPTED)
        except MemoryError:
            code = _complain("out of memory", FAILED)
        except OSError as error:
            code = _complain(str(error), FAILED)
        sys.exit(code)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.Abort from None  # before click, which would add an empty line
        except EOFError as error:  # nobody is asked for input, but click would say "interrupted"
            raise OSError(f"something that was read ends too soon: {error}") from error


def _complain(message: str, code: int) -> int:
    _say_aside("error", message)
    return code


def _say_aside(kind: str, message: str) -> None:
    line = "".join(c if c.isprintable() else " " for c in printable(" ".join(message.split())))
    streams.tell(f"seqlab: {kind}: {line}")


@contextmanager
def _notes() -> Iterator[None]:
    """Notes as lines on stderr, without their place in code; other warnings as ever."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any) -> None:
            if issubclass(category, Note):
                _say_aside("note", str(message))
            else:
                usual(message, category, *where)

        warnings.simplefilter("always", Note)
        warnings.showwarning = show  # type: ignore[assignment] # catch_warnings puts it back
        yield


@click.group(
    cls=Commands,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(seqlab.__version__, message="seqlab %(version)s")
def main() -> None:
    """Measure how gradients fade or grow through time, in RNN, LSTM, GRU and a selective SSM."""


def _number_or_word(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    try:
        return None if value is None else float(value)
    except ValueError:
        return value


@main.command(short_help="Measure one cell, or compare several.")
@click.option(
    "--arch",
    multiple=True,
    metavar="CELL",
    help="rnn, lstm, gru or ssm; repeat it to compare cells.",
)
@click.option("--steps", type=int, metavar="T", help="Steps of the sequence: the longest lag.")
@click.option("--hidden", type=int, metavar="H", help="Units. [default: 64]")
@click.option("--inputs", type=int, metavar="I", help="Input features. [default: 16]")
@click.option("--state", type=int, metavar="N", help="ssm: states per channel. [default: 16]")
@click.option("--networks", type=int, metavar="M", help="Networks drawn. [default: 16]")
@click.option("--seed", type=int, help="Seed of every random number. [default: 0]")
@click.option(
    "--activation", metavar="NAME", help="rnn: tanh, relu, sigmoid or identity. [default: tanh]"
)
@click.option(
    "--init",
    metavar="NAME",
    help="rnn, lstm, gru: draw of the recurrent weights; pytorch, normal, orthogonal, xavier "
    "or he. [default: pytorch]",
)
@click.option(
    "--gain",
    type=float,
    help="rnn, lstm, gru: scale of a draw other than pytorch. [default: 1]",
)
@click.option(
    "--input-scale",
    type=float,
    metavar="S",
    help="Draw input weights with variance S^2/I and make all biases zero; 0 removes the input "
    "(not for ssm). [default: PyTorch's weights and biases]",
)
@click.option(
    "--drive",
    metavar="NAME",
    help="Input sequence: white (noise) or zeros (not for ssm). [default: white]",
)
@click.option(
    "--forget-bias",
    callback=_number_or_word,
    metavar="B",
    help="lstm: the forget gate's bias, or chrono; gru: the update gate's bias. "
    "[default: PyTorch's]",
)
@click.option(
    "--clip",
    multiple=True,
    metavar="RULE",
    help="none, norm:c, value:c, step-norm:c, step-value:c or truncate:k; repeat it to compare "
    "rules. [default: none and step-norm:1]",
)
@click.option(
    "--lengths",
    metavar="A:B:N",
    help="N lengths from A to B = T, evenly spaced in log. [default: 13 from min(10, T) to T]",
)
@click.option("--spectrum", type=int, metavar="K", help="Measure the K largest Lyapunov exponents.")
@click.option("--dtype", metavar="NAME", help="float64 or float32. [default: float64]")
@click.option(
    "--params",
    metavar="W.npz",
    help="Your own weights of --dtype under PyTorch's names (ssm: mamba_ssm's), with a leading "
    "axis of networks or without: a .npz, .safetensors, .pt or .pth.",
)
@click.option(
    "--module",
    metavar="PREFIX",
    help="The module of --params, the checkpoint of a whole model, that is meant: encoder.rnn.",
)
@click.option(
    "--input",
    metavar="X.npy",
    help="Your own sequence of --dtype, (T, B, I) or (M, T, B, I).",
)
@click.option(
    "--from", "source", metavar="RESULT.nc", help="Measure again what a result file measured."
)
@click.option(
    "--backend", default="auto", metavar="NAME", show_default=True, help="auto, cpu or cuda."
)
@click.option(
    "--store",
    default="seqlab-results",
    metavar="DIR",
    show_default=True,
    help="Folder for the result's file.",
)
@click.option(
    "--plot", metavar="FIG", help="Draw the curves to a .pdf, .svg or .png; their data: .csv."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def run(
    arch: tuple[str, ...],
    source: str | None,
    backend: str,
    store: str,
    plot: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure how far back the gradient of the last output reaches.

    Prints the decay rate with its interval, the attenuation, the horizon and what each clip rule
    changes, beside what theory predicts, and keeps all numbers in a result file.

    Example: seqlab run --arch lstm --steps 1000
    """
    from seqlab.cli.progress import ProgressLine
    from seqlab.report import table as summary
    from seqlab.study.run import check, measure_spec

    given = {name: value for name, value in options.items() if value not in (None, ())}
    specs = _specs(arch, given) if source is None else [_repeated(source, arch, given)]
    if plot is not None:
        _check_figure("plot", plot)
    for spec in specs:
        check(spec, store)
    results = []
    with ProgressLine() as line:
        for spec in specs:
            results.append(measure_spec(spec, backend, store, partial(_say, line, spec.arch)))
    if as_json:
        documents = [result.to_json() for result in results]
        whole = documents if len(documents) > 1 else documents[0]
        text = json.dumps(whole, indent=2, allow_nan=False)
    else:
        text = summary.table(results)
    try:
        streams.say(text)
    finally:  # also where stdout is full
        if plot is not None:
            from seqlab.figures import plot_results

            plot_results(results, plot)


def _specs(arch: tuple[str, ...], given: dict[str, Any]) -> "list[Spec]":
    from seqlab.spec import kinds
    from seqlab.study.limits import require_memory

    for name in arch:
        if arch.count(name) > 1:
            raise InputError(f"arch: {name!r} is given twice; each cell once")
    return [kinds.create(require_memory, arch=name, **given) for name in arch or (None,)]


def _repeated(source: str, arch: tuple[str, ...], given: dict[str, Any]) -> "Spec":
    from seqlab.study.result import read_spec

    if beside := [*(["arch"] if arch else []), *given]:
        raise InputError(f"{beside[0]}: means nothing beside from, whose file says what to measure")
    return read_spec(source)


def _check_figure(option: str, name: str) -> None:
    from seqlab.figures import check_path
    from seqlab.study.files import require_writable

    path = check_path(name, option)
    if not path.parent.is_dir():
        raise InputError(f"{option}: {path.parent} is not a folder; make it first")
    for file in (path, path.with_suffix(".csv")):
        require_writable(option, file, 0)


def _say(line: Callable[[float, str], None], arch: str, fraction: float, what: str) -> None:
    line(fraction, f"{arch}: {what}")


@main.command(short_help="Measure all runs of a study.")
@click.argument("study", metavar="STUDY.toml")
@click.option(
    "--store",
    default="seqlab-results",
    metavar="DIR",
    show_default=True,
    help="Folder for the results, one file a run.",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Measure on the Dask cluster at tcp://HOST:PORT."
)
@click.option(
    "--backend", default="auto", metavar="NAME", show_default=True, help="auto, cpu or cuda."
)
@click.option("--dry-run", is_flag=True, help="Say what would be measured and what it takes.")
@click.option("--retry-failed", is_flag=True, help="Try again what failed before.")
def sweep(
    study: str,
    store: str,
    scheduler: str | None,
    backend: str,
    dry_run: bool,
    retry_failed: bool,
) -> None:
    """Measure every run of a study that the store does not have yet.

    To go on after an interruption, give the same command again. Exit 1 if a run failed.

    Example: seqlab sweep study.toml --store results
    """
    from seqlab.cli.progress import ProgressLine
    from seqlab.spec.study import StudySpec
    from seqlab.study import cluster
    from seqlab.study.sweep import check, preview, sweep

    spec = StudySpec.read(study)
    if dry_run:
        check(spec, Path(store), backend, elsewhere=scheduler is not None)
        for note in spec.notes:
            streams.tell(note)
        streams.say(preview(spec, Path(store)))
        return
    with ExitStack() as stack:
        client = stack.enter_context(cluster.connect(scheduler)) if scheduler else None
        line = stack.enter_context(ProgressLine())
        outcome = sweep(
            spec,
            store,
            backend=backend,
            client=client,
            retry_failed=retry_failed,
            progress=line,
            report=line.note,
        )
    streams.say(f"{spec.name}: {outcome} in {store}")
    if outcome.failed:
        sys.exit(FAILED)


@main.command(short_help="Draw a store.")
@click.argument("store", metavar="STORE")
@click.option(
    "-o", "--output", required=True, metavar="FIG", help="A .pdf, .svg or .png; its data: .csv."
)
@click.option(
    "--kind",
    default="heatmap",
    metavar="NAME",
    show_default=True,
    help="heatmap, curves, profile (lag x length of single runs) or distribution (of networks).",
)
@click.option("--value", metavar="NAME", help="What is measured. [default: log10_attenuation]")
@click.option("--x", metavar="FIELD", help="A field of the runs, length or lag.")
@click.option("--y", metavar="FIELD", help="Rows of a heatmap, colours of the other kinds.")
@click.option("--facet", metavar="FIELD", help="A panel for each value.")
@click.option(
    "--where",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Only such runs; repeat it for other fields, or for other values of one.",
)
@click.option("--width", metavar="NAME", help="single, double or slide. [default: double]")
@click.option("--title", metavar="TEXT", help="Instead of what is written there; '' for nothing.")
@click.option("--xlabel", metavar="TEXT", help="The label below.")
@click.option("--ylabel", metavar="TEXT", help="The label on the left.")
@click.option("--value-label", metavar="TEXT", help="For the colour bar, or the axis of --value.")
@click.option("--value-range", metavar="LOW:HIGH", help="Of the colours, or the axis of --value.")
@click.option("--contours", is_flag=True, help="heatmap, profile: lines at 1e-3 and 1e-6.")
@click.option("--xscale", metavar="NAME", help="curves: log or linear. [default: both]")
def plot(
    store: str, output: str, value_range: str | None, where: tuple[str, ...], **options: Any
) -> None:
    """Draw the results in a folder (or one result's file); the figure's data lie beside it.

    Fields that no option names are put where they tell most.
    Exit 1 if a file is damaged; the figure has all others.

    Example: seqlab plot results -o attenuation.pdf
    """
    from seqlab.figures import Asked, Looks, plot

    given = {name: value for name, value in options.items() if value is not None}
    fields = {
        name: given.pop(name) for name in ("kind", "value", "x", "y", "facet") if name in given
    }
    asked = Asked(**fields, where=_where(where))
    looks = Looks(**given, value_range=_range(value_range))
    _check_figure("output", output)
    with _complaints() as complain:
        plot(_Stored(Path(store), cache(complain)), output, asked, looks)


class _Stored:
    """The results in a folder or one file, read again each time they are gone through."""

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        self.path = path
        self.report = report

    def __iter__(self) -> "Iterator[Result]":
        from seqlab.study.result import Result
        from seqlab.study.store import Store

        if self.path.is_file():
            return iter([Result.read(self.path)])
        return Store(self.path).results(self.report)


def _where(words: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word in words:
        field, equals, value = word.partition("=")
        if not equals:
            raise InputError(f"where: {word!r} is not FIELD=VALUE")
        found.setdefault(field, []).append(value)
    return found


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        raise InputError(f"value_range: {text!r} is not LOW:HIGH") from None
    return low, high


@main.command(short_help="Show a store: architectures x lengths.")
@click.argument("store", metavar="STORE")
def table(store: str) -> None:
    """Show the attenuation of all results in a folder, architectures x lengths.

    Exit 1 if a file is damaged; the table has all others.
    """
    from seqlab.report import overview
    from seqlab.study import load

    with _complaints() as complain:
        streams.say(overview.table(load.load(store, complain)))


@main.command(short_help="Write a store as one tidy table.")
@click.argument("store", metavar="STORE")
@click.option(
    "-o", "--output", required=True, metavar="FILE", help="A .csv, or a .parquet with pyarrow."
)
def export(store: str, output: str) -> None:
    """Write all results in a folder as one table, a row for each run, clip rule and length.

    Exit 1 if a file is damaged; the table has all others.

    Example: seqlab export results -o tidy.csv
    """
    from seqlab.study import load

    with _complaints() as complain:
        load.export(store, output, complain)


@contextmanager
def _complaints() -> Iterator[Callable[[str], None]]:
    """What to call with a complaint that lets the command go on, and fail at its end."""
    codes: list[int] = []
    yield lambda message: codes.append(_complain(message, FAILED))
    if codes:
        sys.exit(FAILED)


@main.command(short_help="Check the numbers on this machine.")
@click.option(
    "--backend", default="auto", metavar="NAME", show_default=True, help="auto, cpu or cuda."
)
def verify(backend: str) -> None:
    """Check gradients and closed forms on this machine; exit 1 if one fails."""
    from seqlab.claims.checks import run_checks
    from seqlab.kernels.backends import resolve

    if not run_checks(_print_check, resolve(backend)):
        sys.exit(FAILED)


def _print_check(check: "Check") -> None:
    verdict = "ok" if check.passed else "FAILED"
    streams.say(
        f"{verdict:<6}  {check.name:<40}  {check.error:8.1e} (<= {check.tolerance:.0e})"
        f"  {check.seconds:5.1f} s"
    )


@main.command(short_help="Time seqlab beside PyTorch, JAX and mambapy.")
@click.argument("cases", metavar="[CASES.toml]", required=False)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="A case, or one of its jobs (CASE/JOB); may be repeated. [default: all]",
)
@click.option(
    "--out",
    default="seqlab-bench",
    metavar="DIR",
    show_default=True,
    help="Folder for the tables; what it has of other jobs stays.",
)
@click.option(
    "--peers",
    metavar="NAMES",
    help="Whom to race. [default: torch,jax,mambapy; on cuda cudnn, and our own CPU always]",
)
@click.option(
    "--backend", default="cpu", metavar="NAME", show_default=True, help="What to time: cpu or cuda."
)
def bench(
    cases: str | None, only: tuple[str, ...], out: str, peers: str | None, backend: str
) -> None:
    """Time seqlab beside its peers, and beside what this machine can do at best.

    Takes about 20 minutes; the machine should do nothing else. Peers come with
    pip install 'seqlab[peers]'. Exit 1 if a side computes something else.

    Example: seqlab bench --only study --out results
    """
    from seqlab.bench.command import bench as measure
    from seqlab.bench.peers import ON_CPU, ON_GPU
    from seqlab.bench.suite import BUILT_IN
    from seqlab.bench.suite import ON_GPU as CASES_ON_GPU
    from seqlab.kernels.backends import resolve

    chosen = resolve(backend)
    usual = ON_GPU if chosen == "cuda" else ON_CPU
    names = list(usual) if peers is None else [name for name in peers.split(",") if name]
    built_in = CASES_ON_GPU if chosen == "cuda" else BUILT_IN
    path = built_in if cases is None else Path(cases)
    outcome = measure(path, only, Path(out), names, streams.tell, chosen)
    streams.say(outcome.targets)
    if outcome.failed:
        streams.tell(f"failed: {', '.join(outcome.failed)}")
        sys.exit(FAILED)


@main.command()
def info() -> None:
    """Show versions, backends, threads, cache and memory."""
    from seqlab.bench.machine import processor
    from seqlab.host import GIB, available_memory
    from seqlab.kernels.backends import describe
    from seqlab.kernels.cpu.threads import thread_count
    from seqlab.study.result import versions

    memory = available_memory()
    rows = versions() | {f"backend {name}": state for name, state in describe().items()}
    rows |= {
        "threads": f"{thread_count()} (a thread pool; {os.cpu_count()} cores)",
        "processor": processor(),
        "memory": "not known" if memory is None else f"{memory / GIB:.1f} GiB available",
        "cache": _cache(),
    }
    for name, value in rows.items():
        streams.say(f"{name:<12}  {value}")


def _cache() -> str:
    """Where compiled code is kept, how much of it there is, and why no more can be."""
    from seqlab.kernels._cache import CACHE_DIR, NO_HOME, kept
    from seqlab.study.files import require_writable

    if CACHE_DIR is None:
        return f"none: {NO_HOME}"
    files, size = kept()
    text = f"{CACHE_DIR} ({files} files, {size / 2**20:.1f} MiB)"
    try:
        require_writable("cache", CACHE_DIR / "kernel.nbc", 2**20)
    except InputError as error:
        return f"{text}; {str(error).removeprefix('cache: ')}"
    return text
