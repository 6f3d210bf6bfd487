"""Benchmarks in configs: how they are read, checked and found."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from mmengine.config import Config

from ...config import merge_options, read_config
from ...options import Choice, check_option
from ..checkpoints import PretrainedBackbone
from .detector import Detection
from .frozen import SVM, FewShotSVM, Similarity, WeightedKNN
from .job import Benchmark, Job, Outcome
from .own_labels import OwnLabels
from .training import Training

# Evaluations by the `kind` of a benchmark; their fields are its `options`.
KINDS = {
    'training': Training,
    'detection': Detection,
    'knn': WeightedKNN,
    'similarity': Similarity,
    'svm': SVM,
    'few_shot': FewShotSVM,
    'own_labels': OwnLabels,
}


def evaluate(job: Job) -> Outcome:
    """Run the evaluation of a job, or continue it where an earlier call was interrupted."""
    return KINDS[job.benchmark.kind](**job.benchmark.options)(job)


def read_benchmark(
    path: str | Path, changes: dict[str, Any] | None = None
) -> tuple[Benchmark, Config, dict[str, Any]]:
    """Read the config of a benchmark.

    Args:
        path (str | Path): The config.
        changes (dict, optional): Other settings, ``{'benchmark.options.k': 5}``. Defaults to None.

    Returns:
        tuple[Benchmark, Config, dict]: The ``benchmark`` entry, the whole config, and those of the
        changes that the config did not have already.

    Raises:
        ValueError: If the ``benchmark`` entry is missing, or has unknown, missing or invalid keys
            or options, or a setting cannot be changed.
    """
    config = read_config(path)
    effective = {}
    try:
        for key, value in (changes or {}).items():
            before = config.to_dict()
            merge_options(config, {key: value})
            if config.to_dict() != before:
                effective[key] = value
    except (TypeError, KeyError, IndexError) as error:
        raise ValueError(f'{path} cannot be changed by {changes}: {error}') from error
    entry = config.get('benchmark')
    if entry is None:
        raise ValueError(
            f'{path} is no benchmark: it has no `benchmark = dict(name=..., kind=..., ...)`. Those '
            'in configs/benchmarks have.'
        )
    return _checked(entry.to_dict(), path), config, effective


def _checked(entry: dict[str, Any], path: str | Path) -> Benchmark:
    try:
        benchmark = Benchmark(**entry)
    except TypeError as error:
        valid = ', '.join(field.name for field in fields(Benchmark))
        raise ValueError(f'The benchmark of {path}: {error}. Its keys: {valid}.') from error
    check_option(benchmark.name, 'benchmark.kind', benchmark.kind, Annotated[str, Choice(KINDS)])
    kind = KINDS[benchmark.kind]
    try:
        evaluation = kind(**benchmark.options)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'benchmark.options of {benchmark.name} (kind {benchmark.kind!r}): {error}'
        ) from error
    metrics = evaluation.metrics()
    if metrics is None and not benchmark.metric:
        raise ValueError(f'The benchmark {benchmark.name} lacks metric, the reported metric.')
    if metrics is not None:
        if len(metrics) == 1:
            entry.setdefault('metric', metrics[0])
        metric = entry.get('metric', '')
        check_option(benchmark.name, 'benchmark.metric', metric, Annotated[str, Choice(metrics)])
    return Benchmark(**entry)


def check_network(benchmark: Benchmark, backbone: PretrainedBackbone) -> None:
    """Raise ``ValueError`` unless a benchmark applies to this type of network."""
    found = backbone.config['type'].rpartition('.')[2]
    if benchmark.network not in found:
        raise ValueError(
            f'{benchmark.name} is for networks named *{benchmark.network}*, {backbone.path} holds '
            f'{found}: neither its settings nor its published results apply. --list shows the '
            'other protocols.'
        )


def find_configs(root: str | Path) -> Iterator[tuple[Path, Benchmark, Config]]:
    """All benchmarks among the configs in a folder and below, in the order of their paths.

    Configs that inherit from a package that is not installed (mmdet) are left out.
    """
    for path in sorted(Path(root).rglob('*.py')):
        if '_base_' not in path.parts:
            with suppress(ImportError):
                benchmark, config, _ = read_benchmark(path)
                yield path, benchmark, config
