"""Make the reference file of deep stacks with PyTorch, in float64.

Run from the folder `tests`, with PyTorch installed: `python -m reference.make_stacks`.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from naive_depth import Stack
from torch import nn

from reference import stacks

MODULES: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(0.01),
    "prelu": lambda: nn.LeakyReLU(0.25),
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


def phi(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    return torch.erf if name == "erf" else MODULES[name]()


def norm(stack: Stack, width: int) -> nn.Module:
    kind, _, groups = stack.norm.partition(":")
    if kind == "batch":
        return nn.BatchNorm1d(width, eps=stack.eps, dtype=torch.float64)
    if kind == "layer":
        return nn.LayerNorm(width, eps=stack.eps, dtype=torch.float64)
    if kind == "group":
        return nn.GroupNorm(int(groups), width, eps=stack.eps, dtype=torch.float64)
    return nn.Identity()


def block(stack: Stack, width: int, fan_in: int) -> tuple[nn.Module, Callable]:
    """The module whose parameters count, and the block's function."""
    if stack.arch == "transformer":
        layer = nn.TransformerEncoderLayer(
            width,
            stack.heads,
            4 * width,
            dropout=0.0,
            activation=stack.activation,
            layer_norm_eps=stack.eps,
            batch_first=True,
            norm_first=stack.place == "pre",
            dtype=torch.float64,
        )
        return layer, lambda h: layer(h[None])[0]
    linear = nn.Linear(fan_in, width, dtype=torch.float64)
    normed, f = norm(stack, width), phi(stack.activation)
    if stack.arch == "mlp":
        return linear, lambda h: f(normed(linear(h)))
    if stack.arch == "densenet":
        return linear, lambda h: torch.cat([h, f(normed(linear(h)))], dim=1)

    def branch(h: torch.Tensor) -> torch.Tensor:
        return f(linear(h)) if stack.outside else linear(f(h))

    if stack.place == "post":
        return linear, lambda h: normed(h + stack.alpha * branch(h))
    return linear, lambda h: h + stack.alpha * branch(normed(h))


def answers(name: str) -> dict[str, np.ndarray]:
    """PyTorch's last state, and its gradients of sum(readout * last state)."""
    stack, drawn = stacks.STACKS[name], stacks.draw(name)
    x = torch.from_numpy(drawn.x).requires_grad_()
    h, modules = x, []
    for i, params in enumerate(drawn.layers):
        fan_in = stacks.WIDTH * (i + 1) if stack.arch == "densenet" else stacks.WIDTH
        module, function = block(stack, stacks.WIDTH, fan_in)
        with torch.no_grad():
            for key, value in params.items():
                dict(module.named_parameters())[key].copy_(torch.from_numpy(value))
        h = function(h)
        modules.append(module)
    (h * torch.from_numpy(drawn.readout)).sum().backward()
    grads = [
        {key: dict(module.named_parameters())[key].grad.numpy() for key in params}
        for module, params in zip(modules, drawn.layers, strict=True)
    ]
    return stacks.flat(h.detach().numpy(), x.grad.numpy(), grads)


def main() -> None:
    kept = {f"{n}/{k}": v for n in stacks.STACKS for k, v in answers(n).items()}
    np.savez_compressed(stacks.FILE, **kept)
    size = stacks.FILE.stat().st_size / 1e6
    sys.stdout.write(f"{len(stacks.STACKS)} stacks, {len(kept)} arrays, {size:.2f} MB\n")


if __name__ == "__main__":
    main()
