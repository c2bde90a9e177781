"""One step by several threads: for a network whose weights outgrow one core's caches.

A network's steps follow one another, so a single one leaves all cores but one idle. Here helpers
wait within a kernel of their own, and each step the thread that runs the network gives every one of
them some columns of the recurrent product, then, when all columns are done, some rows of all else.
A helper that comes late, or never, is not waited for: a step is shared by those that are there, and
its bits do not depend on who they are.

Where another process has the other core, or the system leaves both threads on one, they take turns,
and a step takes 1.7 times as long as alone. So some steps are timed, and a team whose helpers are
waited for longer than they save does without them for a while.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels._jit import inlined
from seqlab.kernels.cpu.atomic import CAN_OFFER, add, load, nanoseconds, publish, wait_while
from seqlab.kernels.cpu.linalg import STRIP, strip_count
from seqlab.kernels.cpu.shapes import SHAPES
from seqlab.kernels.cpu.threads import spare, start
from seqlab.kernels.memory import LINE, cleared

SHARE = SHAPES.team

# One shared step in TIMED is timed, as looks at a clock take time too. After IN_VAIN timed ones in
# a row that helpers did not shorten, the next ALONE steps are done alone.
TIMED, IN_VAIN, ALONE = 8, 3, 2000

# Places on the board, those that different threads write on different lines (two lines, since
# processors fetch pairs). CALL is the number of the latest step and how many share it; the step's
# job follows. ARRIVED counts helpers; MET those that are done with their columns, AWAITED in all;
# FIRST is the latest step whose columns the caller is done with; DONE counts those that are done
# with their rows, OWED in all. VAIN counts timed steps in a row that were no gain, SOLO those that
# are still to be done alone; both are the caller's own.
APART = 2 * LINE // 8
CALL, AWAITED, OWED, JOB = range(4)
ARRIVED, MET, FIRST, DONE, VAIN = (place * APART for place in range(1, 6))
SOLO = VAIN + 1
TEAM_BITS = 8
MOST = (1 << TEAM_BITS) - 1
DISMISSED = -1


class Job(NamedTuple):
    """One step of a task: `rows` rows of a network, which begin with a sequence. In scratch their
    product is from row `at` on, and what they leave for the next one from row `then` on."""

    network: int
    sequence: int
    rows: int
    step: int
    at: int
    then: int


_NO_BOARD = np.empty(0, np.int64)


def board_for(helpers: int) -> NDArray:
    """What the team of one kernel call writes on, empty for a thread alone."""
    return cleared((6 * APART,), np.int64) if helpers else _NO_BOARD


def helpers_for(weights: NDArray, rows: int, tasks: int) -> int:
    """Helpers for each thread that runs some of `tasks` tasks, each of `rows` rows."""
    if not CAN_OFFER:  # helpers that are not needed would stop all others
        return 0
    worth = rows * weights[0].nbytes // SHARE
    strips = -(-weights[0, 0].nbytes // STRIP)
    return max(0, min(1 + spare(tasks), worth, strips, MOST) - 1)


@inlined
def strips_of(weights, part, parts):
    """Part `part` of `parts` of the strips of packed weights (K, J): the first, and the one after
    the last."""
    strips = strip_count(weights)
    if parts == 1:  # divisions take a tenth of a small network's step
        return 0, strips
    return strips * part // parts, strips * (part + 1) // parts


@inlined
def _first_row(rows, part, parts):
    """Of `rows` rows, the first of a part. Who called the others has one in any case."""
    return rows * part if parts == 1 else -(-rows * part // parts)


@inlined
def _judge(board, own, whole, parts):
    """Whether helpers are worth their while, from the time of this thread's own part of a step and
    of all of it."""
    if whole < own * parts:
        board[VAIN] = 0
        return
    board[VAIN] += 1
    if board[VAIN] == IN_VAIN:
        board[VAIN], board[SOLO] = 0, ALONE


@inlined
def _await(board, place, number):
    seen = load(board, place)
    while seen != number:
        seen = wait_while(board, place, seen)


@inlined
def _call(board, job, parts):
    """Have the helpers begin; returns the step's number."""
    network, sequence, rows, step, at, then = job
    board[JOB], board[JOB + 1], board[JOB + 2] = network, sequence, rows
    board[JOB + 3], board[JOB + 4], board[JOB + 5] = step, at, then
    board[AWAITED] += parts - 1
    board[OWED] += min(parts, rows) - 1
    number = (board[CALL] >> TEAM_BITS) + 1
    publish(board, CALL, number << TEAM_BITS | parts)
    return number


@inlined
def _job(board):
    """What `_call` wrote."""
    network, sequence, rows = board[JOB], board[JOB + 1], board[JOB + 2]
    return Job(network, sequence, rows, board[JOB + 3], board[JOB + 4], board[JOB + 5])


@inlined
def _parts(board):
    """How many are there for a step."""
    if board.shape[0] == 0:
        return 1
    if board[SOLO] > 0:
        board[SOLO] -= 1
        return 1
    return 1 + load(board, ARRIVED)


def make_team(columns: Callable[..., None], rows: Callable[..., None]) -> tuple[Any, Any, Any]:
    """How a step is done: by a thread alone, (context, board, job) -> None; by one that has a team,
    the same; and how a helper helps, (context, board) -> None.

    `context` is what a kernel works on. `columns(context, job, part, parts)` does part `part` of
    `parts` of a step's columns; then, when all are there, `rows(context, job, first, last, part)`
    some of its rows, from 0 up to the job's `rows`.
    """

    @inlined
    def alone(context, board, job):
        columns(context, job, 0, 1)
        rows(context, job, 0, job.rows, 0)

    @inlined
    def together(context, board, job):
        parts, number, timed, start, own = _parts(board), 0, False, 0, 0
        if parts > 1:
            number = _call(board, job, parts)
            timed = number % TIMED == 0
        if timed:
            start = nanoseconds()
        columns(context, job, 0, parts)
        if parts > 1:
            if timed:
                own = nanoseconds() - start
            publish(board, FIRST, number)
            _await(board, MET, board[AWAITED])
            if timed:
                own -= nanoseconds()
        rows(context, job, 0, _first_row(job.rows, 1, parts), 0)
        if parts > 1:
            if timed:
                own += nanoseconds()
            _await(board, DONE, board[OWED])
            if timed:
                _judge(board, own, nanoseconds() - start, parts)

    @inlined
    def help_out(context, board):
        """Take part in every step from the first that counts this thread in, until dismissed."""
        part = add(board, ARRIVED, 1) + 1
        call = load(board, CALL)
        while call != DISMISSED:
            parts = call & MOST
            if part < parts:
                job, awaited = _job(board), board[AWAITED]
                columns(context, job, part, parts)
                add(board, MET, 1)
                first = _first_row(job.rows, part, parts)
                last = _first_row(job.rows, part + 1, parts)
                if first < last:
                    _await(board, MET, awaited)
                    _await(board, FIRST, call >> TEAM_BITS)
                    rows(context, job, first, last, part)
                    add(board, DONE, 1)
            call = wait_while(board, CALL, call)

    return alone, together, help_out


class Pass(NamedTuple):
    """The kernels of one pass over the steps: `alone(*context, begin, end)` for a thread alone,
    `together` for one that has a team, `helper(*context)` for who helps. The last of `context` is
    scratch with a `board`."""

    alone: Callable[..., None]
    together: Callable[..., None]
    helper: Callable[..., None]

    def by(self, helpers: int) -> Callable[..., None]:
        """The kernel that has so many helpers beside it."""
        if not helpers:
            return self.alone

        def call(*arguments: Any) -> None:
            context, beside = arguments[:-2], []
            try:
                for _ in range(helpers):
                    beside.append(start(self.helper, *context))
                self.together(*arguments)
            finally:
                context[-1].board[CALL] = DISMISSED
                for each in beside:
                    if not each.cancel():
                        each.result()

        return call
