"""What is read off a trajectory: attenuation, Lyapunov exponents, fits, theory, and a whole run.

`measure` and `memory_bytes` load the kernels when they are first called.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqlab.numbers.variables import Measurement
    from seqlab.spec.run import RunSpec

Progress = Callable[[float, str], None]


def measure(
    spec: "RunSpec", backend: str = "auto", progress: Progress | None = None
) -> "Measurement":
    """Measure all that a spec asks for; see `seqlab.measure.protocol`."""
    from seqlab.measure import protocol

    return protocol.measure(spec, backend, progress)


def memory_bytes(spec: "RunSpec") -> int:
    """Bytes that `measure` needs at its peak, estimated from the spec alone."""
    from seqlab.measure import protocol

    return protocol.memory_bytes(spec)
