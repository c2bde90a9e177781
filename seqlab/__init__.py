"""seqlab: measure how gradients vanish and explode through time and depth.

Everything public is reached from here; each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "forward": "engine.bptt",
    "backward": "engine.bptt",
    "selective_scan": "engine.selective",
    "selective_scan_backward": "engine.selective",
    "attenuation": "study.attenuation",
    "run": "study.run",
    "depth": "study.run",
    "learn": "study.run",
    "train": "study.run",
    "reach": "study.reach",
    "sweep": "study.sweep",
    "load": "study.load",
    "probe": "probes.probe",
    "tap": "probes.tap",
    "taps": "probes.tap",
    "Watch": "probes.outlets",
    "lightning_callback": "probes.lightning",
    "from_torch": "probes.layouts",
    "from_keras": "probes.layouts",
    "from_flax": "probes.layouts",
    "from_onnx": "probes.layouts",
    "InputError": "errors",
}
__all__ = ["__version__", *_HOME]


if TYPE_CHECKING:  # what checkers and editors see of `_HOME`
    from seqlab.engine.bptt import backward as backward
    from seqlab.engine.bptt import forward as forward
    from seqlab.engine.selective import selective_scan as selective_scan
    from seqlab.engine.selective import selective_scan_backward as selective_scan_backward
    from seqlab.errors import InputError as InputError
    from seqlab.probes.layouts import from_flax as from_flax
    from seqlab.probes.layouts import from_keras as from_keras
    from seqlab.probes.layouts import from_onnx as from_onnx
    from seqlab.probes.layouts import from_torch as from_torch
    from seqlab.probes.lightning import lightning_callback as lightning_callback
    from seqlab.probes.outlets import Watch as Watch
    from seqlab.probes.probe import probe as probe
    from seqlab.probes.tap import tap as tap
    from seqlab.probes.tap import taps as taps
    from seqlab.study.attenuation import attenuation as attenuation
    from seqlab.study.load import load as load
    from seqlab.study.reach import reach as reach
    from seqlab.study.run import depth as depth
    from seqlab.study.run import learn as learn
    from seqlab.study.run import run as run
    from seqlab.study.run import train as train
    from seqlab.study.sweep import sweep as sweep
else:

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            return getattr(import_module(f"seqlab.{_HOME[name]}"), name)
        raise AttributeError(f"module 'seqlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
