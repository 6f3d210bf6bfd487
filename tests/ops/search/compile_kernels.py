"""Compiles the Triton kernels for A100, H100 and B200, which takes no GPU.

Prints, for each program, how many bytes of a thread's numbers do not fit into its registers.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mmselfsup_invp.ops.search import triton as search
from mmselfsup_invp.ops.search import triton_gather as gather
from mmselfsup_invp.ops.search import triton_select as select
from mmselfsup_invp.ops.search.triton_common import dim_options

TYPES = dict(
    threshold='*fp32', value='*fp32', count='*i32', exclude='*i64', bank_label='*i64',
    query_label='*i64', similarity='*fp32', index='*i64', fallbacks='*i64', flagged='*i32',
    states='*i32', weight='*fp32', partial='*fp32', product='*fp32', query='*fp32',
)  # fmt: skip
TYPES |= dict(
    queries='i32', rows='i32', dim='i32', query_stride='i32', bank_stride='i32', width='i32',
    m='i32', chosen='i32', parts='i32', step='i32',
)  # fmt: skip


class Program(NamedTuple):
    kernel: triton.JITFunction
    constants: dict
    types: dict
    warps: int = 4
    stages: int = 3


def programs(bank: torch.Tensor) -> Iterator[Program]:
    size = bank.element_size()
    low = dict(query='*fp16', scale='*fp32', bank='*fp16') if size == 2 else dict(bank='*fp32')
    for block in (search.QUERY_BYTES // size, 16):
        constants = dict(
            PRECISION=search.FLOAT32_PRODUCTS, UPCAST=False, PARTS=4 // size, BLOCK_Q=block,
            BLOCK_N=search.ROW_BLOCK, **dim_options(bank, search.ROW_BYTES // size),
        )  # fmt: skip
        types = low | dict(index='*i32')
        options = search.FILTER_WARPS, search.FILTER_STAGES
        yield Program(search._filter_kernel, constants, types, *options)
    types = dict(bank=low['bank'])
    yield Program(select._flag_kernel, dict(BLOCK_M=select.BLOCK_ROWS), types)
    constants = dict(CHUNK=select.CHUNK, BLOCK_N=select.BLOCK_ROWS)
    constants |= dim_options(bank, select.BLOCK_DIM)
    yield Program(select._select_kernel, constants, types, select.WARPS)
    constants = dict(BLOCK_M=gather.BLOCK_ROWS, **dim_options(bank, gather.BLOCK_DIM))
    yield Program(gather._sums_kernel, dict(constants, ROWS=gather.SUM_ROWS), types)
    yield Program(gather._products_kernel, constants, types)


def stack(program: Program, aligned: bool, capability: int, folder: Path) -> int:
    """Compile a program and return the bytes of its stack."""
    types, signature, values, hints = TYPES | program.types, {}, {}, {}
    for place, name in enumerate(program.kernel.arg_names):
        kind = None if name in program.constants else types.get(name)
        signature[name] = kind or 'constexpr'
        if kind is None:
            values[place,] = program.constants.get(name)
        elif kind[0] == '*' or aligned and name in ('dim', 'query_stride', 'bank_stride'):
            hints[place,] = [['tt.divisibility', 16]]
    built = triton.compile(
        ASTSource(program.kernel, signature, values, hints),
        target=GPUTarget('cuda', capability, 32),
        options=dict(num_warps=program.warps, num_stages=program.stages),
    )
    # An A100 has less shared memory than the others.
    assert built.metadata.shared <= 163 * 1024, (program, built.metadata.shared)
    code = folder / 'kernel.cubin'
    code.write_bytes(built.asm['cubin'])
    tool = Path(triton.__file__).with_name('backends') / 'nvidia/bin/cuobjdump'
    usage = subprocess.check_output([tool, '-res-usage', code], text=True)
    return int(re.search(r'STACK:([0-9]+)', usage)[1])


TARGETS = [
    (torch.float32, 128, 80),
    (torch.float32, 101, 90),
    (torch.float16, 128, 90),
    (torch.float16, 100, 90),
    (torch.float16, 101, 90),
    (torch.float16, 128, 100),
]

if __name__ == '__main__':
    for dtype, dim, capability in TARGETS:
        bank = torch.empty((1, dim), dtype=dtype, device='meta')
        for program in programs(bank):
            print(stack(program, dim % 16 == 0, capability, Path(sys.argv[1])))
