"""The supported hosts with the versions of their packages, and which of them is installed."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

# Package: (lowest version, first version that is too new, tested version).
COMMON: dict[str, tuple[str, str, str]] = {
    'torch': ('2.0', '2.12', '2.11.0'),
    'mmengine': ('0.10.0', '1.0.0', '0.10.7'),
    # MMEngine imports pkg_resources (mmengine/utils/package_utils.py), removed in setuptools 81.
    'setuptools': ('58', '81', '80.8.0'),
    # mmcv 2.0 and 2.1 raise OverflowError in adjust_hue (mmcv/image/photometric.py) with NumPy 2.
    'numpy': ('1.22', '2', '1.26.4'),
}
# The first host whose packages are all supported is used.
HOSTS: dict[str, dict[str, tuple[str, str, str]]] = {
    'mmselfsup': {
        **COMMON,
        'mmcv': ('2.0.0', '2.1.0', '2.0.1'),
        'mmcls': ('1.0.0rc6', '1.1.0', '1.0.0rc6'),
        'mmselfsup': ('1.0.0', '1.1.0', '1.0.0'),
    },
    'mmpretrain': {
        **COMMON,
        'mmcv': ('2.1.0', '2.3.0', '2.1.0'),
        'mmpretrain': ('1.2.0', '1.3.0', '1.2.0'),
    },
}
# What users call the hosts.
TITLES = {'mmselfsup': 'MMSelfSup', 'mmpretrain': 'MMPretrain'}
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
    """Import name of the host, a key of :data:`HOSTS`; None without one. Determined once."""
    return find_host(installed_version)


@cache
def host_error() -> str | None:
    """Why no host can be used, None if there is one; determined once."""
    return None if host_name() else check_versions(installed_version)


def find_host(installed: Installed) -> str | None:
    """The first host whose packages are all supported; see :func:`check_versions`."""
    return next((host for host in HOSTS if not _problems(host, installed)), None)


def check_versions(installed: Installed) -> str | None:
    """Compare versions with :data:`HOSTS`.

    Args:
        installed (Callable): Returns the version of a package, or None if it is not installed.

    Returns:
        str | None: A message that names every unsupported package, what is supported and the
        command that installs it; None if a host is supported. The message is about MMSelfSup,
        or about MMPretrain if that alone is installed.
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
            f'Install the tested versions:  pip install {command}',
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
    if host == 'mmpretrain' and not problems and _mmdet_refuses(installed):
        tested = HOSTS[host]['mmcv'][2]
        state = f'mmdet {installed("mmdet")} is installed, whose import fails with mmcv >=2.2.0'
        problems.append((f'mmcv <2.2.0, for {state}', f'"mmcv=={tested}"'))
    return problems


def _mmdet_refuses(installed: Installed) -> bool:
    """Whether MMDetection raises an AssertionError, at which the import of MMPretrain's models
    fails (mmdet/__init__.py, mmpretrain/models/utils/box_utils.py)."""
    return _within(installed('mmdet'), '3.0', '3.4') and not _within(installed('mmcv'), '2', '2.2')


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
