"""Pre-train InvP on handwritten digits and compare it with its parts: what `make demo` runs.

Nothing is downloaded. Three rows come out: the network as initialised, instance discrimination
alone (lambda_inv = 0) and InvP, with the same network, budget and seed.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmselfsup_invp.datasets.converters import convert_digits

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / 'configs/invp/invp_resnet18-slim_1xb32-coslr-50e_digits.py'
RANDOM = 'random'
INVP = 'InvP (lambda_inv = 0.6)'
RUNS = {'instance loss only (lambda_inv = 0)': 0.0, INVP: 0.6}


def run_tool(name: str, *arguments: object) -> None:
    """Run one of the command lines beside this file, its output going straight to the screen."""
    command = [sys.executable, str(ROOT / 'tools' / name), *map(str, arguments)]
    print('$', ' '.join(command[1:]), flush=True)
    code = subprocess.run(command, cwd=ROOT).returncode
    if code:  # The command has said why.
        raise SystemExit(code)


def run_folder(work_dir: Path, weight: float) -> Path:
    """Work folder of the run with this lambda_inv."""
    return work_dir / f'lambda_{weight:g}'


def figures(work_dir: Path) -> dict[str, float]:
    """Last value of every figure in a run's log."""
    latest: dict[str, float] = {}
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            latest.update(json.loads(line))
    return latest


def find(latest: dict[str, float], prefix: str) -> float | None:
    """The figure whose name starts so."""
    return next((value for name, value in latest.items() if name.startswith(prefix)), None)


def row(name: str, latest: dict[str, float], seconds: float) -> list[str]:
    """One line of the table."""
    columns = ('knn/backbone', 'knn/bank', 'graph/purity_hop1', 'graph/purity_hop3')
    values = [find(latest, column) for column in columns]
    return [name, *('-' if v is None else f'{v:.1f}' for v in values), f'{seconds:.0f} s']


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs/demo',
        help='folder for the runs; those of an earlier demo are replaced (default: %(default)s)',
    )
    work_dir = parser.parse_args().work_dir.resolve()
    random_dir = work_dir / RANDOM
    # Only what the demo itself makes: the folder may hold more.
    for folder in (random_dir, *(run_folder(work_dir, weight) for weight in RUNS.values())):
        shutil.rmtree(folder, ignore_errors=True)
    convert_digits(ROOT / 'data/digits')

    start = time.perf_counter()
    run_tool('test.py', CONFIG, '--work-dir', random_dir)
    rows = [row('random initialisation', figures(random_dir), time.perf_counter() - start)]
    for name, weight in RUNS.items():
        start = time.perf_counter()
        run_dir = run_folder(work_dir, weight)
        option = f'model.head.lambda_inv={weight}'
        run_tool('train.py', CONFIG, '--work-dir', run_dir, '--cfg-options', option)
        rows.append(row(name, figures(run_dir), time.perf_counter() - start))
    show(rows, work_dir)


def show(rows: list[list[str]], work_dir: Path) -> None:
    """Print the table and where things lie."""
    table = Table(title='Handwritten digits: weighted kNN accuracy and purity of positives, %')
    for column in ('', 'kNN, backbone', 'kNN, bank', 'purity, 1 hop', 'purity, 3 hops', 'time'):
        table.add_column(column, justify='right' if column else 'left', no_wrap=True)
    for line in rows:
        table.add_row(*line)
    console = Console(width=110)
    console.print(table)
    run = run_folder(work_dir, RUNS[INVP])
    console.print(f'checkpoint  {(run / "last_checkpoint").read_text()}', soft_wrap=True)
    console.print(f'logs        {run}', soft_wrap=True)
    command = shlex.join([shown(sys.executable), 'tools/report.py', shown(run)])
    console.print(f'next        {command}', soft_wrap=True)


def shown(path: str | Path) -> str:
    """A path as one would type it in the root of the repository."""
    path = Path(path)
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


if __name__ == '__main__':
    main()
