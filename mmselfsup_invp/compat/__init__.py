"""The host: the OpenMMLab package that the components are registered with.

It is MMSelfSup 1.0, MMPretrain 1.2 or the maintained onedl-mmpretrain 1.3, whose module is
``mmpretrain`` too. Only this package imports them:

- ``versions`` finds the installed host; it needs the standard library alone.
- ``host`` has what the components use of the host under the same names for all, from the
  adapters ``mmselfsup`` and ``mmpretrain``.
- ``patches`` fixes faults of the host and of MMEngine, ``checkpoints`` its loading of
  checkpoints.
"""

from .versions import (
    ALTERNATIVES,
    HOSTS,
    NEED_HOST,
    UnsupportedHost,
    check_versions,
    host_error,
    host_name,
    installed_version,
    require_host,
)

__all__ = [
    'ALTERNATIVES',
    'HOSTS',
    'NEED_HOST',
    'UnsupportedHost',
    'check_versions',
    'host_error',
    'host_name',
    'installed_version',
    'require_host',
]
