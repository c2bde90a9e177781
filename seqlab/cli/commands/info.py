"""`seqlab info`: what runs here."""

import os
from typing import Any

import click

from seqlab.cli import options, streams
from seqlab.errors import InputError


@click.command()
@options.as_json("Print JSON instead of the lines.")
def info(as_json: bool) -> None:
    """Show versions, backends, threads, memory, what the kernels are cut into, and the cache."""
    import json

    found = _found()
    if as_json:
        streams.write_out(json.dumps(found, indent=2, allow_nan=False))
        return
    for name, value in _lines(found).items():
        streams.write_out(f"{name:<12}  {value}")


def _found() -> dict[str, Any]:
    """The document that `--json` prints; None for what is not known or not there."""
    from seqlab.bench.machine import processor
    from seqlab.host import available_memory
    from seqlab.kernels.backends import describe
    from seqlab.kernels.cpu.shapes import SHAPES, explain
    from seqlab.kernels.cpu.threads import thread_count
    from seqlab.kernels.processor import PROCESSOR
    from seqlab.study.result import versions

    return {
        "versions": versions(),
        "backends": describe(),
        "threads": thread_count(),
        "cores": os.cpu_count(),
        "processor": processor(),
        "kernels": explain(PROCESSOR, SHAPES),
        "memory_bytes": available_memory(),
        "cache": _cache(),
    }


def _cache() -> dict[str, Any]:
    """Where compiled code is kept, how much of it there is, and why no more can be."""
    from seqlab.kernels._cache import CACHE_DIR, NO_HOME, kept
    from seqlab.study.files import require_writable

    if CACHE_DIR is None:
        return {"folder": None, "files": 0, "bytes": 0, "refused": NO_HOME}
    files, size = kept()
    refused = None
    try:
        require_writable("cache", CACHE_DIR / "kernel.nbc", 2**20)
    except InputError as error:
        refused = str(error).removeprefix("cache: ")
    return {"folder": str(CACHE_DIR), "files": files, "bytes": size, "refused": refused}


def _lines(found: dict[str, Any]) -> dict[str, str]:
    """The same as a terminal shows it."""
    from seqlab.host import GIB

    memory, cache = found["memory_bytes"], found["cache"]
    if cache["folder"] is None:
        told = f"none: {cache['refused']}"
    else:
        told = f"{cache['folder']} ({cache['files']} files, {cache['bytes'] / 2**20:.1f} MiB)"
        told += f"; {cache['refused']}" if cache["refused"] else ""
    return {
        **found["versions"],
        **{f"backend {name}": state for name, state in found["backends"].items()},
        "threads": f"{found['threads']} (a thread pool; {found['cores']} cores)",
        "processor": found["processor"],
        **found["kernels"],
        "memory": "not known" if memory is None else f"{memory / GIB:.1f} GiB available",
        "cache": told,
    }
