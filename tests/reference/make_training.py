"""Make the reference file of training loops with PyTorch, in float64.

Run from the folder `tests`, with PyTorch installed: `python -m reference.make_training`. The
gradient is clipped by its norm as Pascanu, Mikolov & Bengio 2013 write it, without the 1e-6 that
`clip_grad_norm_` adds.
"""

import sys

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_value_

from reference import training
from reference.modules import LRU, SLSTM, GatedDelta, MinGRU
from reference.training import AT, CLIPS, HIDDEN, INPUTS, MOMENTUM, RATES, STATE, Loop

Parameters = dict[str, Tensor]


def outputs(cell: str, params: Parameters, x: Tensor) -> Tensor:
    """h (T, B, H)."""
    if cell == "ssm":
        return scan(params, x)
    if cell == "mingru":
        module = MinGRU(INPUTS, HIDDEN)
        named = {
            f"{layer}.{kind}": params[f"{layer}_{kind}"]
            for layer in ("linear_z", "linear_h")
            for kind in ("weight", "bias")
        }
        first = x.new_zeros(1, x.shape[1], HIDDEN)
        return torch.func.functional_call(module, named, (x, first))[0]
    if cell == "lru":
        named = {name: p for name, p in params.items() if not name.startswith("readout")}
        first = (x.new_zeros(1, x.shape[1], HIDDEN),) * 2
        return torch.func.functional_call(LRU(INPUTS, HIDDEN), named, (x, first))[0]
    if cell == "deltanet":
        delta = GatedDelta(INPUTS, HIDDEN, STATE)
        named = {name: params[name.replace(".", "_")] for name, _ in delta.named_parameters()}
        first = x.new_zeros(1, x.shape[1], HIDDEN, STATE)
        return torch.func.functional_call(delta, named, (x, first))[0]
    if cell == "slstm":
        own = {name: p for name, p in params.items() if not name.startswith("readout")}
        first = (x.new_zeros(1, x.shape[1], HIDDEN),) * 3
        return torch.func.functional_call(SLSTM(INPUTS, HIDDEN), own, (x, first))[0]
    module = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell](INPUTS, HIDDEN).double()
    named = {f"{name}_l0": p for name, p in params.items() if not name.startswith("readout")}
    return torch.func.functional_call(module, named, (x,))[0]


def scan(params: Parameters, x: Tensor) -> Tensor:
    """The selective layer of Gu & Dao 2023, Algorithm 2, step by step."""
    state = x.new_zeros(x.shape[1], HIDDEN, STATE)
    found = []
    for u in x @ params["in_proj_weight"].T:
        low, b, c = (u @ params["x_proj_weight"].T).split([1, STATE, STATE], dim=1)
        delta = F.softplus(low @ params["dt_proj_weight"].T + params["dt_proj_bias"])
        decay = torch.exp(delta[:, :, None] * -torch.exp(params["A_log"]))
        state = decay * state + (delta * u)[:, :, None] * b[:, None]
        found.append((state * c[:, None]).sum(dim=2) + params["D"] * u)
    return torch.stack(found)


def optimiser(name: str, own: list[Tensor], rate: float, momentum: float) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(own, lr=rate, momentum=momentum)
    return {"rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam}[name](own, lr=rate)


def clip(rule: str, own: list[Tensor], threshold: float | None) -> None:
    if rule == "value":
        clip_grad_value_(own, threshold)
    elif rule == "norm":
        norm = torch.sqrt(sum((p.grad**2).sum() for p in own))
        for p in own:
            p.grad *= min(1.0, threshold / norm.item())


def trained(loop: Loop) -> tuple[np.ndarray, training.Arrays]:
    """The losses before each update, and the last parameters."""
    params = {
        name: torch.from_numpy(array).requires_grad_()
        for name, array in training.start(loop.cell).items()
    }
    own = list(params.values())
    steps = optimiser(loop.optimiser, own, RATES[loop.optimiser], MOMENTUM)
    losses = []
    for x, classes in training.batches():
        hidden = outputs(loop.cell, params, torch.from_numpy(x))[list(AT)]
        y = hidden @ params["readout_weight"].T + params["readout_bias"]
        loss = F.cross_entropy(y.flatten(0, 1), torch.from_numpy(classes).flatten())
        steps.zero_grad()
        loss.backward()
        clip(loop.clip, own, CLIPS[loop.clip])
        steps.step()
        losses.append(loss.item())
    return np.array(losses), {name: p.detach().numpy() for name, p in params.items()}


def main() -> None:
    kept = {}
    for loop in training.LOOPS:
        losses, params = trained(loop)
        kept[f"{loop.key}/loss"] = losses
        kept |= {f"{loop.key}/{name}": array for name, array in params.items()}
    np.savez_compressed(training.FILE, **kept)
    size = training.FILE.stat().st_size / 1e6
    sys.stdout.write(f"{len(training.LOOPS)} loops, {len(kept)} arrays, {size:.2f} MB\n")


if __name__ == "__main__":
    main()
