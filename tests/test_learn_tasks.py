"""The tasks that networks are trained on: answers by plain loops, distributions, trivial losses.

Seeds are fixed, so nothing here flakes. Bounds on statistics are those that a right generator
breaks with a probability below 1e-9.
"""

import itertools
import math
from typing import Any

import naive_learn as naive
import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from seqlab.errors import InputError
from seqlab.learning.batches import batch_of, batches_of
from seqlab.measure.randomness import Purpose, stream
from seqlab.tasks import TASKS, find_task
from seqlab.tasks.losses import LOSSES, accuracy
from seqlab.tasks.task import Batch, Task

Array = npt.NDArray[Any]
RARE = 1e-9
MANY = 4000  # sequences
PLAIN = sorted(naive.ANSWERS)
TEACHERS = ["teacher", "teacher:0", "teacher:0.99"]


def many(name: str, length: int) -> Batch:
    return batch_of(find_task(name), 11, 0, 0, length, MANY)


def evenly(values: Array, kinds: int) -> None:
    """Whole numbers from 0 to below `kinds`, each as often: Pearson's chi-square."""
    counts = np.bincount(values.ravel(), minlength=kinds)
    assert len(counts) == kinds
    expected = values.size / kinds
    statistic = (np.square(counts - expected) / expected).sum()
    assert statistic < stats.chi2.isf(RARE, kinds - 1)


def evenly_together(*columns: tuple[Array, int]) -> None:
    """Several columns of whole numbers, independent of one another, each evenly distributed."""
    cell, kinds = np.zeros_like(columns[0][0]), 1
    for values, of in columns:
        assert ((values >= 0) & (values < of)).all()
        cell, kinds = cell * of + values, kinds * of
    evenly(cell, kinds)


def deciles(uniform: Array) -> Array:
    """Which tenth of [0, 1) a number is in."""
    return np.floor(10 * uniform).astype(int)


@pytest.mark.tiny
def test_every_task_has_a_naive_one() -> None:
    assert {*PLAIN, "teacher"} == set(TASKS)
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.tiny
@pytest.mark.parametrize("name", PLAIN)
def test_answers_are_those_read_off_the_inputs(name: str) -> None:
    task = TASKS[name]
    lengths = [*range(task.shortest, task.shortest + 12), 57]
    for length, sequences in itertools.product(lengths, (1, 7)):
        batch = batch_of(task, 3, 2, length, length, sequences)
        check_form(task, batch, length, sequences)
        for b in range(sequences):
            answer = naive.ANSWERS[name](batch.x[:, b])
            assert sorted(answer) == batch.at.tolist()
            have = [batch.targets[i, b].tolist() for i in range(len(batch.at))]
            assert have == [answer[step] for step in sorted(answer)]


def check_form(task: Task, batch: Batch, length: int, sequences: int) -> None:
    assert batch.x.shape == (task.steps(length), sequences, task.inputs)
    assert batch.x.dtype == np.float64
    assert len(batch.at) == task.answers(length)
    shape: tuple[int, ...] = (len(batch.at), sequences)
    if task.classifies:
        assert batch.targets.dtype.kind == "i"
        assert ((batch.targets >= 0) & (batch.targets < task.outputs)).all()
    else:
        assert batch.targets.dtype == np.float64
        shape = (*shape, task.outputs)
    assert batch.targets.shape == shape


@pytest.mark.tiny
@pytest.mark.parametrize("spelling", TEACHERS)
@pytest.mark.parametrize("length", [2, 3, 60])
def test_teachers_are_their_recurrence(spelling: str, length: int) -> None:
    task = find_task(spelling)
    for network in range(3):
        batch = batch_of(task, 4, network, 1, length, 2)
        check_form(task, batch, length, 2)
        assert batch.at.tolist() == list(range(length))
        rng = stream(4, network, Purpose.TEACHER)
        a = rng.standard_normal((10, 10)) / math.sqrt(10)
        b, c = rng.standard_normal((2, 10))
        # 60 products with A, whose eigenvectors have a condition below 1e3 here, at 1e-16 each.
        for i in range(2):
            want = naive.teacher(a, b, c, task.value or 0.0, batch.x[:, i])
            assert batch.targets[:, i, 0] == pytest.approx(want, abs=1e-10)


@pytest.mark.tiny
@pytest.mark.parametrize("spelling", TEACHERS)
def test_teachers_do_not_see_what_is_to_come(spelling: str) -> None:
    task = find_task(spelling)
    assert task.shared is not None
    response = task.shared(stream(1, 1, Purpose.TEACHER), 40, task.value)
    inputs = np.random.default_rng(2).standard_normal((40, 1))
    have = task.batch(np.random.default_rng(2), 40, 1, response).targets[:, 0, 0]
    want = np.convolve(inputs[:, 0], response)[:40]
    assert have == pytest.approx(want, abs=1e-13)  # 40 products of order one


@pytest.mark.tiny
@pytest.mark.parametrize("length", [2, 100, 5000])
def test_a_teacher_has_variance_one_on_the_mean(length: int) -> None:
    task = TASKS["teacher"]
    assert task.shared is not None
    response = task.shared(stream(0, 0, Purpose.TEACHER), length, 0.99)
    variances = np.cumsum(response**2)
    assert variances.mean() == pytest.approx(1, rel=1e-12)
    assert np.isfinite(response).all()


@pytest.mark.tiny
def test_distributions_of_latch() -> None:
    batch = many("latch", 6)
    bits = (batch.targets[0, :, 0] > 0).astype(int)
    noise = deciles(stats.norm.cdf(batch.x[1:, :, 0], scale=0.5))
    for step in noise:
        evenly_together((bits, 2), (step, 10))
    evenly_together((noise[0], 10), (noise[1], 10))


@pytest.mark.tiny
@pytest.mark.parametrize("length", [10, 11])
def test_distributions_of_adding(length: int) -> None:
    batch = many("adding", length)
    half = length // 2
    marks = batch.x[..., 1]
    first, second = marks[:half].argmax(axis=0), marks[half:].argmax(axis=0)
    evenly_together((first, half), (second, length - half))
    numbers = deciles(batch.x[..., 0])
    evenly_together((first, half), (numbers[0], 10))
    for step in range(1, length):
        evenly_together((numbers[step - 1], 10), (numbers[step], 10))


@pytest.mark.tiny
def test_distributions_of_copy() -> None:
    symbols = many("copy", 3).targets[-10:]
    for a, b in itertools.combinations(symbols, 2):
        evenly_together((a, 8), (b, 8))


@pytest.mark.tiny
@pytest.mark.parametrize(("length", "first", "second"), [(10, 2, 2), (29, 3, 3), (40, 5, 5)])
def test_distributions_of_temporal_order(length: int, first: int, second: int) -> None:
    batch = many("temporal-order", length)
    tokens = batch.x.argmax(axis=-1)
    earliest = [-(-length // 10), -(-4 * length // 10)]
    places = [np.flatnonzero(row) for row in (tokens < 2).T]
    assert all(len(place) == 2 for place in places)
    steps = np.array(places).T - np.array(earliest)[:, np.newaxis]
    classes = batch.targets[0]
    evenly_together((steps[0], first), (steps[1], second), (classes, 4))
    last = tokens[-4:] - 2
    for a, b in itertools.pairwise(last):
        evenly_together((a, 4), (b, 4), (classes, 4))


@pytest.mark.tiny
def test_distributions_of_parity() -> None:
    batch = many("parity", 7)
    bits = (batch.x[..., 0] > 0).astype(int)
    evenly_together(*((row, 2) for row in bits))
    # Without one bit nothing is known of the answers from there on.
    evenly_together(*((row, 2) for row in bits[1:]), (batch.targets[-1], 2))
    evenly_together(*((row, 2) for row in bits[:2]), *((row, 2) for row in batch.targets[2:]))


@pytest.mark.tiny
def test_inputs_of_teacher_are_white() -> None:
    x = deciles(stats.norm.cdf(many("teacher", 5).x[..., 0]))
    for a, b in itertools.pairwise(x):
        evenly_together((a, 10), (b, 10))


@pytest.mark.tiny
@pytest.mark.parametrize("name", ["copy", "temporal-order", "parity"])
@pytest.mark.parametrize("length", [5, 20])
def test_trivial_cross_entropy_is_that_of_the_best_constant_answer(name: str, length: int) -> None:
    task = TASKS[name]
    batch = many(name, length)
    answers = np.stack(
        [np.bincount(step, minlength=task.outputs) / MANY for step in batch.targets]
    )[:, np.newaxis]
    with np.errstate(divide="ignore"):
        logits = np.log(np.broadcast_to(answers, (*batch.targets.shape, task.outputs)))
    loss, _ = LOSSES["cross-entropy"](logits[np.newaxis], batch.targets[np.newaxis])
    # Wilks: twice the gain of the answer fitted to these sequences is a chi-square variable.
    gain = (task.trivial(length) - loss[0]) * len(batch.at)
    # Steps whose answers are not known without a look; parity's are independent of each other.
    steps = {"copy": 10, "parity": length}.get(name, 1)
    kinds = 8 if name == "copy" else task.outputs
    assert 0 < 2 * MANY * gain < stats.chi2.isf(RARE, steps * (kinds - 1))


@pytest.mark.tiny
@pytest.mark.parametrize("name", ["latch", "adding", "teacher"])
@pytest.mark.parametrize("length", [2, 9])
def test_trivial_squared_error_is_that_of_the_best_constant_answer(name: str, length: int) -> None:
    count = 25 * MANY
    targets = batch_of(TASKS[name], 12, 0, 0, length, count).targets
    answers = targets.mean(axis=1, keepdims=True)
    costs = np.square(targets - answers).mean(axis=(0, 2)) * count / (count - 1)
    # The mean of so many costs is normal; latch's, of a bit, moves by the mean bit's square alone.
    error = stats.norm.isf(RARE / 2) * costs.std() / math.sqrt(count)
    error += stats.chi2.isf(RARE, 1) / count
    assert error < 0.03 * TASKS[name].trivial(length)
    assert costs.mean() == pytest.approx(TASKS[name].trivial(length), abs=error)


@pytest.mark.tiny
@pytest.mark.parametrize("name", TASKS)
def test_a_right_answer_solves_a_task(name: str) -> None:
    task = TASKS[name]
    batch = batches_of(task, 0, [0, 1], 0, 20, 8)
    y = batch.targets
    if task.classifies:
        y = 30.0 * (y[..., np.newaxis] == np.arange(task.outputs))
        assert (accuracy(y, batch.targets) == 1).all()
    loss, _ = LOSSES[task.loss](y, batch.targets)
    assert (loss < 1e-9 * task.solved(20)).all()
    assert task.solved(20) == pytest.approx(task.trivial(20) / 10)


@pytest.mark.tiny
@pytest.mark.parametrize("name", TASKS)
def test_a_batch_depends_on_seed_network_update_and_purpose(name: str) -> None:
    task = TASKS[name]

    def drawn(*args: Any) -> bytes:
        x, targets, at = batch_of(task, *args[:3], 20, 16, *args[3:])
        return x.tobytes() + targets.tobytes() + at.tobytes()

    want = drawn(1, 2, 3)
    assert drawn(1, 2, 3) == want
    others = [drawn(2, 2, 3), drawn(1, 3, 3), drawn(1, 2, 4), drawn(1, 2, 3, Purpose.HELD_OUT)]
    assert len({want, *others}) == 5


@pytest.mark.tiny
def test_every_network_has_a_teacher_for_all_its_batches() -> None:
    task = TASKS["teacher"]

    def response(network: int, *which: Any) -> Array:
        """Solved for, from a batch: targets are a triangular matrix of inputs times it."""
        batch = batch_of(task, 6, network, *which[:1], 12, 16, *which[1:])
        rows = [
            [batch.x[t - k, b, 0] if k <= t else 0.0 for k in range(12)]
            for b in range(16)
            for t in range(12)
        ]
        return np.linalg.lstsq(np.array(rows), batch.targets[..., 0].T.ravel())[0]

    want = response(0, 0)
    for which in ((1,), (0, Purpose.HELD_OUT)):
        assert response(0, *which) == pytest.approx(want, abs=1e-12)  # well-posed: 192 equations
    assert np.abs(response(1, 0) - want).max() > 0.01


@pytest.mark.tiny
@pytest.mark.parametrize("name", TASKS)
def test_a_network_has_the_same_batch_among_others(name: str) -> None:
    task = TASKS[name]
    networks = [4, 0, 4, 2]
    together = batches_of(task, 9, networks, 5, 12, 3)
    assert len(together.x) == len(together.targets) == 4
    for i, m in enumerate(networks):
        alone = batch_of(task, 9, m, 5, 12, 3)
        assert (together.x[i] == alone.x).all()
        assert (together.targets[i] == alone.targets).all()
        assert (together.at == alone.at).all()


@pytest.mark.tiny
def test_spellings() -> None:
    for name, task in TASKS.items():
        assert find_task(name) is task
        assert find_task(str(task)) == task
    assert str(TASKS["teacher"]) == "teacher:0.9"
    assert find_task(" teacher:0 ").value == 0
    assert str(find_task("teacher:0.0")) == "teacher:0"
    assert str(find_task("teacher:0.999999999")) == "teacher:0.999999999"


NAMES = "latch, adding, copy, temporal-order, parity or teacher"
NU = "teacher:nu needs a number from 0 to below 1"


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("latches", f"task: 'latches' is not allowed; {NAMES} (did you mean latch?)"),
        ("techer:0.5", f"task: 'techer:0.5' is not allowed; {NAMES} (did you mean teacher?)"),
        ("", f"task: '' is not allowed; {NAMES}"),
        ("copy:8", "task: 'copy:8' is not allowed; copy takes nothing after its name"),
        ("teacher:", f"task: 'teacher:' is not allowed; {NU}"),
        ("teacher:1", f"task: 'teacher:1' is not allowed; {NU}"),
        ("teacher:-0.1", f"task: 'teacher:-0.1' is not allowed; {NU}"),
        ("teacher:nan", f"task: 'teacher:nan' is not allowed; {NU}"),
    ],
)
def test_unknown_tasks_are_refused(spelling: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        find_task(spelling)
    assert str(caught.value) == message


@pytest.mark.tiny
@pytest.mark.parametrize("name", TASKS)
def test_lengths_that_are_too_short_are_refused(name: str) -> None:
    task = TASKS[name]
    task.check_lengths([100, task.shortest])
    batch_of(task, 0, 0, 0, task.shortest, 1)
    with pytest.raises(InputError) as caught:
        task.check_lengths([100, task.shortest - 1])
    assert str(caught.value) == (
        f"lengths: {task.shortest - 1} is not allowed; {task} needs {task.shortest} or more"
    )


@pytest.mark.tiny
def test_a_row_with_an_unknown_loss_is_refused() -> None:
    with pytest.raises(InputError, match="loss: 'absolute' of odd is in no row of LOSSES"):
        Task("odd", 1, 1, "absolute", 1, lambda _: 1.0, TASKS["latch"].batch)
