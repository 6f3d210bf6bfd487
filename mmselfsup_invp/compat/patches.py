"""Patches of MMEngine and of the host.

Each one names its upstream reference, changes nothing where it is not needed, and can be applied
repeatedly.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from importlib.util import find_spec
from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.config import utils as config_utils
from mmengine.dataset import BaseDataset
from mmengine.fileio import list_from_file
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner, checkpoint
from packaging.version import Version

from .checkpoints import load_checkpoints_safely, patched
from .host import LIST_DATASETS, registries

# Hooks that MMEngine registers by default.
OWN_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')


def apply_patches() -> None:
    """Apply all patches; ``import mmselfsup_invp`` does so for a supported host."""
    drop_missing_registry_locations()
    allow_checkpoint_globals()
    refuse_unsafe_checkpoints()
    register_config_prefix()
    report_empty_datasets()
    report_unreadable_lists()
    allow_disabled_hooks()
    load_checkpoints_safely()


def drop_missing_registry_locations() -> None:
    """Remove locations that do not exist from the host's registries.

    MMSelfSup 1.0.0 on PyPI names ``mmselfsup.engine.runner``, which does not exist, so that every
    ``Runner.train()`` fails (open-mmlab/mmselfsup issue 745, fixed after the release by PR 746).
    """
    for name in registries.__all__:
        locations = getattr(registries, name)._locations
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
    if Version(torch.__version__) >= Version('2.6'):
        torch.serialization.add_safe_globals(list(_checkpoint_globals()))


def _checkpoint_globals() -> Iterable[object]:
    # A pickled HistoryBuffer refers to its statistics, which are methods, by getattr.
    yield _history_statistic, 'builtins.getattr'
    yield from (HistoryBuffer, np.ndarray, np.dtype)
    yield from {type(np.dtype(code)) for code in ('f4', 'f8', 'i4', 'i8', '?')}
    # Arrays and scalars are unpickled by functions of numpy.core.multiarray in NumPy 1 and
    # numpy._core.multiarray in NumPy 2. A checkpoint has the name in the version that wrote it.
    for value in (np.zeros(1), np.float64(0)):
        function = value.__reduce__()[0]
        for core in ('core', '_core'):
            yield function, f'numpy.{core}.multiarray.{function.__name__}'


def _history_statistic(owner: object, name: str) -> Callable:
    """Replace ``getattr`` in checkpoints, which would give access to arbitrary objects."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise UnpicklingError(f'A checkpoint may not look up {name!r} of {owner!r}.')
    return getattr(owner, name)


def refuse_unsafe_checkpoints() -> None:
    """Let no checkpoint be loaded by unrestricted unpickling, which executes code in it.

    onedl-mmengine falls back to that with a warning (``_safe_torch_load`` in runner/checkpoint.py).
    MMEngine has no such function.
    """
    if hasattr(checkpoint, '_safe_torch_load'):
        checkpoint._safe_torch_load = _load_weights_only


def _load_weights_only(
    file: object, map_location: object = None, weights_only: bool | None = None
) -> object:
    return torch.load(file, map_location=map_location, weights_only=True)


def register_config_prefix() -> None:
    """Make ``mmselfsup_invp::`` a prefix of configs that MMEngine can inherit from and look up.

    MMEngine 0.10 knows only the prefixes in ``mmengine.config.utils.MODULE2PACKAGE``, which has no
    interface to add one.
    """
    config_utils.MODULE2PACKAGE.setdefault('mmselfsup_invp', 'mmselfsup_invp')


def report_empty_datasets() -> None:
    """Raise an error that names the data set and its folders when it has no image.

    MMEngine's ``BaseDataset`` fails with "need at least one array to concatenate"
    (open-mmlab/mmsegmentation issue 3576).
    """
    BaseDataset._serialize_data = patched(BaseDataset._serialize_data, _serialize_non_empty)


def _serialize_non_empty(serialize: Callable, dataset: object) -> tuple:
    if not dataset.data_list:
        raise empty_dataset_error(dataset)
    return serialize(dataset)


def empty_dataset_error(dataset: object) -> ValueError:
    """The error for an empty data set, which names its type, its list and its folders."""
    folders = getattr(dataset, 'data_prefix', {}).values()
    paths = ', '.join(filter(None, [getattr(dataset, 'ann_file', ''), *folders]))
    return ValueError(
        f'The data set {type(dataset).__name__} holds no image. Check data_root, ann_file and '
        f'data_prefix of its config{f" ({paths})" if paths else ""}.'
    )


def report_unreadable_lists() -> None:
    """Raise an error that names the annotation file when it cannot be parsed.

    A blank line or a missing label makes MMSelfSup's ``ImageList`` (datasets/image_list.py) fail
    with "list index out of range" and the ``CustomDataset`` of MMClassification and MMPretrain
    (datasets/custom.py) with "not enough values to unpack". Neither is reported upstream.
    """
    for dataset in LIST_DATASETS:
        dataset.load_data_list = patched(dataset.load_data_list, _load_list)


def _load_list(load: Callable, dataset: object) -> list[dict]:
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
