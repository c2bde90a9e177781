"""One table of what the CPU's kernels are cut into, by vector registers and L2 cache.

A tile of sums fills the registers, a strip of weights the multiply-add units, and what is soon read
again stays in L2. Where a shape differs, sums run in another order: last bits may differ from one
kind of processor to another, never from one run or number of threads to another.
"""

from typing import NamedTuple

from seqlab.kernels.processor import PROCESSOR, Processor


class Shapes(NamedTuple):
    """Sizes that the kernels are made with; constants for the compiler."""

    vector: int  # bytes that one instruction works on
    sums: int  # vectors of sums in a tile: half of the registers, the rest hold its operands
    phases: int  # vectors of sums that keep the multiply-add units busy while each waits for itself
    strip: int  # bytes of a row of weights that lie together: one row's tile, all one phase
    small: int  # bytes of weights up to which sums too go back and forth
    team: int  # bytes of weights, passed over by a row, that are worth a thread of a team
    scan: int  # bytes of the channels that a task of the bare selective scan has, at least
    chunk: int  # steps between the states that a diagonal cell keeps


def shapes_for(processor: Processor) -> Shapes:
    """The table's row for a processor."""
    phases = 8  # a latency of four cycles, two multiply-adds a cycle
    return Shapes(
        vector=processor.vector,
        sums=processor.registers // 2,
        phases=phases,
        strip=phases * processor.vector,
        small=processor.l2 // 8,
        team=processor.l2 // 8,
        scan=4 * processor.vector,
        chunk=16,
    )


SHAPES = shapes_for(PROCESSOR)
