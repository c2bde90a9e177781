"""The tasks of training and their losses as the papers word them: one sequence at a time, from its
inputs alone, in plain Python. Imports nothing from seqlab.

An answer is what to say at each step that counts, {step: answer}, read off a sequence (T', I).
"""

import cmath
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Answer = dict[int, Any]


def latch(sequence: Array) -> Answer:
    first = sequence[0][0]
    assert first in (-1, 1)
    return {len(sequence) - 1: [first]}


def adding(sequence: Array) -> Answer:
    marked = [step for step, (_, mark) in enumerate(sequence) if mark == 1]
    assert all(mark in (0, 1) for _, mark in sequence)
    assert all(0 <= number < 1 for number, _ in sequence)
    assert len(marked) == 2
    assert marked[0] < len(sequence) // 2 <= marked[1]
    return {len(sequence) - 1: [sum(sequence[step][0] for step in marked)]}


def copy(sequence: Array) -> Answer:
    tokens = _tokens(sequence)
    seen, rest = tokens[:10], tokens[10:]
    assert all(token < 8 for token in seen)
    delimiter = 10 + rest.index(9)
    assert delimiter == len(tokens) - 11
    assert all(token == 8 for i, token in enumerate(rest, 10) if i != delimiter)
    answers = [8] * (delimiter + 1) + seen
    return dict(enumerate(answers))


def temporal_order(sequence: Array) -> Answer:
    tokens = _tokens(sequence)
    (first, a), (second, b) = [(i, token) for i, token in enumerate(tokens) if token < 2]
    length = len(tokens)
    assert length / 10 <= first <= 2 * length / 10
    assert 4 * length / 10 <= second <= 5 * length / 10
    return {length - 1: [(0, 0), (0, 1), (1, 0), (1, 1)].index((a, b))}


def parity(sequence: Array) -> Answer:
    odd, answers = False, {}
    for step, (bit,) in enumerate(sequence):
        assert bit in (-1, 1)
        if bit == 1:
            odd = not odd
        answers[step] = int(odd)
    return answers


ANSWERS: dict[str, Callable[[Array], Answer]] = {
    "latch": latch,
    "adding": adding,
    "copy": copy,
    "temporal-order": temporal_order,
    "parity": parity,
}


def _tokens(sequence: Array) -> list[int]:
    """Which entry is hot at each step."""
    found = []
    for row in sequence.tolist():
        assert sorted(row) == [0.0] * (len(row) - 1) + [1.0]
        found.append(row.index(1.0))
    return found


def teacher(a: Array, b: Array, c: Array, nu: float, sequence: Array) -> list[float]:
    """Outputs of h_t = A h_{t-1} + b x_t, y_t = c h_t, where the eigenvalues l of A have been moved
    to nu + (1 - nu) tanh|l|, over the root of their mean variance for white inputs."""
    values, vectors = np.linalg.eig(a)
    moved = [(nu + (1 - nu) * math.tanh(abs(l))) * cmath.rect(1, cmath.phase(l)) for l in values]  # noqa: E741
    matrix = (vectors @ np.diag(moved) @ np.linalg.inv(vectors)).real

    def outputs(inputs: list[float]) -> list[float]:
        h, found = np.zeros(len(b)), []
        for x in inputs:
            h = matrix @ h + b * x
            found.append(float(c @ h))
        return found

    steps = len(sequence)
    impulse = outputs([1.0] + [0.0] * (steps - 1))
    variances = [math.fsum(g**2 for g in impulse[: t + 1]) for t in range(steps)]
    scale = math.sqrt(math.fsum(variances) / steps)
    return [y / scale for y in outputs([float(x) for (x,) in sequence])]


def squared(y: Array, targets: Array) -> float:
    """The mean over steps and sequences of |y - target|^2, y (n, B, K)."""
    steps, sequences, outputs = y.shape
    costs = [
        math.fsum((float(y[i, j, k]) - float(targets[i, j, k])) ** 2 for k in range(outputs))
        for i in range(steps)
        for j in range(sequences)
    ]
    return math.fsum(costs) / len(costs)


def cross_entropy(y: Array, classes: Array) -> float:
    """The mean over steps and sequences of -ln of the probability of the class, y (n, B, K)."""
    steps, sequences, _ = y.shape
    costs = []
    for i in range(steps):
        for j in range(sequences):
            logits = [float(v) for v in y[i, j]]
            top = max(logits)
            total = math.log(math.fsum(math.exp(v - top) for v in logits))
            costs.append(total - (logits[classes[i, j]] - top))
    return math.fsum(costs) / len(costs)
