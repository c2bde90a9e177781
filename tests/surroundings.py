"""What a probe must leave as it was: PyTorch's settings, and all that a module holds."""

from typing import Any


def surroundings(net: Any) -> Any:
    import torch

    return (
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.backends.cudnn.enabled,
        [module.training for module in net.modules()],
        [
            (p.requires_grad, None if p.grad is None else p.grad.tolist(), p.tolist())
            for p in net.parameters()
        ],
        [buffer.tolist() for buffer in net.buffers()],
        [
            [len(hooks) for name, hooks in vars(module).items() if name.endswith("_hooks")]
            for module in net.modules()
        ],
    )
