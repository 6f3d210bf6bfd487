"""Representation learning from relations between images, as a plugin for MMSelfSup 1.x.

One line in a config makes every component available::

    custom_imports = dict(imports=['mmselfsup_invp'], allow_failed_imports=False)

With PyTorch alone installed, :mod:`mmselfsup_invp.ops` works and nothing else is imported.
"""

from importlib.util import find_spec

from .version import __version__

__all__ = ['__version__']

if find_spec('mmengine') is not None:
    from . import compat

    compat.prepare()
    from . import datasets, engine, evaluation, models  # noqa: F401
