"""`seqlab probe`: somebody's own PyTorch model measured."""

from contextlib import redirect_stdout
from typing import Any

import click

from seqlab.cli import completion, options
from seqlab.cli.errors import FAILED, complain
from seqlab.cli.measuring import show
from seqlab.cli.outputs import Outputs


@click.command(short_help="Measure a PyTorch model of your own.")
@click.argument("function", metavar="FILE.py:FUNCTION", shell_complete=completion.files)
@click.option(
    "--lengths",
    metavar="LIST",
    help="Steps T of the sequences x[:T], as of seqlab run. [default: all steps of x]",
)
@click.option(
    "--every", type=options.WHOLE, metavar="N", help="Steps from lag to lag. [default: 1]"
)
@click.option(
    "--wrt",
    metavar="WHAT",
    help="What to differentiate by: state, input, layers, or the names of submodules, A,B. "
    "[default: state]",
    shell_complete=completion.words(lambda: _words("wrt")),
)
@click.option(
    "--clip",
    multiple=True,
    metavar="RULE",
    help="As of seqlab run; repeat it to compare rules. One inside the chain costs another way "
    "back. [default: none]",
    shell_complete=completion.words(lambda: _words("clip")),
)
@click.option(
    "--dtype",
    metavar="NAME",
    help="float64 or float32. [default: the model's own]",
    shell_complete=completion.words(lambda: _words("dtype")),
)
@click.option(
    "--name",
    metavar="TEXT",
    help="What tables and figures call it. [default: its class]",
)
@click.option(
    "--networks",
    type=options.WHOLE,
    metavar="M",
    help="Copies of the model to draw with the function's `reset`. [default: the model as it is]",
)
@click.option(
    "--seed",
    type=options.WHOLE,
    default=0,
    metavar="S",
    show_default=True,
    help="Of PyTorch's random numbers, before FUNCTION is called.",
)
@options.of_outputs()
def probe(function: str, seed: int, **given: Any) -> None:
    """Measure how far back the gradient of a PyTorch model's last output reaches.

    FUNCTION takes no arguments and returns (net, x) or (net, x, state), as seqlab.probe takes
    them, or a dictionary of its arguments: net, x and whatever else, such as loss, readout or
    reset. Options go before what it says.

    Prints the decay rate, the attenuation, the horizon and what each clip rule changes, and keeps
    all numbers in a result file. What FILE.py prints goes to stderr.

    Example: seqlab probe model.py:make --lengths 10,100,1000
    """
    import sys
    from pathlib import Path

    from seqlab.errors import InputError
    from seqlab.probes import loading
    from seqlab.probes.several import probed
    from seqlab.study.files import require_writable

    outputs = Outputs.taken(given)
    seed, wanted = _parsed(seed, given)
    outputs.check()
    if outputs.store is not None:
        require_writable("store", Path(outputs.store) / "result.nc", 0)
    place = loading.find(function)
    try:
        with redirect_stdout(sys.stderr), outputs.line() as line:
            line(0.0, f"{place.function}: loading")
            with loading.called(place, seed) as said:
                result = probed(
                    progress=lambda fraction, what: line(fraction, f"{place.function}: {what}"),
                    **{**said, **wanted},
                )
    except (InputError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's model raises
        if (told := place.described(error)) is None:
            raise
        sys.exit(complain(told, FAILED))
    kept = result if outputs.store is None else result.write(outputs.store)
    show([kept], outputs, parts=True)


def _words(option: str) -> tuple[str, ...]:
    """The words that an option takes, or that its values begin with."""
    from seqlab.probes.refusals import WITH_RESPECT_TO
    from seqlab.spec.fields import words_of
    from seqlab.spec.table import TABLE

    return tuple(WITH_RESPECT_TO) if option == "wrt" else words_of(TABLE[option].parse)


def _parsed(seed: int, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The seed, and the arguments of `seqlab.probe` that options gave. Raises InputError."""
    from seqlab.probes.ensembles import dtype_named
    from seqlab.probes.refusals import WITH_RESPECT_TO
    from seqlab.spec.fields import clip_rules, lengths, whole
    from seqlab.spec.probed import PROBED_TABLE
    from seqlab.wording import one_of, refuse

    def wrt(name: str, value: str) -> str | list[str]:
        names = [part.strip() for part in value.split(",")]
        if not all(names):
            allowed = one_of([*WITH_RESPECT_TO, "names of submodules with commas between"])
            raise refuse(name, value, allowed)
        return value if value in WITH_RESPECT_TO else names

    parsers = {
        "lengths": lengths,
        "every": whole(1),
        "wrt": wrt,
        "clip": clip_rules,
        "dtype": lambda _, value: dtype_named(value),
        "name": PROBED_TABLE["name"].parse,
        "networks": whole(1),
    }
    known = {name: value for name, value in given.items() if value not in (None, ())}
    wanted = {name: parsers[name](name, value) for name, value in known.items()}
    return whole(0, 2**63 - 1)("seed", seed), wanted
