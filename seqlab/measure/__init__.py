"""What is read off a trajectory: attenuation, Lyapunov exponents, fits, theory, and a whole run.

`measure` loads the kernels when it is first called.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqlab.numbers.variables import Measurement
    from seqlab.spec.kinds import Progress
    from seqlab.spec.run import RunSpec


def measure(
    spec: "RunSpec", backend: str = "auto", progress: "Progress | None" = None
) -> "Measurement":
    """Measure all that a spec asks for; see `seqlab.measure.protocol`."""
    from seqlab.measure import protocol

    return protocol.measure(spec, backend, progress)
