"""The tasks that networks are trained on, one row each.

Steps are counted from 0. Sequences are drawn without a loop over steps or sequences, for this is
done at every update.
"""

import math
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from seqlab.tasks.task import Argument, Batch, Task
from seqlab.wording import did_you_mean, one_of, refuse

NOISE = 0.5  # its standard deviation in latch
SYMBOLS, COPIED = 8, 10  # of copy: kinds, and how many of them a sequence holds
DISTRACTORS = 4  # kinds in temporal-order, besides A and B
UNITS = 10  # of a teacher
CLASSES = 4  # that a teacher sorts inputs into

Rng = np.random.Generator


def latch(rng: Rng, length: int, sequences: int) -> Batch:
    """A bit, +1 or -1, at step 0, then normal noise: the last step's answer is the bit.

    x (T, B, 1), target (1, B, 1), squared error; an answer of 0 costs 1. The bit of Bengio, Simard
    & Frasconi 1994, given and asked for as a number, so that the loss is a share of its variance.
    """
    bits = _signs(rng.integers(2, size=sequences))
    x = NOISE * rng.standard_normal((length, sequences, 1))
    x[0, :, 0] = bits
    return Batch(x, bits[np.newaxis, :, np.newaxis], _last(length))


def adding(rng: Rng, length: int, sequences: int) -> Batch:
    """Numbers uniform in [0, 1), two of them marked, one in each half: the last step's answer is
    their sum.

    x (T, B, 2) has the numbers and then the marks, 0 or 1; target (1, B, 1), squared error. The sum
    has variance 1/6: what an answer of 1 costs. The adding problem of Hochreiter & Schmidhuber
    1997, section 5.4, without its end marks and with a fixed length, as in Le, Jaitly & Hinton
    2015, section 4.1; the halves, [0, T/2) and [T/2, T), are those of Arjovsky, Shah & Bengio 2016,
    section 4.2. (The released code of Bai, Kolter & Koltun 2018 draws the two marks anywhere.)
    """
    x = np.zeros((length, sequences, 2))
    x[..., 0] = rng.random((length, sequences))
    half, each = length // 2, np.arange(sequences)
    total = np.zeros(sequences)
    for first, steps in ((0, half), (half, length - half)):
        marked = first + rng.integers(steps, size=sequences)
        x[marked, each, 1] = 1
        total += x[marked, each, 0]
    return Batch(x, total[np.newaxis, :, np.newaxis], _last(length))


def copy(rng: Rng, length: int, sequences: int) -> Batch:
    """Ten symbols of eight kinds, blanks, a delimiter at step T + 9, and ten more steps in which
    the symbols are asked for in their order; at the T + 10 steps before, the answer is a blank.

    x (T + 20, B, 10), one-hot: symbols 0 to 7, blank, delimiter; classes (T + 20, B), symbols and
    blank; the cross-entropy is a mean over all steps. Whoever tells the steps and remembers nothing
    pays 10 ln 8/(T + 20). Hochreiter & Schmidhuber's memory task in the form of Arjovsky, Shah &
    Bengio 2016, section 4.1: of the T steps between, T - 1 are blanks and the last the delimiter.
    """
    blank, delimiter = SYMBOLS, SYMBOLS + 1
    symbols = rng.integers(SYMBOLS, size=(COPIED, sequences))
    tokens = np.full((length + 2 * COPIED, sequences), blank)
    classes = tokens.copy()
    tokens[:COPIED], classes[-COPIED:] = symbols, symbols
    tokens[length + COPIED - 1] = delimiter
    return Batch(_one_hot(tokens, SYMBOLS + 2), classes, np.arange(len(tokens)))


def temporal_order(rng: Rng, length: int, sequences: int) -> Batch:
    """Symbols of four kinds that mean nothing, but for two, A or B each, at a step in [T/10, 2T/10]
    and one in [4T/10, 5T/10]: the last step's answer is AA, AB, BA or BB.

    x (T, B, 6), one-hot, A and B first; classes (1, B), twice the first plus the second (B is 1);
    cross-entropy, ln 4 without a look. Hochreiter & Schmidhuber 1997, section 5.6, in the form of
    Pascanu, Mikolov & Bengio 2013, whose intervals are taken with both ends.
    """
    tokens = 2 + rng.integers(DISTRACTORS, size=(length, sequences))
    relevant = rng.integers(2, size=(2, sequences))
    for kind, (first, last) in zip(relevant, ((1, 2), (4, 5)), strict=True):
        steps = rng.integers(-(-first * length // 10), last * length // 10 + 1, size=sequences)
        tokens[steps, np.arange(sequences)] = kind
    classes = 2 * relevant[:1] + relevant[1:]
    return Batch(_one_hot(tokens, 2 + DISTRACTORS), classes, _last(length))


def parity(rng: Rng, length: int, sequences: int) -> Batch:
    """Bits, +1 for a one and -1 for a zero: every step's answer is whether the ones so far are odd.

    x (T, B, 1), classes (T, B), 0 for even; cross-entropy, ln 2 without a look, and at every step
    without any one of the bits until then. Each sequence so is one of every length up to T, where
    Grazzi et al. 2025 draw their lengths (3 to 40 to train on, 40 to 256 to test). Two classes and
    not a sum of squares, so that the share of right answers is its outcome.
    """
    bits = rng.integers(2, size=(length, sequences))
    classes = bits.cumsum(axis=0) % 2
    return Batch(_signs(bits)[..., np.newaxis], classes, np.arange(length))


def teacher(rng: Rng, length: int, sequences: int, response: NDArray) -> Batch:
    """White noise, and at every step the output of a linear network that has seen it:
    y_t = sum over k of g_k x_{t-k}, with the `impulse_response` g (T,).

    x (T, B, 1), targets (T, B, 1); squared error, 1 for an answer of 0.
    """
    from scipy import fft  # it takes as long to load as a short run takes

    x = rng.standard_normal((length, sequences, 1))
    room = fft.next_fast_len(2 * length - 1, real=True)  # none for the end to wrap around to
    spectrum = fft.rfft(x, room, axis=0) * fft.rfft(response, room)[:, np.newaxis, np.newaxis]
    return Batch(x, fft.irfft(spectrum, room, axis=0)[:length], np.arange(length))


def impulse_response(rng: Rng, length: int, nu: float) -> NDArray:
    """The answer (T,) of a random linear network, h_t = A h_{t-1} + b x_t, y_t = c h_t, to a single
    one.

    A is 10 x 10, normal with variance 1/10, its eigenvalues l then moved to nu + (1 - nu) tanh|l|
    at their angle; b and c are normal (Zucchet & Orvieto 2024, their teacher, without its direct
    path from x_t to y_t, for which nothing need be remembered). It forgets within some 1/(1 - nu)
    steps: nu, not the length, says how long a memory is asked for. The state begins at zero, and
    outputs are scaled to have variance 1 on the mean of the T steps.
    """
    a = rng.standard_normal((UNITS, UNITS)) / math.sqrt(UNITS)
    b, c = rng.standard_normal((2, UNITS))
    eigenvalues, vectors = np.linalg.eig(a)
    moved = (nu + (1 - nu) * np.tanh(np.abs(eigenvalues))) * np.exp(1j * np.angle(eigenvalues))
    weights = (c @ vectors) * np.linalg.solve(vectors, b)
    response = (weights * moved ** np.arange(length)[:, np.newaxis]).sum(axis=1).real
    return response / math.sqrt(np.cumsum(np.square(response)).mean())


def classes(rng: Rng, length: int, sequences: int, teacher: NDArray) -> Batch:
    """Normal numbers, in the class whose row of the `teacher` (CLASSES, I) has the largest product
    with them, or of a sequence with the mean of its steps.

    x (T, B, I), target (1, B); cross-entropy.
    """
    x = rng.standard_normal((length, sequences, teacher.shape[1]))
    scores = np.einsum("bi,ki->bk", x.mean(axis=0), teacher)  # not BLAS: the same for any threads
    return Batch(x, scores.argmax(axis=1)[np.newaxis], _last(length))


@cache
def of_classes(inputs: int) -> Task:
    """The task of `classes` with so many inputs, CLASSES or more, for networks of one step.

    The teacher's rows are orthonormal: each class is as likely as another, and an answer that
    ignores its inputs costs ln CLASSES.
    """

    def teacher(rng: Rng, length: int, value: None) -> NDArray:
        return np.linalg.qr(rng.standard_normal((inputs, CLASSES)))[0].T

    trivial = math.log(CLASSES)
    return Task(
        "classes", inputs, CLASSES, "cross-entropy", 1, lambda _: trivial, classes, shared=teacher
    )


TASKS = {
    task.name: task
    for task in (
        Task("latch", 1, 1, "squared", 2, lambda _: 1.0, latch),
        Task("adding", 2, 1, "squared", 2, lambda _: 1 / 6, adding),
        Task(
            "copy",
            SYMBOLS + 2,
            SYMBOLS + 1,
            "cross-entropy",
            1,
            lambda length: COPIED * math.log(SYMBOLS) / (length + 2 * COPIED),
            copy,
            more=2 * COPIED,
            every=True,
        ),
        # From 5 on there is a step in both intervals.
        Task(
            "temporal-order",
            2 + DISTRACTORS,
            4,
            "cross-entropy",
            5,
            lambda _: math.log(4),
            temporal_order,
        ),
        Task("parity", 1, 2, "cross-entropy", 2, lambda _: math.log(2), parity, every=True),
        Task(
            "teacher",
            1,
            1,
            "squared",
            2,
            lambda _: 1.0,
            teacher,
            every=True,
            shared=impulse_response,
            argument=Argument("nu", 0, 1),
            value=0.9,
        ),
    )
}


def find_task(spelling: str) -> Task:
    """The task of a name, with an argument where it takes one: `latch`, `teacher`, `teacher:0.99`.

    Raises InputError for an unknown name, a stray argument, and one that is out of its range.
    """
    name, colon, tail = str(spelling).strip().partition(":")
    task = TASKS.get(name)
    if task is None:
        raise refuse("task", spelling, one_of(TASKS) + did_you_mean(name, TASKS))
    if not colon:
        return task
    takes = task.argument
    if takes is None:
        raise refuse("task", spelling, f"{name} takes nothing after its name")
    try:
        value = float(tail)
    except ValueError:
        value = math.nan
    if not takes.least <= value < takes.below:
        range_ = f"from {takes.least:g} to below {takes.below:g}"
        raise refuse("task", spelling, f"{name}:{takes.name} needs a number {range_}")
    return replace(task, value=value)


def _signs(bits: NDArray) -> NDArray:
    """-1.0 and 1.0 for 0 and 1."""
    return 2.0 * bits - 1


def _last(length: int) -> NDArray:
    return np.array([length - 1])


def _one_hot(tokens: NDArray, kinds: int) -> NDArray:
    return np.eye(kinds)[tokens]
