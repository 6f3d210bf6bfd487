"""The papers' evaluations of a checkpoint, each a config with a ``benchmark`` entry."""

from .benchmarks import (
    KINDS,
    check_network,
    evaluate,
    find_configs,
    read_benchmark,
)
from .job import Benchmark, Job, Outcome
from .results import finished, results_table, write_outcome

__all__ = [
    'KINDS',
    'Benchmark',
    'Job',
    'Outcome',
    'check_network',
    'evaluate',
    'find_configs',
    'finished',
    'read_benchmark',
    'results_table',
    'write_outcome',
]
