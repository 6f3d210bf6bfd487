"""Hooks that record a run, and functions that read its log."""

import json
from collections.abc import Callable
from pathlib import Path

from mmengine.hooks import Hook
from torch import Tensor

from mmselfsup_invp.engine.hooks.common import unwrap
from mmselfsup_invp.structures import sample_ids


class Watch(Hook):
    """Calls back at one point of a run: ``Watch('before_train_iter', callback)``."""

    def __init__(self, point: str, callback: Callable, priority: str = 'LOWEST') -> None:
        self.priority = priority
        setattr(self, point, lambda runner, **inputs: callback(runner, **inputs))


class Steps(Hook):
    """Records the ids and queries of every batch, and the memory before and after its step."""

    priority = 'LOWEST'  # After the memory has committed the batch.

    def __init__(self) -> None:
        self.ids: list[Tensor] = []
        self.query: list[Tensor] = []
        self.before: list[dict[str, Tensor]] = []
        self.at_step: list[dict[str, Tensor]] = []
        self.after: list[dict[str, Tensor]] = []

    def before_train(self, runner) -> None:
        model = unwrap(runner.model)
        forward, step = model.head.forward, runner.optim_wrapper.step

        def watched_forward(query: Tensor, *inputs):
            self.query.append(query.detach().clone())
            return forward(query, *inputs)

        def watched_step(**options):
            step(**options)
            self.at_step.append(snapshot(model))

        model.head.forward = watched_forward
        runner.optim_wrapper.step = watched_step

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.ids.append(ids_of(data_batch))
        self.before.append(snapshot(unwrap(runner.model)))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.after.append(snapshot(unwrap(runner.model)))


def snapshot(model) -> dict[str, Tensor]:
    """Copies of the bank, the graph and a weight."""
    return dict(
        bank=model.memory.bank.clone(),
        neighbours=model.memory.neighbours.clone(),
        weight=model.backbone.conv1.weight.detach().clone(),
    )


def record_staged(memory, features: list[Tensor]) -> None:
    """Append the features of every batch that is staged in a memory to a list."""
    stage = memory.stage

    def recorded(sample: Tensor, feature: Tensor, *others) -> None:
        features.append(feature.detach().clone())
        stage(sample, feature, *others)

    memory.stage = recorded


def ids_of(batch: dict) -> Tensor:
    return sample_ids(batch['data_samples'])


def scalars(work_dir: Path, group: str) -> dict[int, dict[str, float]]:
    """Metrics of a group by step, from the file of the visualizer."""
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    found = {}
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        metrics = {name: value for name, value in entry.items() if name.startswith(f'{group}/')}
        if metrics:
            found[entry['step']] = metrics
    return found


def log_text(work_dir: Path) -> str:
    (path,) = work_dir.glob('*/*.log')
    return path.read_text()
