"""Make the reference file of optimisers with PyTorch, in float64.

Run from the folder `tests`, with PyTorch installed: `python -m reference.make_optimisers`.
"""

import sys

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from reference import optimisers
from reference.optimisers import RATES, SHAPES, UPDATES, Arrays, Loop


def optimiser(loop: Loop, parameters: list[torch.Tensor], rate: float) -> torch.optim.Optimizer:
    if loop.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=loop.momentum)
    if loop.optimiser == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=rate)
    return torch.optim.Adam(parameters, lr=rate)


def trained(loop: Loop, network: int) -> Arrays:
    """One network's parameters after each update, (updates, ...)."""
    parameters = {
        name: torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        for name, shape in SHAPES.items()
    }
    steps = optimiser(loop, list(parameters.values()), RATES[network])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(steps, T_max=UPDATES)
    found: dict[str, list[np.ndarray]] = {name: [] for name in SHAPES}
    for gradients in optimisers.gradients():
        for name, x in parameters.items():
            x.grad = torch.from_numpy(gradients[name][network].copy())
        if loop.clip == "norm":
            clip_grad_norm_(parameters.values(), loop.threshold)
        elif loop.clip == "value":
            clip_grad_value_(parameters.values(), loop.threshold)
        steps.step()
        if loop.schedule == "cosine":
            schedule.step()
        for name, x in parameters.items():
            found[name].append(x.detach().numpy().copy())
    return {name: np.stack(values) for name, values in found.items()}


def main() -> None:
    kept = {}
    for key, loop in optimisers.LOOPS.items():
        networks = [trained(loop, network) for network in range(len(RATES))]
        for name in SHAPES:
            kept[f"{key}/{name}"] = np.stack([found[name] for found in networks], axis=1)
    np.savez_compressed(optimisers.FILE, **kept)
    size = optimisers.FILE.stat().st_size / 1e6
    sys.stdout.write(f"{len(optimisers.LOOPS)} loops, {len(kept)} arrays, {size:.2f} MB\n")


if __name__ == "__main__":
    main()
