"""Checks of a checkpoint that MMEngine would load with wrong values."""

from typing import Any

from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor


def require_resumable(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """Raise ``ValueError`` unless counters and optimiser state of a checkpoint can be resumed."""
    meta = checkpoint.get('meta')
    for name in ('epoch', 'iter'):
        value = meta.get(name) if isinstance(meta, dict) else None
        if type(value) is not int or value < 0:
            raise ValueError(
                f'its meta[{name!r}] is {value!r}. Resume from the epoch_*.pth of a run, or set '
                'load_from without resume to start from its weights.'
            )
    if 'optimizer' in checkpoint:
        _require_same_optimizer(runner.optim_wrapper, checkpoint['optimizer'])


def _require_same_optimizer(wrapper: OptimWrapper, saved: dict[str, Any]) -> None:
    """``load_state_dict`` of PyTorch compares the lengths of the parameter groups only."""
    parameters = [one for group in wrapper.optimizer.param_groups for one in group['params']]
    for index, state in saved['state'].items():
        for name, value in state.items():
            if not isinstance(value, Tensor) or not value.dim():  # Counters of steps.
                continue
            if index >= len(parameters) or value.shape != parameters[index].shape:
                raise ValueError(
                    f'its optimizer has {name} of shape {tuple(value.shape)} for parameter '
                    f'{index}, which the model does not have in this shape.'
                )
