"""A benchmark of a checkpoint, its work folder and its outcome."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from ..checkpoints import PretrainedBackbone, digest
from ..network import build_backbone
from .data import data_roots, lists_digest

# Settings that do not change a result. The folders of the data are compared as absolute paths.
IRRELEVANT = ('data_root', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')


@dataclass(frozen=True)
class Benchmark:
    """The ``benchmark`` entry of a config.

    Attributes:
        name (str): Its name on the command line.
        title (str): A description of one line.
        kind (str): A key of :data:`~.KINDS`, the evaluation that is run.
        data (str | Sequence[str]): Names of the data sets, as ``tools/prepare_data.py`` has them.
        metric (str): The reported metric, as the log names it; higher is better.
        network (str): A part of the type of the backbones that it applies to, such as ``'Res'`` or
            ``'AlexNet'``. Defaults to ``''``, any.
        backbone (dict): Settings of the backbone that override those of its checkpoint.
        options (dict): Options of the evaluation.
        published (dict[str, float]): Results of the papers by method.
    """

    name: str
    title: str
    kind: str
    data: str | Sequence[str]
    metric: str = ''
    network: str = ''
    backbone: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    published: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Metrics of a finished evaluation.

    Attributes:
        last (float): The reported metric at the end.
        best (float, optional): Its highest value over the epochs; None if only the end is measured.
        epochs (int | str): Epochs trained on top of the checkpoint, 0 if nothing is trained, or for
            example ``'24000 iterations'``.
        metrics (dict[str, float]): All metrics.
        interval (tuple[float, float], optional): 95 % confidence interval of ``last``. Defaults to
            None, not measured.
        references (dict[str, float]): The reported metric without pre-training, by name, if it was
            measured.
    """

    last: float
    best: float | None
    epochs: int | str
    metrics: dict[str, float]
    interval: tuple[float, float] | None = None
    references: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A benchmark of a checkpoint.

    Attributes:
        benchmark (Benchmark): The benchmark.
        config (Config): Its whole config.
        backbone (PretrainedBackbone): The checkpoint.
        out (Path): Folder of the results.
        random_init (bool): Whether the network keeps its initial weights. Defaults to False.
        seed (int): Of all random draws. Defaults to 0.
        changes (dict): Settings that the command line has changed.
        launcher (str): Launcher of the processes; see :func:`~.run_detection`. Defaults to
            ``'none'``.
    """

    benchmark: Benchmark
    config: Config
    backbone: PretrainedBackbone
    out: Path
    random_init: bool = False
    seed: int = 0
    changes: dict[str, Any] = field(default_factory=dict)
    launcher: str = 'none'

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What determines the result besides the seed.

        Hashes ``checkpoint`` (network and weights), ``config`` and ``lists`` (of the images), the
        folders ``data``, ``metric``, and ``changes``, the relevant ones.
        """
        config = self.config.to_dict()
        config['benchmark'] = [self.benchmark.kind, self.benchmark.backbone, self.benchmark.options]
        return dict(
            checkpoint=self.backbone.fingerprint(self.random_init),
            config=digest(_relevant(config)),
            data=', '.join(data_roots(self.config)),
            lists=lists_digest(self.config),
            metric=self.benchmark.metric,
            changes=_relevant_changes(self.changes),
        )

    @cached_property
    def id(self) -> str:
        """Hash of the provenance, which tells results of one name apart; 8 digits."""
        return digest({**self.provenance, 'changes': None})[:8]

    @cached_property
    def work_dir(self) -> Path:
        """Folder of logs, checkpoints and features; no other job has the same one."""
        network = 'random' if self.random_init else self.backbone.path.stem
        seed = f'_seed{self.seed}' if self.seed else ''
        return self.out / f'{self.benchmark.name}_{network}{seed}_{self.id}'

    @property
    def result(self) -> Path:
        """The file of the result, beside the work folder."""
        return Path(f'{self.work_dir}.json')

    def backbone_config(self) -> dict[str, Any]:
        """Config of the backbone with its weights, which can be built under any scope."""
        config = {**self.backbone.build_config(self.random_init), **self.benchmark.backbone}
        if '.' not in config['type']:
            config['type'] = f'mmselfsup.{config["type"]}'
        return config

    def build_backbone(self) -> nn.Module:
        """The network with its weights, in evaluation mode."""
        changes = self.benchmark.backbone
        return build_backbone(self.backbone, self.random_init, self.seed, changes)


def _relevant(config: Any) -> Any:
    if isinstance(config, dict):
        items = config.items()
        return {key: _relevant(value) for key, value in items if key not in IRRELEVANT}
    return list(map(_relevant, config)) if isinstance(config, (list, tuple)) else config


def _relevant_changes(changes: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in changes.items() if key.rpartition('.')[2] not in IRRELEVANT
    }
