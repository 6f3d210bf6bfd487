from typing import Any

from mmengine.optim import OptimWrapper


def rescale_learning_rate(
    checkpoint: dict[str, Any], optim_wrapper: OptimWrapper
) -> tuple[float, float] | None:
    """Scale the learning rates in a checkpoint, which is changed in place, to those of the config.

    A resumed run restores the learning rate from its checkpoint, so that a value changed in the
    config would have no effect. Here the rate of every parameter group, and the state of the
    schedulers, is multiplied by the ratio of the two initial values; the schedule continues.

    Returns:
        tuple[float, float] | None: Initial rate of the first group that differs, in the checkpoint
        and in the config; None if all are equal or there is nothing to compare.
    """
    state = checkpoint.get('optimizer', {})
    saved = [*state.get('param_groups', [])]
    if 'base_param_settings' in state:
        saved.append(state['base_param_settings'])
    current = optim_wrapper.param_groups
    if len(saved) != len(current):  # Another network, which load_state_dict() refuses.
        return None
    pairs = [(_initial(old), _initial(new)) for old, new in zip(saved, current, strict=True)]
    changed = [(old, new) for old, new in pairs if old and old != new]
    if not changed:
        return None
    ratios = [new / old if old else 1.0 for old, new in pairs]
    for group, ratio in zip(saved, ratios, strict=True):
        for name in ('lr', 'initial_lr'):
            if name in group:
                group[name] *= ratio
    for scheduler in checkpoint.get('param_schedulers', []):
        if scheduler['param_name'] == 'lr':
            for name in ('base_values', '_last_value'):
                values = zip(scheduler[name], ratios, strict=True)
                scheduler[name] = [value * ratio for value, ratio in values]
    return changed[0]


def _initial(group: dict[str, Any]) -> float:
    return group.get('initial_lr', group['lr'])
