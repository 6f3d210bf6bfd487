"""What ``gpu.py`` runs, and the goals that the results are compared with."""

import operator
from typing import NamedTuple

IMAGENET = '--device cuda --num 1281167'
BENCHMARK, TEST = 'python benchmarks/', 'python -m pytest -q -p no:cacheprovider '
STEP_CONFIG = 'configs/invp/invp_resnet50_1xb128-coslr-200e_in1k.py'
# Memory checks see single tensors only if PyTorch allocates them one by one.
SANITIZER = 'env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 1 --tool '
SANITIZED = (
    'search.py --device cuda --num 20001 --batch 33 --m 64 --dtype float16 --backend triton '
    '--repeats 1'
)
IMAGES = ' --jpegs 30000 --warmup 30 --iters 200 --whole'

# Options for --small, which follow the others and replace them.
CPU = ' --device cpu --threads 1 --repeats 1'
SMALL_SEARCH = f' --num 500 --dim 16 --batch 4 --m 12{CPU}'
SMALL_MODEL = ' model.backbone.depth=18 model.neck.in_channels=512'
SMALL_IMAGES = (
    ' --jpegs 8 --warmup 1 --iters 1 --threads 1 --cfg-options train_dataloader.batch_size=4 '
    'train_dataloader.num_workers=0 train_dataloader.persistent_workers=False '
    'optim_wrapper._delete_=True optim_wrapper.optimizer.type=SGD optim_wrapper.optimizer.lr=0.1'
    f'{SMALL_MODEL}'
)


class Part(NamedTuple):
    """A command, its options for ``--small``, and the seconds that it may take."""

    command: str
    small: str
    seconds: int


PARTS = {
    'tests': Part(TEST + 'tests/ops', ' --collect-only', 600),
    'tests-models': Part(
        TEST + 'tests/memory tests/models tests/evaluation/test_encoder.py', ' --collect-only', 600
    ),
    'tests-engine': Part(TEST + 'tests/engine', ' --collect-only', 600),
    'search': Part(f'{BENCHMARK}search.py {IMAGENET} --dtype float16 --profile', SMALL_SEARCH, 200),
    'search-10m': Part(
        f'{BENCHMARK}search.py --device cuda --num 10000000 --dtype float16', SMALL_SEARCH, 300
    ),
    'search-classes': Part(
        f'{BENCHMARK}search.py {IMAGENET} --dtype float16 --order classes', SMALL_SEARCH, 200
    ),
    'search-float32': Part(f'{BENCHMARK}search.py {IMAGENET}', SMALL_SEARCH, 200),
    'objective': Part(
        f'{BENCHMARK}objective.py {IMAGENET} --dtype float16 --profile',
        f'{SMALL_SEARCH} --num-hard 5',
        300,
    ),
    'objective-float32': Part(
        f'{BENCHMARK}objective.py {IMAGENET} --profile', f'{SMALL_SEARCH} --num-hard 5', 300
    ),
    'graph': Part(
        f'{BENCHMARK}graph.py {IMAGENET} --dtype float16 --repeats 3', f' --num 500{CPU}', 400
    ),
    'inter': Part(
        f'{BENCHMARK}inter_branch.py {IMAGENET} --k 16384 --clusters 10000 --profile',
        f' --num 2000 --batch 4 --k 64 --clusters 200{CPU}',
        300,
    ),
    'sinkhorn': Part(
        f'{BENCHMARK}sinkhorn.py {IMAGENET} --classes 3000 --against reading --repeats 5 --profile',
        f' --num 500 --classes 10 --passes 5{CPU}',
        300,
    ),
    'step': Part(
        f'{BENCHMARK}step.py {STEP_CONFIG} {IMAGENET} --precision bfloat16 --profile',
        f' --num 100 --batch 4 --size 32 --precision float32{CPU} --cfg-options{SMALL_MODEL}',
        300,
    ),
    'images-host': Part(
        f'{BENCHMARK}epoch.py benchmarks/views/host_in1k.py{IMAGES}', SMALL_IMAGES, 300
    ),
    'images-gpu': Part(
        f'{BENCHMARK}epoch.py benchmarks/views/gpu_in1k.py{IMAGES}', SMALL_IMAGES, 300
    ),
    'constants-float16': Part(
        f'{BENCHMARK}search.py {IMAGENET} --dtype float16 --repeats 5 --constants',
        f'{SMALL_SEARCH} --constants FILTER_WARPS=4,8',
        400,
    ),
    'constants-float32': Part(
        f'{BENCHMARK}search.py {IMAGENET} --repeats 5 --constants',
        f'{SMALL_SEARCH} --constants FLOAT32_PRODUCTS=ieee,tf32x3',
        500,
    ),
    'memcheck': Part(f'{SANITIZER}memcheck {BENCHMARK}{SANITIZED}', SMALL_SEARCH, 300),
    'racecheck': Part(f'{SANITIZER}racecheck {BENCHMARK}{SANITIZED}', SMALL_SEARCH, 300),
}

# Keys that lead to a number: the part, and the keys in the line of JSON that it writes.
Keys = tuple[str, ...]
COMPARE = {'>=': operator.ge, '<=': operator.le}


class Goal(NamedTuple):
    """A bound of a number, or of the quotient of two."""

    work: str
    reference: str
    sign: str
    bound: float
    unit: str
    number: Keys
    divisor: Keys = ()

    def parts(self) -> list[str]:
        """The parts that measure it."""
        return list(dict.fromkeys(keys[0] for keys in (self.number, self.divisor) if keys))

    def measured(self, records: dict[str, dict]) -> float | None:
        """The value, from the record of each part; None if a number is missing."""
        number = lookup(records, self.number)
        divisor = lookup(records, self.divisor) if self.divisor else 1
        return number / divisor if number is not None and divisor else None

    def met(self, value: float) -> bool:
        """Whether a value is within the bound."""
        return COMPARE[self.sign](value, self.bound)


def lookup(records: dict, keys: Keys) -> float | None:
    """Follow the keys; None where one is missing."""
    for key in keys:
        records = (records or {}).get(key)
    return records


def speed(part: str, ours: str, reference: str) -> tuple[Keys, Keys]:
    """Seconds of the reference for one second of ours."""
    return (part, 'seconds', reference), (part, 'seconds', ours)


def seconds(part: str, ours: str, reference: str) -> tuple[Keys, Keys]:
    """Seconds of ours for one second of the reference."""
    return speed(part, reference, ours)


GOALS = [
    Goal(
        'objective, a step: forward, backward, commit', 'official formulation',
        '>=', 9.5, 'x', *speed('objective', 'invp_step', 'official'),
    ),
    Goal(
        'extra memory of the objective', 'official formulation', '<=', 0.13, 'x',
        ('objective', 'bytes', 'invp_step'), ('objective', 'bytes', 'official'),
    ),
    Goal(
        'search, M = 4096', 'product and topk, float16', '>=', 2, 'x',
        *speed('search', 'top_m', 'matmul and topk'),
    ),
    Goal(
        'search, N = 10,000,000', 'N = 1,281,167', '<=', 7.8, 'x the time',
        ('search-10m', 'seconds', 'top_m'), ('search', 'seconds', 'top_m'),
    ),
    Goal(
        'graph, k = 4, whole bank', 'product and topk, float16', '>=', 4.8, 'x',
        *speed('graph', 'ours', 'plain'),
    ),
    Goal(
        'inter branch, B = 32, K = 16384, 10,000 clusters', 'formulation of MMSelfSup 0.x',
        '>=', 13, 'x', *speed('inter', 'ours', 'MMSelfSup 0.x'),
    ),
    Goal(
        'Sinkhorn, K = 3000, one pass', 'reading the matrix once', '<=', 1.5, 'x the time',
        *seconds('sinkhorn', 'ours', 'reading'),
    ),
    Goal(
        'training step, ResNet-50, bfloat16, B = 128', 'without the objective',
        '<=', 1.03, 'x the time', *seconds('step', 'with the objective', 'without'),
    ),
    Goal(
        'images/s from JPEG files, augmented on the GPU', 'transforms of MMSelfSup 1.0',
        '>=', 2, 'x', ('images-gpu', 'images_per_second'), ('images-host', 'images_per_second'),
    ),
    Goal(
        'GPU busy, augmented on the GPU', 'all of the time', '>=', 95, '%',
        ('images-gpu', 'gpu_busy'),
    ),
]  # fmt: skip
