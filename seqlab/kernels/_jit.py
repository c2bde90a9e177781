"""Every Numba flag of the lab, each with its reason."""

import gc
import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite.binding.ffi import lib as llvm_library
from numba import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock

from seqlab.kernels._cache import KernelCache

# Untyped: the types that Numba ships leave out its `_nrt` option and its settings.
_njit: Any = numba.njit
_settings: Any = numba.config

# NaN and infinity are results here, so `nnan` and `ninf` are never given; the rest lets LLVM
# reorder sums into vector lanes. Lanes depend on the code, not on the data or the thread count.
KERNEL_MATH = {"nsz", "arcp", "contract", "afn", "reassoc"}
# `reassoc` would cancel the two-part argument reduction of exp (2.7 to 7.1 ulp instead of 1).
EXACT_MATH = {"contract"}

_COMMON = {
    # With Python's zero-division check a loop that divides does not vectorise.
    "error_model": "numpy",
    # Several threads run one kernel on different networks.
    "nogil": True,
    # Kernels allocate nothing (their scratch is handed in) and count no references: a view of a
    # row then costs 4 ns and not 31, and threads do not fight over the counter of an array.
    "_nrt": False,
}


# NUMBA_DISABLE_JIT=1: everything runs as plain Python, for line coverage.
DISABLED = bool(_settings.DISABLE_JIT)


def _hold_compiler() -> None:
    global_compiler_lock.acquire()
    llvm_library._lock.__enter__()


def _release_compiler() -> None:
    llvm_library._lock.__exit__()
    global_compiler_lock.release()


# A process that is forked while another thread compiles waits for that thread, which is not there
# in the child: its locks would stay taken, and LLVM as it stood.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hold_compiler,
        after_in_parent=_release_compiler,
        after_in_child=_release_compiler,
    )


class _NoEnvironment:
    """Stands for the code generator where an environment would be stored in machine code."""

    @staticmethod
    def set_env(name: str, environment: Any) -> None:
        """Nothing: there is no machine code."""


class _Code(JITCodeLibrary):
    """Numba's code of one function."""

    def _exported(self) -> list[Any]:
        found = self._final_module.functions
        return [f for f in found if not f.is_declaration and f.linkage == llvm.Linkage.external]


class _KernelCode(_Code):
    """What a kernel is compiled to. No other function takes it in, so that the names of what its
    machine code has are enough for the cache: LLVM's code was most of a file."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self.enable_object_caching()

    def _get_module_for_linking(self) -> Any:
        self._ensure_finalized()
        names = [
            f'define void @"{function.name}"() {{ ret void }}' for function in self._exported()
        ]
        return llvm.parse_assembly("\n".join(names))


class _Ingredient(_Code):
    """What an `inlined` function is compiled to: plain LLVM code, left to the kernels that it goes
    into. Numba would optimise and assemble it by itself too, which nobody runs: half of the
    time of a first run."""

    codegen = _NoEnvironment()

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Null."""
        self._ensure_finalized()
        return 0

    def _get_module_for_linking(self) -> Any:
        self._ensure_finalized()
        if self._shared_module is None:  # no copy, as Numba makes: this is all that it is there for
            self._shared_module = self._final_module
            for function in self._exported():
                function.linkage = "linkonce_odr"
        return self._shared_module


class _Part(_Ingredient):
    """An ingredient that stays a function of its own, with all registers to itself."""

    def add_llvm_module(self, ll_module: Any) -> None:
        for function in ll_module.functions:
            if not function.is_declaration:
                function.add_function_attribute("noinline")
        super().add_llvm_module(ll_module)


# Numba's passes for expressions of whole arrays and for closures, which no kernel has.
_IN_VAIN = {"nopython_rewrites", "inline_closure_likes"}


class _Kernel(Compiler):
    """Numba's compiler for what Python calls."""

    code: type[_Code] = _KernelCode

    def define_pipelines(self) -> Any:
        state = self.state
        state.library = self.code(state.targetctx.codegen(), state.func_id.func_qualname)
        managers = super().define_pipelines()
        for manager in managers:
            needed = [step for step in manager.passes if step[0].name() not in _IN_VAIN]
            manager.passes, manager._finalized = needed, False
            manager.finalize()
        return managers


class _Inlined(_Kernel):
    """The same for functions that exist only within kernels."""

    code = _Ingredient


class _Apart(_Inlined):
    """The same, with LLVM's `noalias` on every array that a function is given."""

    def define_pipelines(self) -> Any:
        self.state.flags.noalias = True
        return super().define_pipelines()


class _Outlined(_Apart):
    """The same, for functions that kernels call."""

    code = _Part


def _within_kernels(function: Callable, compiler: type[Compiler], inline: bool = True) -> Any:
    """Compile a function that only kernels call. Called from Python it says so: it has no machine
    code to jump to."""
    dispatcher = _njit(
        function,
        **_COMMON,
        fastmath=KERNEL_MATH,
        pipeline_class=compiler,
        forceinline=inline,
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
    )
    if DISABLED:
        return dispatcher

    def add_overload(result: Any) -> None:
        dispatcher.overloads[tuple(result.signature.args)] = result

    def refuse(*args: Any, **named: Any) -> None:
        raise TypeError(f"{function.__name__} goes into kernels; Python cannot call it")

    template = dispatcher.get_call_template

    def get_call_template(args: Iterable[Any], named: dict[str, Any]) -> Any:
        """Of the arguments' types: Numba would compile a version for each number in a call."""
        named = {name: types.unliteral(kind) for name, kind in named.items()}
        return template(tuple(map(types.unliteral, args)), named)

    dispatcher.get_call_template = get_call_template
    dispatcher.add_overload, dispatcher._compile_for_args = add_overload, refuse
    return dispatcher


def _of(closure: Iterable[Any] | None) -> str:
    """A short name for what a function closes over: functions by their names and by what they close
    over themselves, other values by themselves."""
    names = []
    for value in (cell.cell_contents for cell in closure or ()):
        if callable(value):
            inner = getattr(value, "py_func", value).__closure__
            names.append(f"{value.__module__}.{value.__qualname__}.{_of(inner)}")
        else:
            names.append(repr(value))
    return hashlib.sha256(" ".join(names).encode()).hexdigest()[:16]


def _uncollected(work: Callable) -> Callable:
    """`work` without garbage collection: the compiler makes millions of objects and little garbage,
    a tenth of its time. To be called with the compiler's lock held."""

    def call(*arguments: Any) -> Any:
        collects = gc.isenabled()
        gc.disable()
        try:
            return work(*arguments)
        finally:
            if collects:
                gc.enable()

    return call


def compiled(function: Callable) -> Any:
    """Compile a kernel: what Python calls. Whatever it calls in turn is `inlined`.

    A kernel may be made of functions: one that closes over others is named after them, so that each
    has machine code of its own in the cache.
    """
    if function.__closure__:
        function.__qualname__ = f"{function.__name__}.{_of(function.__closure__)}"
    dispatcher = _njit(
        function,
        **_COMMON,
        fastmath=KERNEL_MATH,
        pipeline_class=_Kernel,
        no_cfunc_wrapper=True,
    )
    if not DISABLED:
        dispatcher._cache = KernelCache(function)
        dispatcher._compiler.compile = _uncollected(dispatcher._compiler.compile)
    return dispatcher


def inlined(function: Callable) -> Any:
    """Compile a function into each kernel that calls it; Python cannot call it then.

    Left to LLVM, some calls stay calls. Then two versions of the function exist, its own and the
    caller's, optimised apart and with other last bits, and which one runs depends on whether the
    kernel was compiled or read from the cache. Besides, an array is passed as a dozen words, which
    made a step back of a small network twice as slow.

    Numba optimises each function by itself before it goes into another, and `reassoc` reorders
    products there: to move an expression from one function to another may change its last bits.
    """
    return _within_kernels(function, _Inlined)


def inlined_apart(function: Callable) -> Any:
    """`inlined`, for a function none of whose arrays overlaps one that it writes to.

    Inner loops then need no check for overlap (half of a short loop's time), sums stay in
    registers, and a count that is constant at the call unrolls.
    """
    return _within_kernels(function, _Apart)


def outlined_apart(function: Callable) -> Any:
    """`inlined_apart`, but called: for loops that need all registers, or for code that a kernel has
    at many places. A call costs some tens of nanoseconds.

    What it calls is `inlined` into it, so that there is one version, as of those.
    """
    return _within_kernels(function, _Outlined, inline=False)


MATH_OPTIONS: Any = {
    "error_model": "numpy",
    "fastmath": EXACT_MATH,
    "forceinline": True,
    "pipeline_class": _Inlined,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
