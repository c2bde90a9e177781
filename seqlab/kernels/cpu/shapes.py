"""One table of what the CPU's kernels are cut into, by vector registers and L2 cache.

A tile of sums fills the registers, a strip of weights the multiply-add units, and what is soon read
again stays in L2. Where a shape differs, sums run in another order: last bits may differ from one
kind of processor to another, never from one run or number of threads to another.
"""

from typing import NamedTuple

from seqlab.kernels.processor import PROCESSOR, Processor

SHORTEST = 32  # turns: LLVM takes a shorter loop apart before it would make vectors of it


class Shapes(NamedTuple):
    """Sizes that the kernels are made with; constants for the compiler."""

    vector: int  # bytes that one instruction works on
    tiles: tuple[int, ...]  # vectors that a product's tile of one row, two, three, four has in each
    phases: int  # vectors of sums that keep the multiply-add units busy while each waits for itself
    strip: int  # bytes of a row of weights that lie together: one row's tile, all one phase
    small: int  # bytes of weights up to which sums too go back and forth
    large: int  # bytes of weights from which few sequences share a pass over them, and a team each
    team: int  # bytes of weights, passed over by a row, that are worth a thread of a team
    scan: int  # bytes of the channels that a task of the bare selective scan has, at least
    chunk: int  # steps between the states that a diagonal cell keeps


def _columns(rows: int, registers: int, strip: int) -> int:
    """Vectors that a tile has in each row. The registers hold its sums, an entry of each row or a
    vector of each column, whichever are fewer, and one of the others; a strip of so many vectors
    falls into tiles of much the same width."""
    most = 1
    while rows * (most + 1) + min(rows, most + 1) < registers and most < strip:
        most += 1
    return -(-strip // -(-strip // most))


def shapes_for(processor: Processor) -> Shapes:
    """The table's row for a processor."""
    phases = 8  # a latency of four cycles, two multiply-adds a cycle
    return Shapes(
        vector=processor.vector,
        tiles=tuple(_columns(rows, processor.registers, phases) for rows in range(1, 5)),
        phases=phases,
        strip=phases * processor.vector,
        small=processor.l2 // 8,
        large=processor.l2,
        team=processor.l2 // 8,
        scan=4 * processor.vector,
        chunk=16,
    )


def explain(processor: Processor, shapes: Shapes) -> dict[str, str]:
    """What was chosen and why, for people: a name and a line each."""
    vectors = f"{processor.registers} registers of {processor.vector} bytes"
    tiles = ", ".join(f"{rows} x {columns}" for rows, columns in enumerate(shapes.tiles, 1))
    channels = max(SHORTEST, shapes.scan // 4)
    return {
        "vectors": f"{processor.kind}: {vectors}",
        "L2 cache": f"{processor.l2 >> 10} KiB a thread, {processor.l2_from}",
        "tiles": f"{tiles} vectors of sums: what {processor.registers} registers hold",
        "strips": f"{shapes.strip} bytes of a weight row: {shapes.phases} vectors, none waits",
        "scan": f"tasks of {channels} channels in float32, {shapes.chunk} steps at a time",
        "teams": f"from {2 * shapes.team >> 10} KiB of weights for each row: a quarter of L2",
        "sequences": f"few share a task from {shapes.large >> 10} KiB of weights on: they fill L2",
    }


SHAPES = shapes_for(PROCESSOR)
