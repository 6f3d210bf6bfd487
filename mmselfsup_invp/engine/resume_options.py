"""Options of the optimiser and schedules that were changed in the config of a resumed run.

A resumed run restores them from its checkpoint, so that a change would have no effect. The
functions change the checkpoint in place, before it is loaded.
"""

import warnings
from typing import Any

from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import Runner
from torch import Tensor

# What a scheduler counts, beside how it was configured.
PROGRESS = {'last_step', '_global_step', '_last_value', 'base_values', 'verbose'}


def follow_config(checkpoint: dict[str, Any], runner: Runner, epoch_length: int) -> list[str]:
    """Let the optimiser's options and the schedules of the config take effect; say what changed.

    Args:
        checkpoint (dict): Checkpoint to resume from, changed in place.
        runner (Runner): The run, with its optimiser and schedulers as they start.
        epoch_length (int): Iterations of an epoch.

    Returns:
        list[str]: A sentence for each change; none if nothing differs.
    """
    schedulers = schedulers_of(runner)
    if replay_schedules(checkpoint, schedulers, epoch_length):
        taken = take_options(checkpoint, runner.optim_wrapper, set())
        return ['The config has another schedule than the checkpoint.', *taken]
    rate = rescale_learning_rate(checkpoint, runner.optim_wrapper)
    scheduled = {one.param_name for one in schedulers}
    taken = take_options(checkpoint, runner.optim_wrapper, scheduled)
    if rate is None:
        return taken
    saved, configured = rate
    return [
        f'The initial learning rate is {configured:g} in the config and {saved:g} in the '
        'checkpoint.',
        *taken,
    ]


def schedulers_of(runner: Runner) -> list[_ParamScheduler]:
    """Schedulers of a run; none where several optimisers have schedulers of their own."""
    schedulers = runner.param_schedulers
    return schedulers if isinstance(schedulers, list) else []


def replay_schedules(
    checkpoint: dict[str, Any], schedulers: list[_ParamScheduler], epoch_length: int
) -> bool:
    """Advance the schedulers of the config to the iteration of a checkpoint, if others are in it.

    Returns:
        bool: Whether they differ and the checkpoint now holds the schedulers of the config.
    """
    saved = checkpoint.get('param_schedulers')
    configured = [_settings(one.state_dict()) for one in schedulers]
    if not isinstance(saved, list) or [_settings(one) for one in saved] == configured:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # No optimiser steps in between.
        for iteration in range(1, checkpoint['meta']['iter'] + 1):
            for one in schedulers:
                if not one.by_epoch or iteration % epoch_length == 0:
                    one.step()
    checkpoint['param_schedulers'] = [one.state_dict() for one in schedulers]
    return True


def rescale_learning_rate(
    checkpoint: dict[str, Any], optim_wrapper: OptimWrapper
) -> tuple[float, float] | None:
    """Scale the learning rates in a checkpoint to those of the config; the schedule continues.

    The rate of every parameter group, and the state of the schedulers, is multiplied by the ratio
    of the two initial values.

    Returns:
        tuple[float, float] | None: Initial rate of the first group that differs, in the checkpoint
        and in the config; None if all are equal or there is nothing to compare.
    """
    groups = _groups(checkpoint, optim_wrapper)
    pairs = [(_initial(old), _initial(new)) for old, new in groups]
    changed = [(old, new) for old, new in pairs if old and old != new]
    if not changed:
        return None
    ratios = [new / old if old else 1.0 for old, new in pairs]
    for (group, _), ratio in zip(groups, ratios, strict=True):
        for name in ('lr', 'initial_lr'):
            if name in group:
                group[name] *= ratio
    for scheduler in checkpoint.get('param_schedulers', []):
        if scheduler['param_name'] == 'lr':
            for name in ('base_values', '_last_value'):
                values = zip(scheduler[name], ratios, strict=True)
                scheduler[name] = [value * ratio for value, ratio in values]
    return changed[0]


def take_options(
    checkpoint: dict[str, Any], optim_wrapper: OptimWrapper, scheduled: set[str]
) -> list[str]:
    """Replace the optimiser's options in a checkpoint by those of the config.

    Args:
        checkpoint (dict): Changed in place.
        optim_wrapper (OptimWrapper): Built from the config.
        scheduled (set[str]): Options to leave, which a scheduler of the checkpoint changes.

    Returns:
        list[str]: A sentence for each option that differs in any group.
    """
    found = {}
    for old, new in _groups(checkpoint, optim_wrapper):
        for name in (old.keys() & new.keys()) - scheduled - {'params'}:
            values = old[name], new[name]
            if any(isinstance(value, Tensor) for value in values) or values[0] == values[1]:
                continue
            old[name] = new[name]
            found.setdefault(name, values)
    return [
        f'The optimiser has {name} = {new} in the config and {old} in the checkpoint.'
        for name, (old, new) in sorted(found.items())
        if not name.startswith('initial_') and name != 'lr'
    ]


def _groups(
    checkpoint: dict[str, Any], optim_wrapper: OptimWrapper
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Parameter groups of the checkpoint and of the config; none of another network."""
    state = checkpoint.get('optimizer', {})
    saved = [*state.get('param_groups', [])]
    if 'base_param_settings' in state:
        saved.append(state['base_param_settings'])
    current = optim_wrapper.param_groups
    # Another number of groups is refused by load_state_dict().
    return list(zip(saved, current, strict=True)) if len(saved) == len(current) else []


def _settings(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name not in PROGRESS}


def _initial(group: dict[str, Any]) -> float:
    return group.get('initial_lr', group['lr'])
