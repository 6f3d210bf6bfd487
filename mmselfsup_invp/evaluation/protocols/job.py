"""What is to be evaluated, and what came of it."""

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmselfsup.registry import MODELS
from torch import nn

from ..checkpoints import PretrainedBackbone


@dataclass(frozen=True)
class Benchmark:
    """The ``benchmark`` entry of a config.

    Attributes:
        name (str): What the command line calls it.
        title (str): One line for people.
        kind (str): Which function runs it: a key of :data:`~.KINDS`.
        metric (str): The figure that counts, as the log names it; higher is better.
        data (str | Sequence[str]): Names of the data sets for ``tools/prepare_data.py``.
        backbone (dict): Settings of the backbone on top of those of its checkpoint.
        options (dict): What the function takes besides.
        published (dict[str, float]): Rows of the papers by method.
    """

    name: str
    title: str
    kind: str
    metric: str
    data: str | Sequence[str]
    backbone: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    published: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Figures of a finished evaluation.

    Attributes:
        last (float): The metric at the end.
        best (float, optional): Its highest value on the way; None where only the end is measured.
        epochs (int | str): Epochs trained on top of the checkpoint, 0 where nothing is trained, and
            ``'24000 iterations'`` where training is not by epochs.
        figures (dict[str, float]): All that was measured.
    """

    last: float
    best: float | None
    epochs: int | str
    figures: dict[str, float]


@dataclass(frozen=True)
class Job:
    """A benchmark of a checkpoint.

    Attributes:
        benchmark (Benchmark): What is done.
        config (Config): The whole config.
        backbone (PretrainedBackbone): The checkpoint.
        work_dir (Path): For logs and checkpoints.
        random_init (bool): Whether the network is evaluated as it is initialised.
        seed (int): Of everything that is drawn.
    """

    benchmark: Benchmark
    config: Config
    backbone: PretrainedBackbone
    work_dir: Path
    random_init: bool = False
    seed: int = 0

    def backbone_config(self) -> dict[str, Any]:
        """Config of the backbone, weights included, under whatever scope it is built."""
        config = {**self.backbone.build_config(self.random_init), **self.benchmark.backbone}
        if '.' not in config['type']:
            config['type'] = f'mmselfsup.{config["type"]}'
        return config

    def preprocessor_config(self) -> dict[str, Any]:
        """Config of the classifier's preprocessor: the pixels as the checkpoint's run had them."""
        own = self.backbone.preprocessor
        return dict(
            type='mmcls.ClsDataPreprocessor',
            mean=own.get('mean'),
            std=own.get('std'),
            to_rgb=own.get('bgr_to_rgb', own.get('to_rgb', False)),
        )

    def build_backbone(self) -> nn.Module:
        """The network with its weights, in evaluation mode.

        Raises:
            ValueError: If a weight of the checkpoint did not arrive.
        """
        torch.manual_seed(self.seed)
        with DefaultScope.overwrite_default_scope('mmselfsup'), _without_info():
            backbone = MODELS.build(copy.deepcopy(self.backbone_config()))
            backbone.init_weights()
        if not self.random_init:
            self.backbone.check_loaded(backbone.state_dict())
        backbone.eval()
        return backbone


@contextmanager
def _without_info() -> Iterator[None]:
    """MMEngine tells of each weight that it was initialised."""
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def read_benchmark(path: str | Path) -> tuple[Benchmark, Config]:
    """Read the config of a benchmark.

    Raises:
        ValueError: If it has no ``benchmark`` entry, or one with unknown or missing keys.
    """
    config = Config.fromfile(str(path))
    entry = config.get('benchmark')
    if entry is None:
        raise ValueError(
            f'{path} is no benchmark: it has no `benchmark = dict(name=..., kind=..., ...)`. Those '
            'in configs/benchmarks have.'
        )
    try:
        return Benchmark(**entry.to_dict()), config
    except TypeError as error:
        valid = ', '.join(Benchmark.__dataclass_fields__)
        raise ValueError(f'The benchmark of {path}: {error}. Its keys: {valid}.') from error


def find_benchmarks(root: str | Path) -> Iterator[tuple[Path, Benchmark]]:
    """All benchmarks among the configs in a folder and its folders, in the order of their paths.

    Those that inherit from a package that is not installed (mmdet) are left out.
    """
    for path in sorted(Path(root).rglob('*.py')):
        if '_base_' not in path.parts:
            with suppress(ImportError):
                yield path, read_benchmark(path)[0]
