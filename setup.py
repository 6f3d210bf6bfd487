"""Lets MIM and MMEngine find an editable install; everything else is in setup.cfg.

Both look for an installed package at <site-packages>/<first line of top_level.txt>. An editable
install has nothing there, so `mim train mmselfsup_invp ...` and `mmselfsup_invp::` configs would
fail. With the absolute path of the package in that line, the same join leads to this tree.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PACKAGE = Path(__file__).resolve().parent / 'mmselfsup_invp'


class BuildPy(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            self._point_at_this_tree()

    def _point_at_this_tree(self) -> None:
        wheel = Path(self.get_finalized_command('install').install_lib)
        (top_level,) = wheel.glob('*.dist-info/top_level.txt')
        top_level.write_text(f'{PACKAGE}\n')


setup(cmdclass={'build_py': BuildPy})
