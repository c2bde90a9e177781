"""seqlab: measure how gradients vanish and explode through time and depth.

Everything public is reached from here; each name is imported when it is first used.
"""

from importlib import import_module
from typing import Any

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


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"seqlab.{_HOME[name]}"), name)
    raise AttributeError(f"module 'seqlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
