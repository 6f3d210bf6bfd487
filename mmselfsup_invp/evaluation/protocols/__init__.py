"""The papers' evaluations of a checkpoint, each a config with a ``benchmark`` entry."""

from .detector import run_detector
from .frozen import run_few_shot, run_knn, run_similarity, run_svm
from .job import Benchmark, Job, Outcome, check_network, find_benchmarks, read_benchmark
from .provenance import begin, discard, effective, finished, provenance
from .results import results_table, write_outcome
from .training import run_training

# What a benchmark's `kind` names.
KINDS = {
    'training': run_training,
    'detection': run_detector,
    'knn': run_knn,
    'similarity': run_similarity,
    'svm': run_svm,
    'few_shot': run_few_shot,
}

__all__ = [
    'KINDS',
    'Benchmark',
    'Job',
    'Outcome',
    'begin',
    'check_network',
    'discard',
    'effective',
    'find_benchmarks',
    'finished',
    'provenance',
    'read_benchmark',
    'results_table',
    'run_detector',
    'run_few_shot',
    'run_knn',
    'run_similarity',
    'run_svm',
    'run_training',
    'write_outcome',
]
