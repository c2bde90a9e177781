"""One matrix product by several threads: for a network whose weights outgrow one core's caches.

A network's steps follow one another, so a single one leaves all cores but one idle. Here helpers
wait within a kernel of their own, and each time step the thread that runs the network gives every
one of them some columns of its recurrent product. A helper that comes late, or never, is not waited
for: the columns are shared by those that are there, and their bits do not depend on who they are.

Where another process has the other core, or the system leaves both threads on one, they take turns,
and a step takes 1.7 times as long as alone. So some products are timed, and a team whose helpers
are waited for longer than they save does without them for a while.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels._jit import compiled, inlined
from seqlab.kernels.cpu.atomic import CAN_OFFER, add, look, nanoseconds, publish, wait_while
from seqlab.kernels.cpu.linalg import STRIP, add_strips, strip_count
from seqlab.kernels.cpu.shapes import SHAPES
from seqlab.kernels.cpu.threads import spare, start
from seqlab.kernels.memory import LINE, aligned

SHARE = SHAPES.team

# One shared product in TIMED is timed, as looks at a clock take time too. After IN_VAIN timed
# ones in a row that helpers did not shorten, the next ALONE products are done alone.
TIMED, IN_VAIN, ALONE = 8, 3, 2000

# Places on the board, those that different threads write on different lines (two lines, since
# processors fetch pairs). CALL is the number of the latest product and how many share it; the
# product's arguments follow. VAIN counts timed products in a row that were no gain, SOLO those that
# are still to be done alone; both are the caller's own.
_APART = 2 * LINE // 8
CALL, NETWORK, LEFT, ROWS, OUT, BACKWARDS, OWED = range(7)
ARRIVED, DONE, VAIN, SOLO = _APART, 2 * _APART, 3 * _APART, 3 * _APART + 1
TEAM_BITS = 8
MOST = (1 << TEAM_BITS) - 1
DISMISSED = -1


class Product(NamedTuple):
    """out (.., at least J) += left weights[m], time step by time step: `left` is flat, `weights`
    (M, K, J) packed. `board` is what the team writes on, empty for a thread alone."""

    left: NDArray
    weights: NDArray
    out: NDArray
    board: NDArray


def recurrent_product(left: NDArray, weights: NDArray, out: NDArray, helpers: int) -> Product:
    """The product of one kernel call that has `helpers`; its arrays are contiguous."""
    board = aligned((4 * _APART if helpers else 0,), np.int64)
    board.fill(0)
    return Product(left.reshape(-1), weights, out.reshape(-1, out.shape[-1]), board)


def helpers_for(weights: NDArray, rows: int, tasks: int) -> int:
    """Helpers for each thread that runs some of `tasks` tasks, each of `rows` rows."""
    if not CAN_OFFER:  # helpers that are not needed would stop all others
        return 0
    worth = rows * weights[0].nbytes // SHARE
    strips = -(-weights[0, 0].nbytes // STRIP)
    return max(0, min(1 + spare(tasks), worth, strips, MOST) - 1)


@inlined
def _add_part(product, m, left, rows, out, backwards, part, parts):
    """Part `part` of `parts` of the strips."""
    weights = product.weights[m]
    depth, strips = weights.shape[0], strip_count(weights)
    begin, end = strips * part // parts, strips * (part + 1) // parts
    a, to = product.left, product.out
    add_strips(a, left, depth, 1, rows, weights, 0, depth, to, out, begin, end, backwards)


@inlined
def _judge(board, own, whole, parts):
    """Whether helpers are worth their while, from the time of this thread's own part of a product
    and of all of it."""
    if whole < own * parts:
        board[VAIN] = 0
        return
    board[VAIN] += 1
    if board[VAIN] == IN_VAIN:
        board[VAIN], board[SOLO] = 0, ALONE


@inlined
def add_recurrent(product, m, left, rows, out, backwards):
    """out[out + r, :J] += left row r, for r < rows, times weights[m], with the helpers there are.

    The rows of `left` begin at its entry `left` and follow one another.
    """
    board = product.board
    parts, timed, start, own = 1, False, 0, 0
    if board.shape[0] > 0:
        if board[SOLO] > 0:
            board[SOLO] -= 1
        else:
            parts += look(board, ARRIVED)
    if parts > 1:
        board[NETWORK], board[LEFT], board[ROWS], board[OUT] = m, left, rows, out
        board[BACKWARDS] = backwards
        board[OWED] += parts - 1
        number = (board[CALL] >> TEAM_BITS) + 1
        publish(board, CALL, number << TEAM_BITS | parts)
        timed = number % TIMED == 0
        if timed:
            start = nanoseconds()
    _add_part(product, m, left, rows, out, backwards, 0, parts)
    if parts > 1:
        if timed:
            own = nanoseconds() - start
        done = look(board, DONE)
        while done != board[OWED]:
            done = wait_while(board, DONE, done)
        if timed:
            _judge(board, own, nanoseconds() - start, parts)


@compiled
def _help(product):
    """Take part in every product from the first that counts this thread in, until dismissed."""
    board = product.board
    part = add(board, ARRIVED, 1) + 1
    call = look(board, CALL)
    while call != DISMISSED:
        parts = call & MOST
        if part < parts:
            m, left, rows, out = board[NETWORK], board[LEFT], board[ROWS], board[OUT]
            _add_part(product, m, left, rows, out, board[BACKWARDS], part, parts)
            add(board, DONE, 1)
        call = wait_while(board, CALL, call)


def with_helpers(kernel: Callable[..., None], helpers: int) -> Callable[..., None]:
    """`kernel`, whose third last argument is scratch with a `product`, with helpers beside it."""
    if not helpers:
        return kernel

    def call(*arguments: Any) -> None:
        product = arguments[-3].product
        beside = []
        try:
            for _ in range(helpers):
                beside.append(start(_help, product))
            kernel(*arguments)
        finally:
            product.board[CALL] = DISMISSED
            for helper in beside:
                if not helper.cancel():
                    helper.result()

    return call
