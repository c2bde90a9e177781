"""Make the reference file of training loops of deep stacks with PyTorch, in float64.

Run from the folder `tests`, with PyTorch installed: `python -m reference.make_trained_stacks`. The
scale and shift of PyTorch's norms are not trained.
"""

import sys

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference import trained_stacks
from reference.make_stacks import block
from reference.make_training import clip, optimiser
from reference.trained_stacks import CLIPS, MOMENTUM, RATES, STACKS, WIDTH, Loop


def trained(loop: Loop) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The losses before each update, and the last parameters."""
    stack, (layers, drawn_head) = STACKS[loop.stack], trained_stacks.start(loop.stack)
    modules, params = [], {}
    for index, layer in enumerate(layers):
        fan_in = WIDTH * (index + 1) if stack.arch == "densenet" else WIDTH
        module, function = block(stack, WIDTH, fan_in)
        modules.append(function)
        own = dict(module.named_parameters())
        for name, array in layer.items():
            own[name].data = torch.from_numpy(array.copy())
            params[f"{index}.{name}"] = own[name]
    head = params["head"] = torch.from_numpy(drawn_head.copy()).requires_grad_()
    own = list(params.values())
    steps = optimiser(loop.optimiser, own, RATES[loop.optimiser], MOMENTUM)
    losses = []
    for x, classes in trained_stacks.batches(loop.stack):
        y = _features(stack.arch, modules, torch.from_numpy(x)) @ head
        loss = F.cross_entropy(y, torch.from_numpy(classes))
        steps.zero_grad()
        loss.backward()
        clip(loop.clip, own, CLIPS[loop.clip])
        steps.step()
        losses.append(loss.item())
    return np.array(losses), {name: p.detach().numpy() for name, p in params.items()}


def _features(arch: str, modules: list[nn.Module], x: Tensor) -> Tensor:
    """What the head reads, (B, features)."""

    def through(h: Tensor) -> Tensor:
        for module in modules:
            h = module(h)
        return h

    if arch == "transformer":
        return torch.stack([through(one).mean(dim=0) for one in x.transpose(0, 1)])
    return through(x[0])


def main() -> None:
    kept = {}
    for loop in trained_stacks.LOOPS:
        losses, params = trained(loop)
        kept[f"{loop.key}/loss"] = losses
        kept |= {f"{loop.key}/{name}": array for name, array in params.items()}
    np.savez_compressed(trained_stacks.FILE, **kept)
    size = trained_stacks.FILE.stat().st_size / 1e6
    sys.stdout.write(f"{len(trained_stacks.LOOPS)} loops, {len(kept)} arrays, {size:.2f} MB\n")


if __name__ == "__main__":
    main()
