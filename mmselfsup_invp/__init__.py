"""InvP, InterCLR and SeLa as a plugin for MMSelfSup 1.0 or MMPretrain (1.2, onedl 1.3).

:mod:`mmselfsup_invp.ops` and :mod:`mmselfsup_invp.memory` need PyTorch alone. All other parts need
one of these, the host. Where it is installed, importing this package registers the components,
so that a config needs one line::

    custom_imports = dict(imports=['mmselfsup_invp'], allow_failed_imports=False)
"""

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from . import compat
from .version import __version__

__all__ = ['__version__', 'register_all_modules']

SUBPACKAGES = {'memory', 'ops', *compat.NEED_HOST}
# Functions of this package by the modules that they are in.
FUNCTIONS = {'embed': 'embedding', 'train': 'cli.train_images'}


def register_all_modules(init_default_scope: bool = True) -> None:
    """Register all components with the registries of the host.

    ``import mmselfsup_invp`` does so where a supported host is installed. This function reports
    why it did not.

    Args:
        init_default_scope (bool): Whether MMEngine's default scope becomes that of the host, as by
            its own function, unless it is ``mmselfsup_invp``. Defaults to True.

    Raises:
        UnsupportedHost: If a package of the host is missing or its version is not supported.
    """
    compat.require_host()
    from .compat.patches import apply_patches

    apply_patches()
    from . import datasets, engine, evaluation, models, registry  # noqa: F401

    if init_default_scope:
        from mmengine.registry import DefaultScope

        from .compat.host import register_host_modules

        current = DefaultScope.get_current_instance()
        if current is None or current.scope_name != registry.SCOPE:
            register_host_modules(init_default_scope=True)


def __getattr__(name: str) -> ModuleType | Callable:
    """Import a subpackage on first use; one that needs the host reports what is missing."""
    if name in SUBPACKAGES:
        return import_module(f'{__name__}.{name}')
    if name in FUNCTIONS:
        return getattr(import_module(f'{__name__}.{FUNCTIONS[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


if (_error := compat.host_error()) is None:
    register_all_modules(init_default_scope=False)
elif 'mmengine' in sys.modules:
    # As for custom_imports of a config, whose types MMEngine will report as not registered.
    warnings.warn(f'mmselfsup_invp registered no components. {_error}', stacklevel=2)
