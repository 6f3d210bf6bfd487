"""Patches of MMEngine that make every checkpoint safe to open, whoever wrote it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from mmengine.model.weight_init import PretrainedInit
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner import checkpoint as mmengine_checkpoint
from packaging.version import Version
from torch import nn

from ..checkpoint_files import no_checkpoint, require_intact

# Set to 1, torch before 2.6 executes what checkpoints contain.
TRUST = 'MMSELFSUP_INVP_TRUST_CHECKPOINTS'
ZIP_MAGIC = b'PK'


def load_checkpoints_safely() -> None:
    """Let MMEngine execute nothing that a checkpoint contains, and name the file in errors.

    MMEngine 0.10.7 unpickles downloaded files without ``weights_only``, and ``Runner.resume``
    executes the text in ``meta['config']``. A checkpoint of which nothing fits is only logged.
    """
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    mmengine_checkpoint.load_url = patched(mmengine_checkpoint.load_url, _load_url)
    mmengine_checkpoint.load_state_dict = patched(
        mmengine_checkpoint.load_state_dict, _load_state_dict
    )
    Runner.load_or_resume = patched(Runner.load_or_resume, _load_or_resume)
    PretrainedInit.__call__ = patched(PretrainedInit.__call__, _initialise)


def patched(function: Callable, replacement: Callable) -> Callable:
    """Wrap a function once; the original is the first argument of the replacement."""
    if hasattr(function, '__wrapped__'):
        return function
    return wraps(function)(lambda *args, **options: replacement(function, *args, **options))


def load_from_local(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load a local checkpoint as data: the loader of MMEngine for paths.

    Args:
        filename (str): A file of ``torch.save``.
        map_location (optional): As for ``torch.load``.

    Returns:
        dict: The content, without ``meta['config']``, which ``Runner.resume`` would execute.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or holds anything but tensors and plain data.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(no_checkpoint(path))
    with path.open('rb') as file:
        is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    if is_zip:
        require_intact(path)
    safety = _safety()
    try:
        content = torch.load(path, map_location=map_location, **safety)
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # The unpickler fails in many ways.
        raise ValueError(
            f'{path} cannot be read: it is no checkpoint of PyTorch, or it contains more than '
            'tensors and plain data, which is not executed.'
        ) from error
    _check(path, content)
    return content


def _check(path: Path, content: Any) -> None:
    """Raise ``ValueError`` for content of the wrong type; remove what would be executed."""
    if not isinstance(content, dict):
        raise ValueError(f'{path} is no checkpoint: it holds a {type(content).__name__}.')
    state, meta = content.get('state_dict', {}), content.get('meta')
    if not isinstance(state, dict):
        raise ValueError(f'{path} is no checkpoint: its state_dict is a {type(state).__name__}.')
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and value.nbytes > value.untyped_storage().nbytes():
            raise ValueError(
                f'{path} is refused: {name} of shape {tuple(value.shape)} repeats its elements, '
                'which no weight does, and would fill the memory when it is copied.'
            )
    if isinstance(meta, dict):
        meta.pop('config', None)


def _safety() -> dict[str, bool]:
    """Arguments of ``torch.load``."""
    if Version(torch.__version__) >= Version('2.6'):
        return dict(weights_only=True)
    if os.environ.get(TRUST) == '1':
        return dict(weights_only=False)
    raise ValueError(
        f'torch {torch.__version__} cannot load the checkpoints of MMEngine without executing what '
        f'they contain. Install torch 2.6 or later, or set {TRUST}=1 if you trust all checkpoints '
        'that you load.'
    )


def _load_url(load: Callable, url: str, *args: Any, **options: Any) -> Any:
    safe = _safety()['weights_only']  # Older versions of torch do not have the argument.
    return load(url, *args, **options, **(dict(weights_only=True) if safe else {}))


def _load_state_dict(
    load: Callable, module: nn.Module, state_dict: dict[str, Any], *args: Any, **options: Any
) -> None:
    # MMEngine unwraps modules in a wrapper.
    own = {name.removeprefix('module.'): value for name, value in module.named_parameters()}
    fits = (getattr(state_dict.get(name), 'shape', None) == own[name].shape for name in own)
    if own and not any(fits):
        raise ValueError(
            f'none of the {len(state_dict)} weights has the name and shape of one of the '
            f'{type(module).__name__}.'
        )
    load(module, state_dict, *args, **options)


def _load_or_resume(load: Callable, runner: Runner) -> None:
    with _named(runner._load_from):
        load(runner)


def _initialise(initialise: Callable, init: PretrainedInit, module: nn.Module) -> None:
    with _named(init.checkpoint):
        initialise(init, module)


@contextmanager
def _named(checkpoint: str | None) -> Iterator[None]:
    """Name the checkpoint in an error that loading it raises."""
    try:
        yield
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        if not checkpoint or str(checkpoint) in str(error):
            raise
        reason = str(error) or type(error).__name__
        raise ValueError(f'{checkpoint} does not fit: {reason}') from error
