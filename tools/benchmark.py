"""Evaluate a checkpoint by the protocols of the papers.

python tools/benchmark.py --list
python tools/benchmark.py work_dirs/invp/epoch_800.pth --protocol imagenet-linear
python tools/benchmark.py work_dirs/invp/epoch_800.pth --protocol voc07-svm voc07-lowshot
python tools/benchmark.py work_dirs/invp/epoch_800.pth --protocol my_benchmark.py --random-init

Detection also runs on several GPUs:

torchrun --nproc_per_node=8 tools/benchmark.py work_dirs/invp/epoch_800.pth \\
    --protocol voc0712-detection --launcher pytorch

Results lie beside the checkpoint, in the folder benchmarks: a JSON file for each and results.md, a
table of them all. What is finished is not done again, what was interrupted goes on; where the
checkpoint, the config or the data have changed since, nothing is done without --force.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, init_dist, is_distributed, is_main_process
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from mmselfsup_invp.cli.arguments import Options
from mmselfsup_invp.datasets.files import write_whole
from mmselfsup_invp.datasets.transforms import UnreadableImage
from mmselfsup_invp.evaluation import PretrainedBackbone, read_backbone
from mmselfsup_invp.evaluation.protocols import (
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
from mmselfsup_invp.evaluation.protocols.data import check_data, move_data
from mmselfsup_invp.evaluation.protocols.results import text

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / 'configs' / 'benchmarks'
console = Console(soft_wrap=True)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', nargs='?', help='epoch_*.pth of a pre-training run')
    parser.add_argument(
        '--protocol', nargs='+', default=[], help='names that --list shows, or configs of your own'
    )
    parser.add_argument('--list', action='store_true', help='show the protocols')
    parser.add_argument('--data', help='folder of the data set, in place of that in the config')
    parser.add_argument(
        '--random-init', action='store_true', help='evaluate the network as it is initialised'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--out', type=Path, help='folder of the results (default: benchmarks beside the checkpoint)'
    )
    parser.add_argument(
        '--force',
        action='store_true',
        help='remove what earlier calls made of these protocols, and begin anew',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes of a distributed run; for detection only',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        metavar='KEY=VALUE',
        help='override settings of the protocol: key=value, key="[a,b]", key.inner=value',
    )
    args = parser.parse_args()
    if not args.list and not (args.checkpoint and args.protocol):
        parser.error('give a checkpoint and --protocol, or --list')
    return args


def show_list() -> None:
    """Print every protocol."""
    table = Table('protocol', 'what it is', 'data')
    for _, benchmark in find_benchmarks(CONFIGS):
        data = benchmark.data if isinstance(benchmark.data, str) else ', '.join(benchmark.data)
        table.add_row(benchmark.name, benchmark.title, data)
    console.print(table)
    if find_spec('mmdet') is None:
        console.print('Detection is not listed: it needs mmdet, pip install "mmdet==3.3.0".')


def config_of(name: str) -> Path:
    """Where the config of a protocol lies."""
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


def plan(name: str, args: argparse.Namespace, backbone: PretrainedBackbone, out: Path) -> Job:
    """A protocol with all that may be wrong about it checked."""
    path, wanted = config_of(name), args.cfg_options or {}
    benchmark, config = read_benchmark(path, wanted)
    if args.launcher != 'none' and benchmark.kind != 'detection':
        raise ValueError(
            f'{benchmark.name} runs in one process, --launcher is for detection. Start it without.'
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
    """Let the processes of a launcher find one another; the main one alone speaks."""
    if launcher != 'none' and not is_distributed():
        init_dist(launcher)
    console.quiet = not is_main_process()


def run(job: Job, args: argparse.Namespace) -> None:
    """Run one protocol, unless its result is there."""
    if args.force and is_main_process():
        discard(job)
    barrier()
    entry = finished(job)
    barrier()  # Now all have looked, and the main process may write.
    if entry is not None:
        value = text(entry['value'])
        console.print(f'{job.benchmark.name}: {value}, done before. To repeat it, add --force.')
        return
    console.print(f'{job.benchmark.name}: {job.benchmark.title}')
    origin = begin(job) if is_main_process() else None
    settings = dict(launcher=args.launcher) if job.benchmark.kind == 'detection' else {}
    outcome = KINDS[job.benchmark.kind](job, **settings)
    if is_main_process():
        write_outcome(job.result, job, outcome, origin)
        # After each, so that a later one that fails takes nothing along.
        out = job.result.parent
        write_whole(out / 'results.md', results_table(out))


def main() -> None:
    args = parse_args()
    if args.list:
        show_list()
        return
    out = args.out or Path(args.checkpoint).resolve().parent / 'benchmarks'
    try:
        backbone = read_backbone(args.checkpoint)
        # What is wrong with the last one shows before the first one runs.
        jobs = [plan(name, args, backbone, out) for name in dict.fromkeys(args.protocol)]
        start_processes(args.launcher)
        for job in jobs:
            run(job, args)
    except UnreadableImage as error:
        # From a worker its traceback comes along; the last line says what is wrong.
        raise SystemExit(str(error).strip().splitlines()[-1]) from error
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f'{error}') from error
    if not is_main_process():
        return
    Console(width=160).print(Markdown(results_table(out)))
    console.print(f'results  {out}')


if __name__ == '__main__':
    main()
