"""Every kernel's inner loops work on vectors, on processors that the tests do not run on."""

import llvmlite
import machine_code
import pytest

# The share of a kernel's vector loops that another LLVM may join or unroll.
OTHERWISE = 0.25


@pytest.mark.slow
@pytest.mark.parametrize("target", machine_code.TARGETS)
def test_no_inner_loop_became_scalar(target: str) -> None:
    """None fewer on vectors, and no more spills, than when the table was made and looked at."""
    version, table = machine_code.committed()
    same = version == llvmlite.__version__
    codes = machine_code.ask(target)
    assert codes.keys() == table[target].keys()
    for name, known in table[target].items():
        assert known.vector > 0, name
        assert codes[name].vector >= known.vector * (1 if same else 1 - OTHERWISE), name
        if same:
            assert codes[name].scalar <= known.scalar, name
            assert codes[name].spills <= known.spills, name


X86 = """
.LBB0_1:                                # %first
                                        #   Parent Loop BB0_9 Depth=1
                                        # =>  This Inner Loop Header: Depth=2
	vmulps	(%rax), %ymm1, %ymm2            # 32-byte Folded Reload
	je	.LBB0_3
# %bb.2:                                # %rest
                                        #   in Loop: Header=BB0_1 Depth=2
	vmovups	%ymm2, 32(%rsp)                 # 32-byte Spill
	jne	.LBB0_1
.LBB0_3:                                # %second
                                        # =>This Inner Loop Header: Depth=1
	vmulss	(%rax), %xmm1, %xmm2
	jne	.LBB0_3
.LBB0_4:                                # %copy
                                        # =>This Inner Loop Header: Depth=1
	vmovups	(%rax), %ymm2                   # 32-byte Reload
	jne	.LBB0_4
"""
ARM = """
.LBB0_1:                                // %first
                                        // =>This Inner Loop Header: Depth=1
	fmla	v0.4s, v1.4s, v2.s[0]
	b.ne	.LBB0_1
.LBB0_2:                                // %second
                                        // =>This Inner Loop Header: Depth=1
	fmul	d0, d1, d2
	b.ne	.LBB0_2
"""


def test_code_is_read_as_it_stands() -> None:
    """One loop on vectors with its spills, in all its blocks; one on single numbers; no others."""
    assert machine_code.read(X86) == (1, 1, 2)
    assert machine_code.read(ARM) == (1, 1, 0)
