"""The vector registers that Numba's code generator uses on this machine, or for the processor that
NUMBA_CPU_NAME and NUMBA_CPU_FEATURES name."""

import llvmlite.binding as llvm
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

# A loop that vectorises on whatever has vectors: a[i] *= a[i].
_LOOP = """
define void @squared(ptr noalias %a, i64 %n) {
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %place = getelementptr float, ptr %a, i64 %i
  %x = load float, ptr %place
  %y = fmul float %x, %x
  store float %y, ptr %place
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %exit
exit:
  ret void
}
"""
# Widest first: the narrower ones are parts of the wider.
_SHAPES = {"%zmm": (64, 32), "%ymm": (32, 16), "%xmm": (16, 16), ".4s": (16, 32)}


def vector_registers() -> tuple[int, int] | None:
    """Bytes of a register and how many there are, read from what a loop is compiled to: a processor
    may be compiled for with narrower vectors than it has. None where there are none known here."""
    library = cpu_target.target_context.codegen().create_library("vector_registers")
    with global_compiler_lock:
        library.add_llvm_module(llvm.parse_assembly(_LOOP))
        library.finalize()
    code = library.get_asm_str()
    return next((shape for name, shape in _SHAPES.items() if name in code), None)
