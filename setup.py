"""Lets MIM and MMEngine find an editable install; everything else is in setup.cfg.

Both look for an installed package at <site-packages>/<first line of top_level.txt>. An editable
install has nothing there, so `mim train mmselfsup_invp ...` and `mmselfsup_invp::` configs would
fail. With the absolute path of the package in that line, the same join leads to this tree.
"""

import platform
import zlib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

PACKAGE = Path(__file__).resolve().parent / 'mmselfsup_invp'

# The CPU search, compiled once for each instruction set; ops/search/native.py chooses.
SEARCH = 'mmselfsup_invp/ops/search'
SOURCES = [f'{SEARCH}/{name}' for name in ('_native.c', '_native_order.c', '_native_losses.c')]
HEADERS = [f'{SEARCH}/_native_vector.h']
CHECKSUM = zlib.crc32(b''.join((PACKAGE.parent / name).read_bytes() for name in SOURCES + HEADERS))
BUILDS = {'_native': []}
if platform.machine() in ('x86_64', 'AMD64'):
    BUILDS['_native_avx2'] = ['-mavx2', '-mfma']
    BUILDS['_native_avx512'] = ['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mfma']


# Apple's compiler has no OpenMP; without it the build serves PyTorch on one thread.
OPENMP = ['-fopenmp'] if platform.system() == 'Linux' else []


class BuildPy(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            self._point_at_this_tree()

    def _point_at_this_tree(self) -> None:
        wheel = Path(self.get_finalized_command('install').install_lib)
        (top_level,) = wheel.glob('*.dist-info/top_level.txt')
        top_level.write_text(f'{PACKAGE}\n')


def build(name: str, flags: list[str]) -> Extension:
    """Optional: without a compiler, or with one that does not know the flags, all works as well."""
    return Extension(
        f'mmselfsup_invp.ops.search.{name}',
        SOURCES,
        depends=HEADERS,
        define_macros=[('SOURCE', str(CHECKSUM))],
        extra_compile_args=['-O3', *OPENMP, *flags],
        extra_link_args=OPENMP,
        optional=True,
    )


setup(
    cmdclass={'build_py': BuildPy},
    ext_modules=[build(name, flags) for name, flags in BUILDS.items()],
)
