"""PyTorch as a probe needs it, and as it was before."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def quiet(modules: Sequence[Any], x: Any) -> Iterator[None]:
    """One thread, gradients on, and a random state that is put back, whatever happens within.

    Two threads busy with one small step were 50 times slower than one. cuDNN goes back through
    recurrent modules in training mode only: in eval mode it is switched off.
    """
    import torch

    threads = torch.get_num_threads()
    with ExitStack() as restored:
        restored.callback(torch.set_num_threads, threads)
        torch.set_num_threads(1)
        gpus = [x.device.index] if x.device.type == "cuda" else []
        restored.enter_context(torch.random.fork_rng(devices=gpus))
        restored.enter_context(torch.inference_mode(False))
        restored.enter_context(torch.enable_grad())
        if gpus and not (modules and all(module.training for module in modules)):
            restored.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield
