"""Pre-train InvP on handwritten digits and compare it with two baselines; `make demo` runs this.

Nothing is downloaded. The table has three rows with the same network, epochs and seed: the network
with random weights, instance discrimination alone (lambda_inv = 0), and InvP.
"""

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from command_line import create_parser, require_packages

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / 'configs/invp/invp_resnet18-slim_1xb32-coslr-50e_digits.py'
RANDOM = 'random'
INVP = 'InvP (lambda_inv = 0.6)'
# lambda_inv by the name of the row.
RUNS = {'instance loss only (lambda_inv = 0)': 0.0, INVP: 0.6}
COLUMNS = {
    'kNN, backbone': 'knn/backbone',
    'kNN, bank': 'knn/bank',
    'purity, 1 hop': 'graph/purity_hop1',
    'purity, 3 hops': 'graph/purity_hop3',
}


def main():
    parser = create_parser(__doc__)
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs/demo',
        help='folder of the runs; those of an earlier demo are deleted (default: %(default)s)',
    )
    args = parser.parse_args()

    require_packages(args)
    # Imported late, so that --help is answered at once.
    from mmselfsup_invp.datasets.converters import convert_digits

    work_dir = args.work_dir.resolve()
    # The folder may contain other files, so only those of the demo are deleted.
    for folder in (work_dir / RANDOM, *(run_folder(work_dir, value) for value in RUNS.values())):
        shutil.rmtree(folder, ignore_errors=True)
    convert_digits(ROOT / 'data/digits')

    rows = [row('random initialisation', work_dir / RANDOM, 'test.py')]
    for name, value in RUNS.items():
        option = f'model.head.lambda_inv={value}'
        rows.append(row(name, run_folder(work_dir, value), 'train.py', '--cfg-options', option))
    show(rows, work_dir)


def run_folder(work_dir, lambda_inv):
    """Work folder of the run with this weight of the propagation loss."""
    return work_dir / f'lambda_{lambda_inv:g}'


def row(name, folder, tool, *arguments):
    """Run a tool on the config and return a row of the table."""
    command = [sys.executable, str(ROOT / 'tools' / tool), str(CONFIG), '--work-dir', str(folder)]
    command += arguments
    print('$', ' '.join(command[1:]), flush=True)
    start = time.perf_counter()
    code = subprocess.run(command, cwd=ROOT).returncode
    if code:  # The tool has reported the error.
        sys.exit(code)
    seconds = time.perf_counter() - start
    metrics = last_metrics(folder)
    return [name, *(percent(metrics, prefix) for prefix in COLUMNS.values()), f'{seconds:.0f} s']


def last_metrics(folder):
    """Last logged value of every metric of a run."""
    metrics = {}
    for log in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            metrics.update(json.loads(line))
    return metrics


def percent(metrics, prefix):
    """The first metric whose name starts with a prefix, as text."""
    values = [value for name, value in metrics.items() if name.startswith(prefix)]
    return f'{values[0]:.1f}' if values else '-'


def show(rows, work_dir):
    """Print the table and the paths of the results."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title='Handwritten digits: weighted kNN accuracy and purity of positives, %')
    for column in ('', *COLUMNS, 'time'):
        table.add_column(column, justify='right' if column else 'left', no_wrap=True)
    for cells in rows:
        table.add_row(*cells)
    console = Console(width=110)
    console.print(table)
    run = run_folder(work_dir, RUNS[INVP])
    console.print(f'checkpoint  {(run / "last_checkpoint").read_text()}', soft_wrap=True)
    console.print(f'logs        {run}', soft_wrap=True)
    command = shlex.join([relative(sys.executable), 'tools/report.py', relative(run)])
    console.print(f'next        {command}', soft_wrap=True)


def relative(path):
    """A path relative to the root of the repository, where it lies in it."""
    path = Path(path)
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


if __name__ == '__main__':
    main()
