"""The supported hosts with the versions of their packages, and which of them is installed."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

# Package: (lowest version, first version that is too new, tested version).
TORCH = ('2.0', '2.12', '2.11.0')
ARCHIVED: dict[str, tuple[str, str, str]] = {
    'torch': TORCH,
    'mmengine': ('0.10.0', '1.0.0', '0.10.7'),
    # MMEngine imports pkg_resources (mmengine/utils/package_utils.py), removed in setuptools 81.
    'setuptools': ('58', '81', '80.8.0'),
    # mmcv 2.0 and 2.1 raise OverflowError in adjust_hue (mmcv/image/photometric.py) with NumPy 2.
    'numpy': ('1.22', '2', '1.26.4'),
}
# The first host whose packages are all supported is used. The names are those on PyPI; the modules
# of the onedl packages have the names of the archived ones.
HOSTS: dict[str, dict[str, tuple[str, str, str]]] = {
    'mmselfsup': {
        **ARCHIVED,
        'mmcv': ('2.0.0', '2.1.0', '2.0.1'),
        'mmcls': ('1.0.0rc6', '1.1.0', '1.0.0rc6'),
        'mmselfsup': ('1.0.0', '1.1.0', '1.0.0'),
    },
    'mmpretrain': {
        **ARCHIVED,
        'mmcv': ('2.1.0', '2.3.0', '2.1.0'),
        'mmpretrain': ('1.2.0', '1.3.0', '1.2.0'),
    },
    'onedl-mmpretrain': {
        'torch': TORCH,
        'numpy': ('1.26', '3', '2.5.5'),
        'onedl-mmengine': ('0.10.10', '1.0.0', '0.10.12'),
        'onedl-mmcv': ('2.3.0', '2.4.0', '2.3.6'),
        'onedl-mmpretrain': ('1.3.6', '1.4.0', '1.3.6'),
    },
}
# What users call the hosts.
TITLES = {
    'mmselfsup': 'MMSelfSup',
    'mmpretrain': 'MMPretrain',
    'onedl-mmpretrain': 'the maintained MMPretrain',
}
# Distributions that also provide a package; the one without compiled operations is installed.
ALTERNATIVES = {'mmcv': 'mmcv-lite'}
# Parts of this package that import the host.
NEED_HOST = (
    *('cli', 'datasets', 'embedding', 'engine', 'evaluation', 'export'),
    *('models', 'visualization'),
)

Installed = Callable[[str], str | None]


class UnsupportedHost(ImportError):
    """A package of the host is missing, or its version is not supported."""


def require_host() -> None:
    """Raise :class:`UnsupportedHost` if the components cannot work with the installed packages."""
    if error := host_error():
        raise UnsupportedHost(error)


@cache
def host_name() -> str | None:
    """Import name of the host: ``'mmselfsup'``, ``'mmpretrain'`` or None. Determined once."""
    host = find_host(installed_version)
    return host and host.removeprefix('onedl-')


@cache
def host_error() -> str | None:
    """Why no host can be used, None if there is one; determined once."""
    return None if host_name() else check_versions(installed_version)


def find_host(installed: Installed) -> str | None:
    """The first key of :data:`HOSTS` whose packages are all supported, None without one."""
    return next((host for host in HOSTS if not _problems(host, installed)), None)


def check_versions(installed: Installed) -> str | None:
    """Compare versions with :data:`HOSTS`.

    Args:
        installed (Callable): Returns the version of a package, or None if it is not installed.

    Returns:
        str | None: A message that names every unsupported package, what is supported and the
        command that installs it; None if a host is supported. The message is about the first of
        the hosts that is installed, MMSelfSup if none is.
    """
    if find_host(installed):
        return None
    host = next((name for name in HOSTS if installed(name)), 'mmselfsup')
    problems = _problems(host, installed)
    command = ' '.join(filter(None, (fix for _, fix in problems)))
    return '\n'.join(
        [
            f'Its components for {TITLES[host]} need',
            *(f'    {problem}' for problem, _ in problems),
            *([f'Install the tested versions:  pip install {command}'] if command else []),
            'mmselfsup_invp.ops and mmselfsup_invp.memory work without them.',
        ]
    )


def _problems(host: str, installed: Installed) -> list[tuple[str, str]]:
    """What prevents the use of a host, and the requirement for pip that resolves it."""
    problems = []
    for package, (low, end, tested) in HOSTS[host].items():
        number = installed(package)
        if _within(number, low, end):
            continue
        state = f'{number} is installed' if number else 'it is not installed'
        name = package if number else ALTERNATIVES.get(package, package)
        problems.append((f'{package} >={low},<{end}, but {state}', f'"{name}=={tested}"'))
    if not problems and _mmdet_stops_import(host, installed):
        problems.append(
            (
                f'an environment without mmdet {installed("mmdet")}, whose import fails beside '
                'mmcv >=2.2.0 and stops that of MMPretrain (pip uninstall mmdet), or mmcv <2.2.0',
                f'"mmcv=={HOSTS["mmpretrain"]["mmcv"][2]}"' if host == 'mmpretrain' else '',
            )
        )
    return problems


def _mmdet_stops_import(host: str, installed: Installed) -> bool:
    """Whether MMDetection raises an AssertionError when MMPretrain's models import it.

    See mmdet/__init__.py and mmpretrain/models/utils/box_utils.py, which expects ImportError.
    """
    mmcv = installed('onedl-mmcv' if host.startswith('onedl') else 'mmcv')
    return (
        host.endswith('mmpretrain')
        and _within(installed('mmdet'), '3.0', '3.4')
        and not _within(mmcv, '2', '2.2')
    )


def _within(number: str | None, low: str, end: str) -> bool:
    if number is None:
        return False
    try:
        from packaging.version import Version
    except ImportError:  # PyTorch does not require it, the host does: others are missing too.
        return True
    # Local labels such as "+cu130" do not affect compatibility.
    return Version(low) <= Version(Version(number).public) < Version(end)


def installed_version(package: str) -> str | None:
    """Version of an installed package, under either of its names; None if it is missing."""
    for name in (package, ALTERNATIVES.get(package, package)):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
