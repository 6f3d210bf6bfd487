"""The verdict on a run: learning, on a plateau, collapsed or with an overfitted graph."""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope

from ..compat.host import HOOKS
from ..config import require_registered
from ..engine.chance import chance_levels
from ..engine.hooks.memory_hook import MAX_SIMILARITY, MemoryHook
from ..evaluation import Curve, TrainingRun
from .blocks import Block, Unavailable, Verdict
from .run_data import RunData, is_graph

# Loss relative to its chance level below which a run learns. On 1,000 photographs, InvP ended at
# 0.99 with an MLP neck, which did not learn, and at 0.78 with a linear neck, which did.
LEARNING = 0.95
# Decrease over the last quarter of the epochs, relative to the chance level, of a falling loss.
FALLING = 0.02
# Mean similarity along the edges above which the graph is overfitted. In runs that learned, with
# and without propagation, it was 0.71 to 0.94 on 10,000 photographs and 0.98 on the digits.
MAX_EDGE_SIMILARITY = 0.995
# Purity at one hop in the last log relative to its best, below which the graph is overfitted.
MIN_PURITY = 0.9
MAX_ROWS = 1000  # Rows whose edges are compared.
GRAPH_ADVICE = (
    'Try, in this order: fewer epochs (train_cfg.max_epochs), propagation along mutual edges only '
    "(model.head.edges='mutual'), fewer hops (model.head.hops), a lower weight of the propagation "
    'loss (model.head.lambda_inv), a later start (default_hooks.memory.ramp_epochs).'
)


class Progress(NamedTuple):
    """Means of a loss over the first epoch, the one at three quarters of the run, and the last."""

    name: str
    epochs: int
    first: float
    earlier: float
    last: float
    chance: float | None


def verdict(data: RunData) -> list[Block]:
    """Summarise whether the run learned, and which options to change."""
    rows = len(data.run.state.get('memory.bank', ()))
    chance = chance_levels(getattr(data.model, 'head', None), rows)
    found = assess(data.run, chance)
    if found.state == 'bad' and not found.advice:
        found = replace(found, advice=advice_of(data))
    return [found]


def assess(run: TrainingRun, chance: dict[str, float]) -> Verdict:
    """Judge a run by its loss, its features and its graph, without labels where possible.

    The first condition that holds decides:

    1. Collapsed: the mean cosine similarity between different images is above 0.95, as in the
       warnings during training.
    2. Overfitted graph: the propagation loss has a weight, and the mean cosine similarity along the
       edges is above 0.995; or, with labels, the purity at one hop is below 90 % of its best.
    3. Learning: the loss is below 95 % of its level in ``chance``, the value for features that do
       not distinguish images.
    4. Too early to tell: the loss still falls. Plateau: it does not.
    """
    progress = _progress(run, chance)
    similarity, edges = _feature_similarity(run.curves), edge_similarity(run)
    facts = [
        (progress.name, f'{progress.first:.2f} in the first epoch, {progress.last:.2f} in the last')
    ]
    if progress.chance is not None:
        share = progress.last / progress.chance
        facts.append(('chance level', f'{progress.chance:.2f}; the loss is at {share:.0%} of it'))
    if similarity is not None:
        facts.append(('similarity of different images', f'{similarity:.2f} (collapsed: 1)'))
    if edges is not None:
        facts.append(('similarity of neighbours', f'{edges:.2f} (mean over the edges)'))
    state, title, text, advice = (
        _collapse(similarity) or _overfitting(run, edges) or _learning(run, progress)
    )
    return Verdict(state, title, text, facts, advice)


def _collapse(similarity: float | None) -> tuple[str, str, str, str] | None:
    if similarity is None or similarity <= MAX_SIMILARITY:
        return None
    text = (
        'The features of different images are almost alike: their mean cosine similarity is '
        f'{similarity:.2f}, and 1 if all are equal.'
    )
    return 'bad', 'Collapsed', text, ''


def _overfitting(run: TrainingRun, edges: float | None) -> tuple[str, str, str, str] | None:
    """Judge the graph, if the loss follows its edges."""
    inv = run.curves.get('loss_inv')
    if inv is None or not inv.value[-1]:
        return None
    if edges is not None and edges > MAX_EDGE_SIMILARITY:
        text = (
            'The features of different images differ, but those of neighbours coincide (mean '
            f'cosine similarity {edges:.3f}). The loss confirms the edges that the graph already '
            'has, right or wrong.'
        )
        return 'bad', 'Overfitted graph', text, GRAPH_ADVICE
    purity = run.curves.get('graph/purity_hop1')
    if purity is not None and purity.value[-1] < MIN_PURITY * max(purity.value):
        best = max(range(len(purity.value)), key=purity.value.__getitem__)
        text = (
            f'The share of neighbours of the same class fell from {purity.value[best]:.0f} % in '
            f'epoch {purity.epoch[best]:g} to {purity.value[-1]:.0f} %.'
        )
        return 'bad', 'Overfitted graph', text, GRAPH_ADVICE
    return None


def _learning(run: TrainingRun, progress: Progress) -> tuple[str, str, str, str]:
    chance, last = progress.chance, progress.last
    if chance is None:
        text = (
            f'The features have not collapsed. The loss of {run.config.model.type} has no fixed '
            'chance level to compare with; see the curves below.'
        )
        return 'open', 'Not collapsed', text, ''
    compared = (
        f'In the last epoch the mean of {progress.name} is {last / chance:.0%} of its chance level'
    )
    falling = progress.earlier - last > FALLING * chance
    if last < LEARNING * chance:
        more = 'The loss still falls: more epochs (train_cfg.max_epochs) may help.'
        text = f'{compared}: the features distinguish images.'
        return 'good', 'Learning', text, more if falling else ''
    if falling or progress.epochs == 1:
        text = f'{compared}, and it still falls.'
        return 'open', 'Too early to tell', text, 'Train for more epochs (train_cfg.max_epochs).'
    text = f'{compared}, where features do not distinguish images, and it does not fall.'
    return 'bad', 'Plateau', text, ''


def _progress(run: TrainingRun, chance: dict[str, float]) -> Progress:
    name, level = next(iter(chance.items()), ('loss', None))
    if name not in run.curves:
        raise Unavailable('the log has no loss')
    curve = run.curves[name]
    epochs = math.ceil(curve.epoch[-1])
    means = (_epoch_mean(curve, at) for at in (1, epochs * 3 // 4, epochs))
    return Progress(name, epochs, *means, level)


def edge_similarity(run: TrainingRun) -> float | None:
    """Mean cosine similarity along the edges of the saved graph, of 1000 rows; None without one."""
    bank, neighbours = (run.state.get(f'memory.{name}') for name in ('bank', 'neighbours'))
    if bank is None or neighbours is None or bank.dim() != 2:
        return None
    if not is_graph(neighbours, len(bank)):
        return None
    rows = torch.linspace(0, len(bank) - 1, min(len(bank), MAX_ROWS)).long()
    target = neighbours[rows]
    unit = F.normalize(bank.float(), dim=1)
    similarity = torch.einsum('rd,rkd->rk', unit[rows], unit[target.clamp(min=0)])[target >= 0]
    return similarity.mean().item() if len(similarity) else None


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


def advice_of(data: RunData) -> str:
    """The options to change, from the hook of the method; empty without one."""
    config = data.run.config
    hooks = [*config.get('default_hooks', {}).values(), *config.get('custom_hooks', [])]
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        for settings in filter(None, hooks):
            try:
                require_registered(settings)
            except ValueError:  # MMEngine would import its module, whatever it is.
                continue
            kind = HOOKS.get(settings['type'])
            if kind is not None and issubclass(kind, MemoryHook):
                hook = HOOKS.build(settings)
                hook.memory = hook.find_memory(data.model)
                return f'Try, in this order: {hook.collapse_advice(data.model)}.'
    return ''
