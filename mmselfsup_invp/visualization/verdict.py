"""The verdict on a run: collapsed, on a plateau or learning."""

import math

from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from ..compat.host import HOOKS
from ..engine.hooks.memory_hook import MAX_SIMILARITY, MemoryHook
from ..evaluation import Curve, TrainingRun
from .blocks import Block, Paragraph, Unavailable
from .run_data import RunData

# Loss relative to its chance level below which a run learns. On 1,000 photographs, InvP ended at
# 0.99 with an MLP neck, which did not learn, and at 0.78 with a linear neck, which did.
LEARNING = 0.95
# Decrease over the last quarter of the epochs, relative to the chance level, of a falling loss.
FALLING = 0.02
# Defaults of HardSamplingLoss and SelfLabelHead.
NUM_BACKGROUND, NUM_CLASSES = 4096, 3000


def verdict(data: RunData) -> list[Block]:
    """Summarise in a few sentences whether the run learned, and which options to change."""
    return [Paragraph(assess(data.run))]


def assess(run: TrainingRun) -> str:
    """Judge a run by the similarity of its features and by its loss.

    A run has collapsed if the mean cosine similarity between different images is above 0.95, as in
    the warnings during training. It learns if its loss is below 95 % of its chance level, the value
    for features that do not distinguish images. Otherwise it is on a plateau, unless the loss is
    still falling.

    Raises:
        Unavailable: If the log has no loss.

    Example:
        >>> assess(read_run('work_dirs/invp'))  # doctest: +SKIP
        'Learning: in the last epoch the mean of loss_ins is 4.12, 78 % of its chance level 5.30 ...
    """
    name, level = chance_level(run) or ('loss', None)
    if name not in run.curves:
        raise Unavailable('the log has no loss')
    curve = run.curves[name]
    epochs = math.ceil(curve.epoch[-1])
    first, earlier, last = (_epoch_mean(curve, at) for at in (1, epochs * 3 // 4, epochs))
    similarity = _feature_similarity(run.curves)
    if similarity is not None and similarity > MAX_SIMILARITY:
        return (
            f'Collapsed: the features of different images are almost alike (mean cosine similarity '
            f'{similarity:.2f}, 1 if all are equal).{_advice(run)}'
        )
    if level is None:
        return (
            f'Not collapsed: the mean of {name} went from {first:.2f} in the first epoch to '
            f'{last:.2f} in the last. {run.config.model.type} has no chance level to compare with.'
        )
    compared = (
        f'in the last epoch the mean of {name} is {last:.2f}, {last / level:.0%} of its chance '
        f'level {level:.2f} (first epoch: {first:.2f}). At the chance level the features do not '
        'distinguish the images'
    )
    if last < LEARNING * level:
        return f'Learning: {compared}.'
    if earlier - last > FALLING * level or epochs == 1:
        return f'Too early to tell: {compared}. The loss is falling; train for more epochs.'
    return f'Plateau: {compared}.{_advice(run)}'


def chance_level(run: TrainingRun) -> tuple[str, float] | None:
    """Compute the loss of a network whose features do not distinguish images.

    For the instance loss of InvP, all similarities are then equal, and the loss is the logarithm
    of the number of rows in its denominator. For SeLa it is the logarithm of the number of classes.

    Returns:
        tuple[str, float] | None: Name of the logged loss and its chance level in nats; None for
        other methods, whose losses have margins or change with the labels.
    """
    model = run.config.model
    method = model.type.rpartition('.')[2]
    if method in ('InvP', 'MomentumInvP') and 'memory.bank' in run.state:
        rows = len(run.state['memory.bank'])
        return 'loss_ins', math.log(_background_rows(model.head.get('loss') or {}, rows))
    if method == 'SeLa':
        return 'loss', math.log(model.head.get('num_classes', NUM_CLASSES))
    return None


def _background_rows(loss: ConfigDict | dict, rows: int) -> int:
    """Count the rows in the denominator of the instance loss."""
    if not loss.get('hard_neg', True):
        return rows
    num = loss.get('num_background', NUM_BACKGROUND)
    exact = loss.get('instance_background', 'exact') == 'exact'
    return min(num + 1 if exact else num, rows)


def _epoch_mean(curve: Curve, epoch: int) -> float:
    """Average a curve over an epoch, or over the last one before it with logged values."""
    points = list(zip(map(math.ceil, curve.epoch), curve.value, strict=True))
    logged = max((at for at, _ in points if at <= epoch), default=points[0][0])
    values = [value for at, value in points if at == logged]
    return sum(values) / len(values)


def _feature_similarity(curves: dict[str, Curve]) -> float | None:
    """Return the last mean cosine similarity between the features of different images."""
    if 'features/similarity' in curves:
        return curves['features/similarity'].value[-1]
    if 'graph/mean_norm' in curves:  # Older logs. The mean over all pairs of unit rows.
        return curves['graph/mean_norm'].value[-1] ** 2
    return None


def _advice(run: TrainingRun) -> str:
    """The options to change, from the hook of the method; empty without one."""
    hooks = [*run.config.get('default_hooks', {}).values(), *run.config.get('custom_hooks', [])]
    with DefaultScope.overwrite_default_scope(run.config.get('default_scope')):
        for hook in filter(None, hooks):
            kind = HOOKS.get(hook['type'])
            if kind is not None and issubclass(kind, MemoryHook):
                return f' Try, in this order: {HOOKS.build(hook).collapse_advice()}.'
    return ''
