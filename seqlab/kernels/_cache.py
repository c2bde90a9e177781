"""Compiled code on the disk, from one process to the next, in the files of Numba's own cache.

Beyond what Numba does, every file ends in a checksum and says what it was compiled for. One that is
empty, short or full of zeros, as a power cut leaves it, is compiled again and replaced: as machine
code it could do anything. A cache that cannot be written costs time and no result: that is said
once, and the process goes on with what it has compiled itself.
"""

import hashlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import llvmlite
import numba
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    UserProvidedCacheLocator,
)

from seqlab.kernels.processor import PROCESSOR

PACKAGE = Path(__file__).resolve().parent.parent
_SEAL = hashlib.sha256().digest_size
_log = logging.getLogger("seqlab")  # without a handler: the bare line on stderr
_why_not: str | None = None  # code is not kept any more


def _source_hash(root: Path) -> str:
    """A key of the source of kernels in the package at `root`, and of what compiles it.

    Numba notices an edit in the kernel's own file only and would serve stale code after an edit
    in one that it calls. Every byte counts: times and sizes, which an edit may leave as they were,
    would be no faster to read (2 ms).
    """
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for folder in ("cells", "kernels", "layers"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _home() -> Path | None:
    """Where compiled code lives: NUMBA_CACHE_DIR, or the user's own cache directory if there is
    one: in a container a user may have no home, and no name."""
    if asked := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(asked)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", tempfile.gettempdir())) / "seqlab" / "cache"
    if sys.platform != "darwin" and (asked := os.environ.get("XDG_CACHE_HOME")):
        return Path(asked) / "seqlab"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "seqlab"


def _directory() -> Path | None:
    home = _home()
    # Absolute: the process may change its working directory before it compiles.
    return None if home is None else Path(os.path.abspath(home), _source_hash(PACKAGE))


CACHE_DIR = _directory()
NO_HOME = "there is no home directory; NUMBA_CACHE_DIR may name a folder"


def compiled_before() -> bool:
    """Whether some kernel of this very source is in the cache already."""
    return CACHE_DIR is not None and any(CACHE_DIR.rglob("*.nbc"))


def kept() -> tuple[int, int]:
    """Files in the cache, and their bytes."""
    sizes = []
    for path in CACHE_DIR.rglob("*.nb[ci]") if CACHE_DIR is not None else ():
        try:
            sizes.append(path.stat().st_size)
        except OSError:  # another process has just replaced it
            continue
    return len(sizes), sum(sizes)


def _sound(path: str) -> bool:
    try:
        content = Path(path).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-_SEAL]).digest() == content[-_SEAL:]


def _unpickled(path: str, load: Callable[[], Any]) -> Any:
    """What load() gives of a sound file; None where there is none."""
    try:
        return load() if _sound(path) else None
    except MemoryError:  # compiling takes more yet
        raise
    except Exception:  # classes of another installation may be anywhere
        return None


class _Files(IndexDataCacheFile):
    """Numba's index and data files of one kernel, sealed. What is not sound is as if not there."""

    def save(self, key: Any, data: Any) -> None:
        # Two processes that begin an index at the same time give one name to different data.
        super().save(key, (key, data))

    def load(self, key: Any) -> Any:
        found = super().load(key)
        return None if found is None or found[0] != key else found[1]

    def _load_index(self) -> Any:
        return _unpickled(self._index_path, super()._load_index) or {}

    def _load_data(self, name: str) -> Any:
        return _unpickled(self._data_path(name), partial(super()._load_data, name))

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[BinaryIO]:
        with super()._open_for_write(filepath) as file:
            content = io.BytesIO()
            yield content
            file.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest())


class _Place(UserProvidedCacheLocator):
    """The folder of a source file in CACHE_DIR, looked for when there is something to write."""

    def __init__(self, function: Callable, source: str) -> None:
        super().__init__(function, source)
        if CACHE_DIR is not None:
            self._cache_path = str(CACHE_DIR / self.get_suitable_cache_subpath(source))

    @classmethod
    def from_function(cls, function: Callable, source: str) -> "_Place":
        return cls(function, source)


class _Compiled(CompileResultCacheImpl):
    def __init__(self, function: Callable) -> None:
        self._locator_classes = [_Place]
        super().__init__(function)

    def reduce(self, data: Any) -> Any:
        """What is pickled of code: no environments of the functions within, which nothing reads and
        whose modules would be loaded with them."""
        *needed, _ = super().reduce(data)
        return (*needed, ())


class KernelCache(FunctionCache):
    """The cache of one kernel: what Numba's dispatcher asks before it compiles, and tells after."""

    _impl_class = _Compiled

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, stamp)

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        """What tells a kernel's machine codes apart.

        Not what a kernel closes over, as Numba has it: that is in its name, and pickled functions
        differ from process to process. CACHE_DIR stands for all source, PROCESSOR for the shapes
        that it is compiled with.
        """
        return signature, codegen.magic_tuple(), PROCESSOR[:4], self._py_func.__qualname__

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The code compiled before for a signature; None where there is none that is sound.

        Numba would first load all that it knows to compile, which code that is there does not need:
        half of a short run's start.
        """
        found = None if CACHE_DIR is None else self._load_overload(signature, target)
        if found is None and _acts and self._can_keep():
            _acts.pop()()
        return found

    def _can_keep(self) -> bool:
        if CACHE_DIR is None or _why_not is not None:
            return False
        try:
            self._impl.locator.ensure_cache_path()
        except OSError:  # said when there is code to keep
            return False
        return True

    def save_overload(self, signature: Any, code: Any) -> None:
        """Keep code for the next process, if the cache can be written."""
        if CACHE_DIR is None:
            _go_on_without(NO_HOME)
        elif _why_not is None:
            try:
                super().save_overload(signature, code)
            except OSError as error:
                _go_on_without(f"cannot write {CACHE_DIR}: {error.strerror or error}")


_acts: list[Callable[[], None]] = []


@contextmanager
def when_missing(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` once within this block, as soon as a kernel is looked for in the cache that is not
    there and can be kept there."""
    _acts.append(act)
    try:
        yield
    finally:
        if act in _acts:
            _acts.remove(act)


def _go_on_without(why: str) -> None:
    """Keep no more code, and say so the first time."""
    global _why_not
    if _why_not is None:
        _why_not = why
        _log.warning("seqlab: note: compiled code is not kept, each start compiles again: %s", why)
