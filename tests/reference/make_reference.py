"""Make the reference files with PyTorch, in float64.

Run from the folder `tests`, with PyTorch installed: `python -m reference.make_reference`, of all
kinds or of those that are named.
"""

import sys
from functools import partial

import numpy as np
import torch

from reference import cases
from reference.modules import LRU, SLSTM, GatedDelta, MinGRU

MODULES = {
    "rnn": torch.nn.RNN,
    "lstm": torch.nn.LSTM,
    "gru": torch.nn.GRU,
    "mingru": MinGRU,
    "lru": LRU,
    "deltanet": partial(GatedDelta, keys=cases.KEYS),
    "slstm": SLSTM,
}


def answers(case: cases.Case, drawn: cases.Draw) -> dict[str, cases.Array]:
    """PyTorch's output, and its gradients of sum(output * grad_output)."""
    options = {"nonlinearity": case.activation} if case.arch == "rnn" else {}
    module = MODULES[case.arch](case.inputs, case.hidden, dtype=torch.float64, **options)
    named = {
        name.removesuffix("_l0").replace(".", "_"): parameter
        for name, parameter in module.named_parameters()
    }
    with torch.no_grad():
        for name, value in drawn.params.items():
            named[name].copy_(torch.from_numpy(value))
    x = torch.from_numpy(drawn.x).requires_grad_()
    starts = tuple(torch.from_numpy(part)[None].requires_grad_() for part in drawn.state)
    output, _ = module(x, starts if len(starts) > 1 else starts[0])
    (output * torch.from_numpy(drawn.grad_output)).sum().backward()
    params = {name: named[name].grad.numpy() for name in drawn.params}
    initial = tuple(start.grad.numpy()[0] for start in starts)
    return cases.named(output.detach().numpy(), params, x.grad.numpy(), initial)


def main() -> None:
    for kind in sys.argv[1:] or cases.KINDS:
        kept = {}
        for case in cases.cases():
            if case.kind != kind:
                continue
            drawn = cases.draw(case)
            kept[f"{case.name}/inputs"] = cases.checksum(drawn)
            for name, array in answers(case, drawn).items():
                kept[f"{case.name}/{name}"] = cases.digest(array)
        np.savez_compressed(cases.path(kind), **kept)
        sys.stdout.write(
            f"{kind}: {len(kept)} arrays, {cases.path(kind).stat().st_size / 1e6:.2f} MB\n"
        )


if __name__ == "__main__":
    main()
