"""The protocols of a checkpoint as ``tools/benchmark.py`` runs them."""

import shutil
from argparse import Namespace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, init_dist, is_distributed, is_main_process
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from ..evaluation import PretrainedBackbone, read_backbone
from ..evaluation.protocols import (
    Benchmark,
    Job,
    check_network,
    evaluate,
    find_configs,
    finished,
    read_benchmark,
    results_table,
    write_outcome,
)
from ..evaluation.protocols.data import check_data, is_ready, move_data
from ..evaluation.protocols.results import text
from .errors import was_interrupted
from .options import parse_values

# The links of a source tree lead to its configs; an installed package holds copies.
CONFIGS = (Path(__file__).parents[1] / '.mim' / 'configs' / 'benchmarks').resolve()
console = Console(soft_wrap=True)


def run_protocols(args: Namespace) -> None:
    """Run the protocols that a command line names, and print the table of results.

    All protocols are checked before the first one runs.
    """
    out = args.out or Path(args.checkpoint).resolve().parent / 'benchmarks'
    backbone = read_backbone(args.checkpoint)
    jobs = [plan(name, args, backbone, out) for name in dict.fromkeys(args.protocol)]
    if args.launcher != 'none' and not is_distributed():
        init_dist(args.launcher)
    console.quiet = not is_main_process()
    try:
        for job in jobs:
            run(job, args.force)
    except BaseException as error:
        if not was_interrupted(error):
            raise
        raise KeyboardInterrupt('Interrupted. The same command continues.') from error
    if is_main_process():
        Console(width=160).print(Markdown(results_table(out)))
        console.print(f'results  {out}')


def show_list(prefix: str = '', data: str | None = None) -> None:
    """Print the protocols whose names begin with a prefix, and whether their data are ready.

    Without a prefix only the names are printed, by folder. ``data`` is the folder of the data set,
    by default that of each config.
    """
    found = []
    for path, benchmark, config in find_configs(CONFIGS):
        if benchmark.name.startswith(prefix):
            if data:
                move_data(config, data)
            found.append((path.parent.name, benchmark, is_ready(config)))
    if prefix:
        table = Table('protocol', 'description', 'data', 'ready?')
        for _, benchmark, ready in found:
            names = [benchmark.data] if isinstance(benchmark.data, str) else benchmark.data
            table.add_row(
                benchmark.name, benchmark.title, ', '.join(names), 'yes' if ready else 'no'
            )
    else:
        table = Table('data', 'ready?', 'protocols', box=None, pad_edge=False)
        for (folder, ready), rows in groupby(sorted(found, key=_group), _group):
            names = ' '.join(benchmark.name for _, benchmark, _ in rows)
            table.add_row(folder, ready, names)
    Console().print(table)
    if not prefix:
        console.print('--list PREFIX describes the protocols whose names begin so.')
    if find_spec('mmdet') is None:
        console.print(
            'Detection is not listed, because mmdet is not installed: pip install "mmdet==3.3.0".'
        )


def _group(row: tuple[str, Benchmark, bool]) -> tuple[str, str]:
    """Folder of a protocol, and whether its data are ready."""
    folder, _, ready = row
    return folder, 'yes' if ready else 'no'


def config_of(name: str) -> Path:
    """Path of the config of a protocol."""
    if name.endswith('.py'):
        return Path(name)
    paths = {benchmark.name: path for path, benchmark, _ in find_configs(CONFIGS)}
    if name not in paths:
        raise ValueError(
            f'There is no protocol {name!r}. Valid: {", ".join(sorted(paths))}, or the path of a '
            'config.'
        )
    return paths[name]


def plan(name: str, args: Namespace, backbone: PretrainedBackbone, out: Path) -> Job:
    """Check a protocol, its data and the backbone, and return the job that runs it."""
    benchmark, config, changes = read_benchmark(
        config_of(name), parse_values(args.cfg_options or {})
    )
    if args.launcher != 'none' and benchmark.kind != 'detection':
        raise ValueError(
            f'{benchmark.name} runs in one process: leave out --launcher, which is for detection.'
        )
    check_network(benchmark, backbone)
    if args.data:
        move_data(config, args.data)
    check_data(config, benchmark.data)
    return Job(
        benchmark,
        # Without the path of the file, by which MMEngine would copy it.
        Config(config.to_dict()),
        backbone,
        out,
        random_init=args.random_init,
        seed=args.seed,
        changes=changes,
        launcher=args.launcher,
    )


def run(job: Job, force: bool) -> None:
    """Run one protocol, unless its result exists."""
    if force and is_main_process():
        job.result.unlink(missing_ok=True)
        shutil.rmtree(job.work_dir, ignore_errors=True)
    barrier()
    result = finished(job)
    barrier()  # All processes have read the result before the main process writes one.
    if result is not None:
        value = text(result['value'])
        console.print(f'{job.benchmark.name}: {value}, finished before. Add --force to repeat it.')
        return
    console.print(f'{job.benchmark.name}: {job.benchmark.title}')
    outcome = evaluate(job)
    if is_main_process():
        write_outcome(job, outcome)
