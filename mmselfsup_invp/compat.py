"""Version checks and patches of the host: MMSelfSup 1.0 with MMEngine, mmcv and MMClassification.

Importing this module needs the standard library alone. Each patch names its upstream reference,
changes nothing where the host does not need it, and can be applied repeatedly.
"""

from collections.abc import Callable, Iterable
from functools import cache, wraps
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pickle import UnpicklingError

# Package: (lowest version, first version that is too new, tested version).
SUPPORTED: dict[str, tuple[str, str, str]] = {
    'torch': ('2.0', '2.12', '2.11.0'),
    'mmengine': ('0.10.0', '1.0.0', '0.10.7'),
    'mmcv': ('2.0.0', '2.1.0', '2.0.1'),
    'mmcls': ('1.0.0rc6', '1.1.0', '1.0.0rc6'),
    'mmselfsup': ('1.0.0', '1.1.0', '1.0.0'),
    # mmcv 2.0.1 raises OverflowError in adjust_hue (mmcv/image/photometric.py).
    'numpy': ('1.22', '2', '1.26.4'),
    # MMEngine imports pkg_resources (mmengine/utils/package_utils.py), removed in setuptools 81.
    'setuptools': ('58', '81', '80.8.0'),
}
# Distributions that also provide a package; the one without compiled operations is installed.
ALTERNATIVES = {'mmcv': 'mmcv-lite'}
# Hooks that MMEngine registers by default.
OWN_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
# Parts of this package that import the host.
NEED_HOST = ('cli', 'datasets', 'engine', 'evaluation', 'export', 'models', 'visualization')


class UnsupportedHost(ImportError):
    """A package of the host is missing, or its version is not supported."""


# ---- versions ------------------------------------------------------------------------------------


def require_host() -> None:
    """Raise :class:`UnsupportedHost` if the components cannot work with the installed packages."""
    if error := host_error():
        raise UnsupportedHost(error)


@cache
def host_error() -> str | None:
    """What :func:`check_versions` finds in this environment; determined once."""
    return check_versions(installed_version)


def check_versions(installed: Callable[[str], str | None]) -> str | None:
    """Compare versions with :data:`SUPPORTED`.

    Args:
        installed (Callable): Returns the version of a package, or None if it is not installed.

    Returns:
        str | None: A message that names every unsupported package, what is supported and the
        command that installs it; None if all versions are supported.
    """
    found = {package: installed(package) for package in SUPPORTED}
    wrong = [package for package, number in found.items() if not _is_supported(package, number)]
    if not wrong:
        return None
    lines, command = [], []
    for package in wrong:
        low, end, tested = SUPPORTED[package]
        state = f'{found[package]} is installed' if found[package] else 'it is not installed'
        lines.append(f'    {package} >={low},<{end}, but {state}')
        name = package if found[package] else ALTERNATIVES.get(package, package)
        command.append(f'"{name}=={tested}"')
    return '\n'.join(
        [
            'Its components for MMSelfSup need',
            *lines,
            f'Install the tested versions:  pip install {" ".join(command)}',
            'mmselfsup_invp.ops and mmselfsup_invp.memory work without them.',
        ]
    )


def _is_supported(package: str, number: str | None) -> bool:
    if number is None:
        return False
    try:
        from packaging.version import Version
    except ImportError:  # PyTorch does not require it, the host does: others are missing too.
        return True
    low, end, _ = SUPPORTED[package]
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


# ---- patches -------------------------------------------------------------------------------------


def apply_patches() -> None:
    """Apply all patches; ``import mmselfsup_invp`` does so for a supported host."""
    drop_missing_registry_locations()
    allow_checkpoint_globals()
    register_config_prefix()
    report_empty_datasets()
    report_unreadable_lists()
    allow_disabled_hooks()
    import_module('mmselfsup_invp.compat_checkpoints').load_checkpoints_safely()


def drop_missing_registry_locations() -> None:
    """Remove locations that do not exist from MMSelfSup's registries.

    MMSelfSup 1.0.0 on PyPI names ``mmselfsup.engine.runner``, which does not exist, so that every
    ``Runner.train()`` fails (open-mmlab/mmselfsup issue 745, fixed after the release by PR 746).
    """
    registry = import_module('mmselfsup.registry')
    for name in registry.__all__:
        locations = getattr(registry, name)._locations
        locations[:] = [module for module in locations if _exists(module)]


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def allow_checkpoint_globals() -> None:
    """Allow the types of MMEngine's checkpoints in ``torch.load(..., weights_only=True)``.

    From version 2.6 on this is torch's default and refuses ``HistoryBuffer`` and the NumPy types in
    it, so that no run can be resumed (open-mmlab/mmengine PR 1650). Safe loading stays on.
    """
    import torch
    from packaging.version import Version

    if Version(torch.__version__) >= Version('2.6'):
        torch.serialization.add_safe_globals(list(_checkpoint_globals()))


def _checkpoint_globals() -> Iterable[object]:
    import numpy as np
    from mmengine.logging import HistoryBuffer

    # A pickled HistoryBuffer refers to its statistics, which are methods, by getattr.
    yield _history_statistic, 'builtins.getattr'
    yield from (HistoryBuffer, np.ndarray, np.dtype)
    # Arrays and scalars are unpickled through these functions, in NumPy 1 and NumPy 2.
    core = 'numpy.core' if np.__version__.startswith('1.') else 'numpy._core'
    multiarray = import_module(f'{core}.multiarray')
    yield from (multiarray._reconstruct, multiarray.scalar)
    yield from {type(np.dtype(code)) for code in ('f4', 'f8', 'i4', 'i8', '?')}


def _history_statistic(owner: object, name: str) -> Callable:
    """Replace ``getattr`` in checkpoints, which would give access to arbitrary objects."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise UnpicklingError(f'A checkpoint may not look up {name!r} of {owner!r}.')
    return getattr(owner, name)


def register_config_prefix() -> None:
    """Make ``mmselfsup_invp::`` a prefix of configs that MMEngine can inherit from and look up.

    MMEngine 0.10 knows only the prefixes in ``mmengine.config.utils.MODULE2PACKAGE``, which has no
    interface to add one.
    """
    from mmengine.config import utils

    utils.MODULE2PACKAGE.setdefault('mmselfsup_invp', 'mmselfsup_invp')


def report_empty_datasets() -> None:
    """Raise an error that names the data set and its folders when it has no image.

    MMEngine's ``BaseDataset`` fails with "need at least one array to concatenate"
    (open-mmlab/mmsegmentation issue 3576).
    """
    from mmengine.dataset import BaseDataset

    BaseDataset._serialize_data = _patched(BaseDataset._serialize_data, _serialize_non_empty)


def _serialize_non_empty(serialize: Callable, dataset: object) -> tuple:
    from .datasets.info import no_image

    if not dataset.data_list:
        raise no_image(dataset)
    return serialize(dataset)


def report_unreadable_lists() -> None:
    """Raise an error that names the annotation file when it cannot be parsed.

    A blank line or a missing label makes MMSelfSup's ``ImageList`` (datasets/image_list.py) fail
    with "list index out of range" and MMClassification's ``CustomDataset`` (datasets/custom.py)
    with "not enough values to unpack". Neither is reported upstream; both projects are archived.
    """
    from mmcls.datasets import CustomDataset
    from mmselfsup.datasets import ImageList

    for dataset in (CustomDataset, ImageList):
        dataset.load_data_list = _patched(dataset.load_data_list, _load_list)


def _load_list(load: Callable, dataset: object) -> list[dict]:
    from mmengine.fileio import list_from_file

    try:
        return load(dataset)
    except (IndexError, ValueError) as error:
        if not dataset.ann_file:
            raise
        if not any(map(str.strip, list_from_file(dataset.ann_file))):
            return []  # Reported by _serialize_non_empty.
        raise ValueError(
            f'{type(dataset).__name__} cannot read the list {dataset.ann_file} ({error}). Check it '
            'for blank lines, missing labels and file names with blanks. Images without labels, '
            "with any file names, are read by type='ImageFiles'."
        ) from error


def allow_disabled_hooks() -> None:
    """Let ``default_hooks.NAME = None`` disable any hook of a config.

    MMEngine documents None for that purpose, but ``Runner.register_default_hooks`` (0.10.7) accepts
    it for its own six hooks only and fails with a bare ``AssertionError`` for others.
    """
    from mmengine.runner import Runner

    register = Runner.register_default_hooks
    if hasattr(register, '__wrapped__'):
        return

    @wraps(register)
    def register_enabled(self: Runner, hooks: dict | None = None) -> None:
        given = (hooks or {}).items()
        register(
            self, {name: hook for name, hook in given if hook is not None or name in OWN_HOOKS}
        )

    Runner.register_default_hooks = register_enabled


def _patched(method: Callable, replacement: Callable) -> Callable:
    """Wrap a method once; ``replacement`` receives the original method and the object."""
    if hasattr(method, '__wrapped__'):
        return method
    return wraps(method)(lambda self: replacement(method, self))
