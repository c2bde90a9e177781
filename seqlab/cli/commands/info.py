"""`seqlab info`: what runs here."""

import os

import click

from seqlab.cli import streams
from seqlab.errors import InputError


@click.command()
def info() -> None:
    """Show versions, backends, threads, memory, what the kernels are cut into, and the cache."""
    from seqlab.bench.machine import processor
    from seqlab.host import GIB, available_memory
    from seqlab.kernels.backends import describe
    from seqlab.kernels.cpu.shapes import SHAPES, explain
    from seqlab.kernels.cpu.threads import thread_count
    from seqlab.kernels.processor import PROCESSOR
    from seqlab.study.result import versions

    memory = available_memory()
    rows = versions() | {f"backend {name}": state for name, state in describe().items()}
    rows |= {
        "threads": f"{thread_count()} (a thread pool; {os.cpu_count()} cores)",
        "processor": processor(),
        **explain(PROCESSOR, SHAPES),
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
