"""What the kernels are cut into, by the processor that they are compiled for."""

import sys
from pathlib import Path

import pytest

from seqlab.kernels import _cache, processor
from seqlab.kernels.cpu import shapes
from seqlab.kernels.processor import KINDS, Processor

KIB = 1 << 10


def of(kind: str, l2: int = 512 * KIB) -> Processor:
    """A processor of some kind."""
    return Processor(kind, *KINDS[kind][1:], l2, "of its own")


@pytest.mark.parametrize(
    ("kind", "strip", "tiles"),
    [
        ("avx512", 512, (8, 8, 8, 4)),
        ("avx2", 256, (8, 4, 4, 3)),
        ("sse", 128, (8, 4, 4, 3)),
        ("neon", 128, (8, 8, 8, 4)),
    ],
)
def test_tiles_fill_the_registers(kind: str, strip: int, tiles: tuple[int, ...]) -> None:
    """And no tile asks for more of them than there are: LLVM would move sums to memory."""
    found = shapes.shapes_for(of(kind))
    assert (found.vector, found.strip, found.tiles) == (strip // 8, strip, tiles)
    for rows, columns in enumerate(tiles, 1):
        assert rows * columns + min(rows, columns) + 1 <= of(kind).registers


def test_what_is_read_again_soon_follows_the_l2_cache() -> None:
    small, large = (shapes.shapes_for(of("avx2", size * KIB)) for size in (512, 2048))
    assert (small.small, small.team) == (64 * KIB, 64 * KIB)
    assert (large.small, large.team) == (256 * KIB, 256 * KIB)


def cache(folder: Path, level: str, size: str, sharing: str) -> None:
    """One of Linux's files of caches."""
    folder.mkdir()
    files = {"level": level, "type": "Unified", "size": size, "shared_cpu_list": sharing}
    for name, text in files.items():
        (folder / name).write_text(text + "\n", encoding="ascii")


@pytest.mark.skipif(sys.platform == "darwin", reason="reads Linux's files")
@pytest.mark.parametrize(
    ("sharing", "size", "told"),
    [
        ("0", 512, "of its own"),
        ("0,8", 256, "2 threads share one"),
        ("0-3", 128, "4 threads share"),
    ],
)
def test_the_l2_cache_is_a_thread_s_share(
    tmp_path: Path, sharing: str, size: int, told: str
) -> None:
    cache(tmp_path / "index0", "1", "32K", "0")
    cache(tmp_path / "index2", "2", "512K", sharing)
    cache(tmp_path / "index3", "3", "8192K", "0-15")
    found, how = processor._l2(tmp_path)
    assert found == size * KIB
    assert told in how


@pytest.mark.skipif(sys.platform == "darwin", reason="reads Linux's files")
def test_an_l2_cache_that_nothing_tells_of_is_assumed(tmp_path: Path) -> None:
    assert processor._l2(tmp_path) == (512 * KIB, "assumed: the system does not say")
    cache(tmp_path / "index2", "2", "much", "0")
    assert processor._l2(tmp_path)[1].startswith("assumed")


@pytest.mark.skipif(_cache.CACHE_DIR is None, reason="no cache here")
def test_code_cut_for_another_processor_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's side and the machine code must agree on the shapes, not only on the instructions."""
    keeper = _cache.KernelCache(test_tiles_fill_the_registers)
    codegen = processor.cpu_target.target_context.codegen()
    here = keeper._index_key((), codegen)
    monkeypatch.setattr(_cache, "PROCESSOR", of("avx2", 3 * KIB))
    assert keeper._index_key((), codegen) != here


def test_people_are_told_what_was_chosen_and_why() -> None:
    lines = shapes.explain(of("avx2"), shapes.shapes_for(of("avx2")))
    assert lines["vectors"] == "avx2: 16 registers of 32 bytes"
    assert lines["L2 cache"] == "512 KiB a thread, of its own"
    assert lines["tiles"].startswith("1 x 8, 2 x 4, 3 x 4, 4 x 3 vectors of sums")
    assert all(len(f"{name:<12}  {line}") <= 80 for name, line in lines.items())
