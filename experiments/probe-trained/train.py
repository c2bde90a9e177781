"""Trains two-layer LSTMs to keep a number, or a bit, and probes them before and after.

`python experiments/probe-trained/train.py DIR` keeps the results in two stores, DIR/loss and
DIR/readout, by what is differentiated, and writes seeds.csv beside itself: what each network has
learned, log10 of its gradient MARKED steps after the start, and the horizon (none: not within the
length).
"""

import copy
import csv
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import seqlab
from seqlab.study.attenuation import Attenuation

SEEDS = range(5)
MARKED = 10  # the mark is at one of so many first steps
STEPS = 100  # of the longest sequences that are trained on
PROBED = [STEPS, 400]
BATCH = 32
LATE = 500  # updates on the longest sequences, at a tenth of the rate
MOST = 6000  # updates in all
COLUMNS = (
    *("network", "seed", "updates", "steps", "test_loss", "right_signs"),
    *("log10_loss", "horizon_loss", "log10_readout", "horizon_readout"),
)

Loss = Callable[[Tensor, Tensor], Tensor]
Pair = tuple[Tensor, Tensor]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2, 64, num_layers=2, batch_first=True)
        self.head = nn.Linear(64, 1)

    def forward(self, x: Tensor, state: Pair | None = None) -> tuple[Tensor, Pair]:
        y, state = self.rnn(x, state)
        return self.head(y), state


class Task(NamedTuple):
    """`enough` is the running loss below which sequences become longer."""

    loss: Loss
    enough: float
    bits: bool


def of_number(y: Tensor, kept: Tensor) -> Tensor:
    return F.mse_loss(y, kept)


def of_bit(y: Tensor, kept: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(y, (kept > 0).to(y))


TASKS = {"number": Task(of_number, 0.01, bits=False), "bit": Task(of_bit, 0.05, bits=True)}


def sequences(count: int, steps: int, task: Task, dice: torch.Generator) -> Pair:
    """Numbers from -1 to 1 beside a mark at one of the first ten, (count, steps, 2), and the marked
    number, (count, 1); of a bit it is -1 or 1."""
    numbers = torch.rand(count, steps, generator=dice) * 2 - 1
    at = torch.randint(MARKED, (count, 1), generator=dice)
    kept = numbers.gather(1, at)
    if task.bits:
        kept = kept.sign()
    marks = torch.zeros_like(numbers).scatter(1, at, 1.0)
    return torch.stack([numbers.scatter(1, at, kept), marks], dim=2), kept


def train(net: Net, task: Task, seed: int) -> int:
    """Adam on sequences of 10 steps first, a third longer whenever they are learned; the number of
    updates. Raises RuntimeError where the longest are not reached."""
    dice = torch.Generator().manual_seed(1000 + seed)
    adam = torch.optim.Adam(net.parameters(), lr=3e-3)
    steps, running, left = 10, 1.0, LATE
    for update in range(MOST):
        x, kept = sequences(BATCH, steps, task, dice)
        loss = task.loss(net(x)[0][:, -1], kept)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        running += 0.02 * (loss.item() - running)
        if steps == STEPS:
            left -= 1
            if not left:
                return update + 1
        elif running < task.enough:
            steps, running = min(STEPS, steps * 4 // 3), 1.0
            if steps == STEPS:
                adam.param_groups[0]["lr"] = 3e-4
    raise RuntimeError(f"{steps} steps after {MOST} updates, loss {running:.2g}")


def tested(net: Net, task: Task, data: Pair) -> list[tuple[float, float]]:
    """The loss, and the share of right signs, at the end of each probed length."""
    x, kept = data
    with torch.no_grad():
        ends = net(x)[0][:, [steps - 1 for steps in PROBED]]
    return [
        (task.loss(y, kept).item(), ((y > 0) == (kept > 0)).float().mean().item())
        for y in ends.unbind(1)
    ]


def reach(curve: Attenuation, seed: int, row: int) -> tuple[float, int | None]:
    """Decades where all marks have just been seen, and the first lag below 1e-3."""
    log_norm = curve.log_norm[seed, row, : PROBED[row] + 1]
    decades = (log_norm - log_norm[0]) / math.log(10)
    below = np.flatnonzero(decades < -3)
    return float(decades[-1 - MARKED]), int(below[0]) if below.size else None


def probed(name: str, nets: list[Net], task: Task, data: Pair, store: Path) -> list[Attenuation]:
    """Of the loss, and of a random readout of what the LSTM puts out."""
    x, kept = data[0], data[1].double()
    asked: dict[str, Any] = {"name": name, "time": 1, "lengths": PROBED, "dtype": "float64"}
    found = [
        seqlab.probe(nets, x, loss=lambda y: task.loss(y, kept), **asked),
        seqlab.probe([net.rnn for net in nets], x, **asked),
    ]
    for curve, end in zip(found, ("loss", "readout"), strict=True):
        curve.save(store / end)
    return found


def main(store: Path) -> None:
    torch.set_num_threads(1)
    drawn = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        drawn.append(Net())
    with open(Path(__file__).parent / "seeds.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)

        def write(name: str, nets: list[Net], task: Task, updates: list[int]) -> None:
            dice = torch.Generator().manual_seed(0)  # of data that no network has been trained on
            test = sequences(1000, max(PROBED), task, dice)
            curves = probed(name, nets, task, sequences(BATCH, max(PROBED), task, dice), store)
            for seed, net in zip(SEEDS, nets, strict=True):
                for row, learned in enumerate(tested(net, task, test)):
                    reached = [reach(curve, seed, row) for curve in curves]
                    values = (*learned, *reached[0], *reached[1])
                    shown = [f"{v:.4g}" if isinstance(v, float) else v for v in values]
                    writer.writerow([name, seed, updates[seed], PROBED[row], *shown])

        write("before training", drawn, TASKS["number"], [0] * len(drawn))
        for name, task in TASKS.items():
            nets = copy.deepcopy(drawn)
            updates = [train(net, task, seed) for seed, net in zip(SEEDS, nets, strict=True)]
            write(f"keeps a {name}", nets, task, updates)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
