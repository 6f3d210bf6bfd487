"""All that checks or mends the host toolbox, in one place.

The faults are those of released packages; each mend names where it is known upstream, is applied
once on import, may be applied again without harm, and does nothing where it is not needed.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pickle import UnpicklingError

from packaging.version import Version

# Package: (lowest, first that is too new, the one that is tested).
SUPPORTED: dict[str, tuple[str, str, str]] = {
    'torch': ('2.0', '2.12', '2.11.0'),
    'mmengine': ('0.10.0', '1.0.0', '0.10.7'),
    'mmcv': ('2.0.0', '2.1.0', '2.0.1'),
    'mmcls': ('1.0.0rc6', '1.1.0', '1.0.0rc6'),
    'mmselfsup': ('1.0.0', '1.1.0', '1.0.0'),
}
# Names under which the same import package is also distributed.
ALTERNATIVES = {'mmcv': ('mmcv-lite',)}


class UnsupportedHost(ImportError):
    """The installed packages cannot carry the plugin."""


def prepare() -> None:
    """Check the host, then mend it. Called on ``import mmselfsup_invp``.

    Raises:
        UnsupportedHost: If a package is missing or its version is not supported.
    """
    check_versions()
    drop_missing_registry_locations()
    allow_checkpoint_types()
    announce_configs()
    name_empty_data_sets()
    name_faulty_lists()


def check_versions(installed: Callable[[str], str | None] | None = None) -> None:
    """Refuse a host outside :data:`SUPPORTED`, in one sentence.

    Args:
        installed (Callable, optional): Gives a package's version or None. Defaults to None,
            what is installed here.

    Raises:
        UnsupportedHost: Says what was found, what is supported and the command that mends it.
    """
    find = installed or _installed
    for package, (low, beyond, tested) in SUPPORTED.items():
        found = find(package)
        # The public part: a local label ("2.11.0+cu130") says nothing about compatibility.
        if found and Version(low) <= Version(Version(found).public) < Version(beyond):
            continue
        state = 'is not installed' if found is None else f'{found} is not supported'
        raise UnsupportedHost(
            f'{package} {state}; mmselfsup_invp works with {package} >={low},<{beyond}: '
            f'pip install "{package}=={tested}"'
        )


def _installed(package: str) -> str | None:
    for name in (package, *ALTERNATIVES.get(package, ())):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def drop_missing_registry_locations() -> None:
    """Let the registries of MMSelfSup 1.0.0 forget locations that do not exist.

    The released wheel names ``mmselfsup.engine.runner``, which was never there, so that every
    ``Runner.train()`` fails (open-mmlab/mmselfsup issue 745, mended after the release by 746).
    """
    registry = import_module('mmselfsup.registry')
    for name in registry.__all__:
        node = getattr(registry, name)
        node._locations[:] = [place for place in node._locations if _exists(place)]


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def allow_checkpoint_types() -> None:
    """Name the types in MMEngine's checkpoints that torch's safe loading must accept.

    From torch 2.6 on ``torch.load`` refuses types it does not know (open-mmlab/mmengine PR 1650):
    a run's ``HistoryBuffer`` and the NumPy arrays in it. Safe loading itself stays on.
    """
    import torch

    if Version(torch.__version__) >= Version('2.6'):
        torch.serialization.add_safe_globals(list(_checkpoint_types()))


def _checkpoint_types() -> Iterable[object]:
    import numpy as np
    from mmengine.logging import HistoryBuffer

    # A history's pickle names its statistics, which are methods, by getattr.
    yield _history_statistic, 'builtins.getattr'
    multiarray = import_module('numpy._core.multiarray' if _numpy2() else 'numpy.core.multiarray')
    yield from (HistoryBuffer, np.ndarray, np.dtype)
    yield multiarray._reconstruct
    # What a scalar inside the history unpickles through.
    yield multiarray.scalar
    yield from {type(np.dtype(code)) for code in ('f4', 'f8', 'i4', 'i8', '?')}


def _history_statistic(owner: object, name: str) -> Callable:
    """Stand in for ``getattr`` in checkpoints, where it would open a door to everything."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise UnpicklingError(f'A checkpoint may not look up {name!r} of {owner!r}.')
    return getattr(owner, name)


def _numpy2() -> bool:
    import numpy as np

    return Version(np.__version__) >= Version('2.0')


def announce_configs() -> None:
    """Make ``mmselfsup_invp::invp/...`` a name that MMEngine's configs may inherit from."""
    from mmengine.config import utils

    utils.MODULE2PACKAGE.setdefault('mmselfsup_invp', 'mmselfsup_invp')


def name_empty_data_sets() -> None:
    """Let an empty data set say so, and where it looked.

    MMEngine's end in "need at least one array to concatenate" (open-mmlab/mmsegmentation issue
    3576), long before a hook could count the images.
    """
    from mmengine.dataset import BaseDataset

    BaseDataset._serialize_data = _mended(BaseDataset._serialize_data, _serialise_some)


def _serialise_some(serialise: Callable, dataset: object) -> tuple:
    from .datasets.info import no_image

    if not dataset.data_list:
        raise no_image(dataset)
    return serialise(dataset)


def name_faulty_lists() -> None:
    """Let the data sets of image lists name a list that they cannot read.

    MMSelfSup's ``ImageList`` ends in "list index out of range" at an empty list or a blank line,
    MMClassification's ``CustomDataset`` in "not enough values to unpack" (neither reported).
    """
    from mmcls.datasets import CustomDataset
    from mmselfsup.datasets import ImageList

    for dataset in (CustomDataset, ImageList):
        dataset.load_data_list = _mended(dataset.load_data_list, _load_named)


def _load_named(load: Callable, dataset: object) -> list[dict]:
    from mmengine.fileio import list_from_file

    try:
        return load(dataset)
    except (IndexError, ValueError) as error:
        if not dataset.ann_file:
            raise
        if not any(map(str.strip, list_from_file(dataset.ann_file))):
            return []  # Which is named where the images are counted.
        raise ValueError(
            f'{type(dataset).__name__} cannot read the list {dataset.ann_file} ({error}). Look for '
            'a blank line, a missing label or a blank in a name; images without labels, with any '
            "names, are read by type='ImageFiles'."
        ) from error


def _mended(method: Callable, mend: Callable) -> Callable:
    """Wrap a method once: ``mend`` is given the method and its object."""
    if hasattr(method, '__wrapped__'):
        return method
    return wraps(method)(lambda self: mend(method, self))
