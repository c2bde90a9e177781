"""Numbers that threads share while both are within a kernel, the wait for one to change, and the
time that it took.

What a thread wrote before its `publish` or `add` is there for the thread that sees the new number.
"""

import os
import time
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from seqlab.kernels._jit import DISABLED, inlined

# Whether a waiting thread can offer its core to others: not on every system.
CAN_OFFER = hasattr(os, "sched_yield")

PATIENCE = 2000  # looks at a number before the core is offered

_BYTES = 8


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Of entry i of a contiguous array of int64: the first two arguments."""
    words = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(words.data, [arguments[1]])


@intrinsic
def _load(typing_context, words, i):
    def generate(context, builder, signature, arguments):
        address = _address(context, builder, signature, arguments)
        return builder.load_atomic(address, "acquire", _BYTES)

    return types.int64(words, types.intp), generate


@intrinsic
def _publish(typing_context, words, i, value):
    def generate(context, builder, signature, arguments):
        address = _address(context, builder, signature, arguments)
        builder.store_atomic(arguments[2], address, "release", _BYTES)
        return context.get_dummy_value()

    return types.void(words, types.intp, types.int64), generate


@intrinsic
def _add(typing_context, words, i, value):
    def generate(context, builder, signature, arguments):
        address = _address(context, builder, signature, arguments)
        return builder.atomic_rmw("add", address, arguments[2], "acq_rel")

    return types.int64(words, types.intp, types.int64), generate


@intrinsic
def _offer_core(typing_context):
    def generate(context, builder, signature, arguments):
        if CAN_OFFER:
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _nanoseconds(typing_context):
    def generate(context, builder, signature, arguments):
        word, kind = ir.IntType(64), ir.IntType(32)
        if not CAN_OFFER:  # there is no such function either
            return word(0)
        seconds = cgutils.alloca_once(builder, word, size=2)  # struct timespec
        signature = ir.FunctionType(kind, [kind, word.as_pointer()])
        function = cgutils.get_or_insert_function(builder.module, signature, "clock_gettime")
        builder.call(function, [kind(time.CLOCK_MONOTONIC), seconds])
        nanoseconds = builder.load(builder.gep(seconds, [word(1)]))
        return builder.add(builder.mul(builder.load(seconds), word(10**9)), nanoseconds)

    return types.int64(), generate


# Without the JIT: the interpreter's lock makes the first two what they are with it, and a thread
# that waits must let go of it.
def _plain_publish(words: Any, i: int, value: int) -> None:
    words[i] = value


def _plain_add(words: Any, i: int, value: int) -> int:
    words[i] += value
    return words[i] - value


# Untyped: for a type checker an intrinsic still has the typing context as its first argument.
load: Any = (lambda words, i: words[i]) if DISABLED else _load
publish: Any = _plain_publish if DISABLED else _publish
add: Any = _plain_add if DISABLED else _add
offer_core: Any = (lambda: time.sleep(0)) if DISABLED else _offer_core
nanoseconds: Any = time.monotonic_ns if DISABLED else _nanoseconds


@inlined
def wait_while(words, i, value):
    """Wait until words[i] is not `value`; return what it is."""
    looks = 0
    now = load(words, i)
    while now == value:
        looks += 1
        if looks > PATIENCE:
            offer_core()
        now = load(words, i)
    return now
