"""What is to be evaluated, and what came of it."""

import copy
import logging
from collections import defaultdict
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

from ...config import merge_options
from ...ops.checks import require_choice
from ..checkpoints import PretrainedBackbone

SVM = ('costs', 'folds', 'max_iter', 'rule', 'jobs')
# What a benchmark's options may name, by its kind.
OPTIONS = {
    'training': (),
    'detection': (),
    'knn': ('k', 'temperature'),
    'similarity': ('num_neighbours', 'num_others', 'num_queries'),
    'svm': SVM,
    'few_shot': ('shots', 'samples', *SVM),
}
REQUIRED = {'knn': OPTIONS['knn']}
COUNTS = ('k', 'samples', 'folds', 'max_iter', *OPTIONS['similarity'])
# Where any figure of the log may count, there is no entry.
METRICS = {
    'svm': ('mAP',),
    'few_shot': ('mAP',),
    'similarity': ('auroc',),
    'detection': ('AP50', 'AP', 'AP75'),
}


@dataclass(frozen=True)
class Benchmark:
    """The ``benchmark`` entry of a config.

    Attributes:
        name (str): What the command line calls it.
        title (str): One line for people.
        kind (str): Which function runs it: a key of :data:`~.KINDS`.
        data (str | Sequence[str]): Names of the data sets, for ``tools/prepare_data.py`` where it
            has them.
        metric (str): The figure that counts, as the log names it; higher is better. That of kNN is
            named here by its ``k`` and ``temperature``.
        network (str): Part of the name of the backbones that it is for, such as ``'Res'`` or
            ``'AlexNet'``; empty for any.
        backbone (dict): Settings of the backbone on top of those of its checkpoint.
        options (dict): What the function takes besides.
        published (dict[str, float]): Rows of the papers by method.
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

    def __post_init__(self) -> None:
        if self.kind == 'knn':
            name = 'k{k}_t{temperature}'.format_map(defaultdict(str, self.options))
            object.__setattr__(self, 'metric', name)


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
        changes (dict): Settings of ``config`` that the benchmark's own config has otherwise.
    """

    benchmark: Benchmark
    config: Config
    backbone: PretrainedBackbone
    work_dir: Path
    random_init: bool = False
    seed: int = 0
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def result(self) -> Path:
        """The file of the result, beside the work folder."""
        return Path(f'{self.work_dir}.json')

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


def read_benchmark(
    path: str | Path, changes: dict[str, Any] | None = None
) -> tuple[Benchmark, Config]:
    """Read the config of a benchmark.

    Args:
        path (str | Path): The config.
        changes (dict, optional): Other settings, ``{'benchmark.options.k': 5}``. Defaults to None.

    Returns:
        tuple[Benchmark, Config]: Its ``benchmark`` entry, and all of it.

    Raises:
        ValueError: If it has no ``benchmark`` entry, or one with unknown or missing keys or
            options, or a setting cannot be changed so.

    Example:
        >>> read_benchmark('configs/benchmarks/classification/digits/knn_digits.py')[0].metric
        'k20_t0.07'
    """
    config = Config.fromfile(str(path))
    try:
        merge_options(config, changes)
    except (TypeError, KeyError, IndexError) as error:
        raise ValueError(f'{path} cannot be changed by {changes}: {error}') from error
    entry = config.get('benchmark')
    if entry is None:
        raise ValueError(
            f'{path} is no benchmark: it has no `benchmark = dict(name=..., kind=..., ...)`. Those '
            'in configs/benchmarks have.'
        )
    try:
        benchmark = Benchmark(**entry.to_dict())
    except TypeError as error:
        valid = ', '.join(Benchmark.__dataclass_fields__)
        raise ValueError(f'The benchmark of {path}: {error}. Its keys: {valid}.') from error
    check_benchmark(benchmark)
    if entry.get('metric', benchmark.metric) != benchmark.metric:
        raise ValueError(
            f'The benchmark of {path} names the metric {entry.metric!r}. That of kNN is named by '
            f'options.k and options.temperature, {benchmark.metric}: leave benchmark.metric out.'
        )
    return benchmark, config


def check_benchmark(benchmark: Benchmark) -> None:
    """Make sure that kind, options and metric are such as a function takes.

    Raises:
        ValueError: Says what is unknown, missing or out of range, and what is valid.
    """
    require_choice('benchmark.kind', benchmark.kind, OPTIONS)
    valid = OPTIONS[benchmark.kind]
    unknown = sorted(benchmark.options.keys() - {*valid})
    if unknown:
        raise ValueError(
            f'benchmark.options of {benchmark.name} has {", ".join(unknown)}; valid for '
            f'kind={benchmark.kind!r}: {", ".join(valid) or "none"}.'
        )
    if benchmark.kind in METRICS:
        require_choice('benchmark.metric', benchmark.metric, METRICS[benchmark.kind])
    elif not benchmark.metric:
        raise ValueError(f'The benchmark {benchmark.name} lacks metric: the figure that counts.')
    _check_numbers(benchmark)


def check_network(benchmark: Benchmark, backbone: PretrainedBackbone) -> None:
    """Make sure that a benchmark is for such a network.

    Raises:
        ValueError: Names the network, and which it should be.
    """
    found = backbone.config['type'].rpartition('.')[2]
    if benchmark.network not in found:
        raise ValueError(
            f'{benchmark.name} is for networks named *{benchmark.network}*, {backbone.path} holds '
            f'{found}: its settings do not fit, nor would its published rows. --list shows the '
            'other protocols.'
        )


def _check_numbers(benchmark: Benchmark) -> None:
    lacking = [name for name in REQUIRED.get(benchmark.kind, ()) if name not in benchmark.options]
    if lacking:
        raise ValueError(
            f'benchmark.options of {benchmark.name} lacks {", ".join(lacking)}, such as '
            'dict(k=200, temperature=0.07).'
        )
    for name in COUNTS:
        value = benchmark.options.get(name, 1)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f'benchmark.options.{name} = {value!r} must be an integer above 0.')
    temperature = benchmark.options.get('temperature', 1)
    if not isinstance(temperature, (int, float)) or not temperature > 0:
        raise ValueError(f'benchmark.options.temperature = {temperature!r} must be above 0.')


def find_benchmarks(root: str | Path) -> Iterator[tuple[Path, Benchmark]]:
    """All benchmarks among the configs in a folder and its folders, in the order of their paths.

    Those that inherit from a package that is not installed (mmdet) are left out.
    """
    for path in sorted(Path(root).rglob('*.py')):
        if '_base_' not in path.parts:
            with suppress(ImportError):
                yield path, read_benchmark(path)[0]
