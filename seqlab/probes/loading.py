"""A function in a file of one's own, FILE.py:FUNCTION, that says what is to be probed."""

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any

import seqlab
from seqlab.errors import InputError
from seqlab.probes.probe import probe
from seqlab.wording import did_you_mean, extra, one_of, refuse

_ROOT = os.path.join(os.path.dirname(seqlab.__file__), "")
_POSITIONAL = ("net", "x", "state")
# Keywords that a function may give; `progress` is its caller's.
KEYS = tuple(name for name in inspect.signature(probe).parameters if name != "progress")


@dataclass(frozen=True)
class Place:
    """A function of a file that has been read and compiled, and not run."""

    text: str
    file: str
    function: str
    code: CodeType

    def described(self, error: BaseException) -> str | None:
        """`FILE.py:LINE: ERROR: what it says`, of an error from the file or what it calls.

        LINE is the last one of the file on the error's way, or FILE.py that of a library where
        none is; None for an error of seqlab's own.
        """
        ways = traceback.walk_tb(error.__traceback__)
        lines = [(frame.f_code.co_filename, line) for frame, line in ways]
        if not lines or lines[-1][0].startswith(_ROOT):
            return None
        own = [line for line in lines if line[0] == self.file]
        file, line = (own or lines)[-1]
        return f"{os.path.relpath(file)}:{line}: {_first_line(error)}"


def find(text: str) -> Place:
    """The place FILE.py:FUNCTION; nothing of the file is run.

    Raises InputError for another spelling, for a file that cannot be read or is not Python, and
    where PyTorch is not installed.
    """
    name, _, function = text.rpartition(":")
    if not (name.endswith(".py") and function.isidentifier()):
        raise refuse("function", text, "FILE.py:FUNCTION is needed, as in model.py:make")
    try:
        with open(name, "rb") as stream:
            source = stream.read()
        file = os.path.realpath(name)
        code = compile(source, file, "exec", dont_inherit=True)
    except OSError as error:
        raise InputError(f"function: cannot read {name}: {error.strerror}") from None
    except SyntaxError as error:
        said = f"{name}:{error.lineno}: {type(error).__name__}: {error.msg}"
        raise InputError(f"function: {said}") from None
    except ValueError:  # zero bytes
        raise InputError(f"function: {name} is not Python") from None
    if find_spec("torch") is None:
        raise InputError(f"probe: PyTorch is needed and is not here; {extra('torch')}")
    return Place(text, file, function, code)


@contextmanager
def called(place: Place, seed: int) -> Iterator[dict[str, Any]]:
    """The arguments of `seqlab.probe` that the function returns: `(net, x)`, `(net, x, state)`, or
    a mapping with `net`, `x` and any of its keywords.

    In here the file is as `python FILE.py` has it, its folder the first on `sys.path` and without
    arguments, but that it is not `__main__`. PyTorch's random numbers start from `seed` before the
    file runs, and again before the function is called.

    Raises InputError where there is no such function, for what the file or the function raises, and
    for a return value that is not understood.
    """
    import torch

    with _program(place) as module:
        with _refusing(place):
            torch.manual_seed(seed)
            exec(place.code, vars(module))
        function = _function(place, module)
        with _refusing(place):
            torch.manual_seed(seed)
            returned = function()
        yield _arguments(place, returned)


@contextmanager
def _program(place: Place) -> Iterator[ModuleType]:
    folder, base = os.path.split(place.file)
    name = base.removesuffix(".py")
    while name in sys.modules:  # a file called random.py is not to stand for Python's own
        name += "_"
    module = ModuleType(name)
    module.__file__ = place.file
    argv, path = sys.argv, sys.path
    sys.argv, sys.path = [place.file], [folder, *path]
    sys.modules[name] = module  # where dataclasses and pickles look for it
    try:
        yield module
    finally:
        sys.argv, sys.path = argv, path
        sys.modules.pop(name, None)


@contextmanager
def _refusing(place: Place) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's file raises
        raise InputError(f"function: {place.described(error) or _first_line(error)}") from error


def _function(place: Place, module: ModuleType) -> Callable[[], Any]:
    own = {name: value for name, value in vars(module).items() if callable(value)}
    if place.function not in own:
        known = did_you_mean(place.function, own)
        raise refuse("function", place.text, f"its file has no such function{known}")
    found: Callable[[], Any] = own[place.function]
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise refuse("function", place.text, f"it is called without arguments: {error}") from None
    except ValueError:  # no signature is known
        pass
    return found


def _arguments(place: Place, returned: Any) -> dict[str, Any]:
    if isinstance(returned, tuple) and len(returned) in (2, 3):
        return dict(zip(_POSITIONAL, returned, strict=False))
    if not isinstance(returned, Mapping):
        what = f"{type(returned).__name__} of {len(returned)}" if _is_list(returned) else None
        raise InputError(
            f"function: {place.text} returns {what or type(returned).__name__}; (net, x), "
            "(net, x, state) or a dictionary of seqlab.probe's arguments is needed"
        )
    for key in returned:
        if key not in KEYS:
            known = did_you_mean(str(key), KEYS)
            raise refuse("function", key, f"{place.text} may return {one_of(KEYS)}{known}")
    if missing := [key for key in _POSITIONAL[:2] if key not in returned]:
        raise InputError(f"function: {place.text} returns a dictionary without {missing[0]!r}")
    return dict(returned)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _first_line(error: BaseException) -> str:
    """`ValueError: what it says`, of its first line."""
    first, *_ = [*str(error).splitlines(), ""]
    return f"{type(error).__name__}: {first}".removesuffix(": ")
