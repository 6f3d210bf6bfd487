"""The protocols of a checkpoint as ``tools/benchmark.py`` runs them."""

from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, init_dist, is_distributed, is_main_process
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from ..datasets.files import write_whole
from ..evaluation import PretrainedBackbone, read_backbone
from ..evaluation.protocols import (
    KINDS,
    Job,
    begin,
    check_network,
    discard,
    effective,
    find_benchmarks,
    finished,
    read_benchmark,
    results_table,
    write_outcome,
)
from ..evaluation.protocols.data import check_data, move_data
from ..evaluation.protocols.results import text
from .options import parse_values

# The links of a source tree lead to its configs; an installed package holds copies.
CONFIGS = (Path(__file__).parents[1] / '.mim' / 'configs' / 'benchmarks').resolve()
console = Console(soft_wrap=True)


def run_protocols(args: Namespace) -> None:
    """Run protocols on a checkpoint and print the table of results.

    All protocols are checked before the first one runs.

    Args:
        args (Namespace): Arguments of ``tools/benchmark.py``.

    Raises:
        FileNotFoundError: If the checkpoint, a config or data are missing.
        ValueError: If a protocol does not exist or does not fit the checkpoint.
    """
    out = args.out or Path(args.checkpoint).resolve().parent / 'benchmarks'
    backbone = read_backbone(args.checkpoint)
    jobs = [plan(name, args, backbone, out) for name in dict.fromkeys(args.protocol)]
    start_processes(args.launcher)
    for job in jobs:
        run(job, args)
    if is_main_process():
        Console(width=160).print(Markdown(results_table(out)))
        console.print(f'results  {out}')


def show_list() -> None:
    """Print the table of protocols."""
    table = Table('protocol', 'description', 'data')
    for _, benchmark in find_benchmarks(CONFIGS):
        data = benchmark.data if isinstance(benchmark.data, str) else ', '.join(benchmark.data)
        table.add_row(benchmark.name, benchmark.title, data)
    console.print(table)
    if find_spec('mmdet') is None:
        console.print(
            'Detection is not listed, because mmdet is not installed: pip install "mmdet==3.3.0".'
        )


def config_of(name: str) -> Path:
    """Path of the config of a protocol."""
    if name.endswith('.py'):
        if not Path(name).is_file():
            raise FileNotFoundError(f'There is no config {name}.')
        return Path(name)
    paths = {benchmark.name: path for path, benchmark in find_benchmarks(CONFIGS)}
    if name not in paths:
        raise ValueError(
            f'There is no protocol {name!r}. Valid: {", ".join(sorted(paths))}, or the path of a '
            'config.'
        )
    return paths[name]


def plan(name: str, args: Namespace, backbone: PretrainedBackbone, out: Path) -> Job:
    """Check a protocol, its data and the backbone, and return the job that runs it."""
    path, wanted = config_of(name), parse_values(args.cfg_options or {})
    benchmark, config = read_benchmark(path, wanted)
    if args.launcher != 'none' and benchmark.kind != 'detection':
        raise ValueError(
            f'{benchmark.name} runs in one process: leave out --launcher, which is for detection.'
        )
    check_network(benchmark, backbone)
    changes = effective(Config.fromfile(str(path)), wanted)
    if args.data:
        move_data(config, args.data)
    check_data(config, benchmark.data)
    network = 'random' if args.random_init else backbone.path.stem
    seed = f'_seed{args.seed}' if args.seed else ''
    work_dir = out / f'{benchmark.name}_{network}{seed}'
    config = Config(config.to_dict())
    job = Job(benchmark, config, backbone, work_dir, args.random_init, args.seed, changes)
    if not args.force:
        finished(job)
    return job


def start_processes(launcher: str) -> None:
    """Initialise the process group of a launcher; only the main process prints."""
    if launcher != 'none' and not is_distributed():
        init_dist(launcher)
    console.quiet = not is_main_process()


def run(job: Job, args: Namespace) -> None:
    """Run one protocol, unless its result exists."""
    if args.force and is_main_process():
        discard(job)
    barrier()
    entry = finished(job)
    barrier()  # All processes have read the result before the main process writes one.
    if entry is not None:
        value = text(entry['value'])
        console.print(f'{job.benchmark.name}: {value}, finished before. Add --force to repeat it.')
        return
    console.print(f'{job.benchmark.name}: {job.benchmark.title}')
    origin = begin(job) if is_main_process() else None
    settings = dict(launcher=args.launcher) if job.benchmark.kind == 'detection' else {}
    outcome = KINDS[job.benchmark.kind](job, **settings)
    if is_main_process():
        write_outcome(job.result, job, outcome, origin)
        # After each protocol, so that the table is complete if a later one fails.
        out = job.result.parent
        write_whole(out / 'results.md', results_table(out))
