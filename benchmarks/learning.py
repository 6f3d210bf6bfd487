"""Compare what methods learn on a slice of CIFAR-10 at an equal budget of network passes.

Example:
    python tools/convert_dataset.py cifar10 data/cifar10
    python benchmarks/learning.py prepare --cifar10 data/cifar10 --data data/arena
    python benchmarks/learning.py run --data data/arena --work-dir work_dirs/arena
    python benchmarks/learning.py report

``run`` trains all cells of the grid that have no result yet, in order, and appends each result to
``trials.jsonl`` in the folder of the results. When it is interrupted, the same command continues
from the last checkpoint of the cell. Several processes may run it at the same time. Everything is
chosen on the validation images; ``test`` measures rows of the final table on the test images.
"""

import argparse
import json
import multiprocessing
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

ARENA = ROOT / 'benchmarks' / 'arena'


def main() -> None:
    args = parse()
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    args.command(args)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)

    prepare = commands.add_parser('prepare', help='write the splits')
    prepare.add_argument('--cifar10', type=Path, required=True)
    prepare.add_argument('--data', type=Path, required=True)
    prepare.add_argument('--num-train', type=int, default=10000)
    prepare.add_argument('--num-val', type=int, default=10000)
    prepare.set_defaults(command=run_prepare)

    run = commands.add_parser('run', help='train the cells that have no result yet')
    run.add_argument('--names', nargs='*', help='rows of the grid; all if not given')
    run.set_defaults(command=run_grid)

    test = commands.add_parser('test', help='measure finished cells on the test images, once')
    test.add_argument('--names', nargs='+', required=True, help='rows of the final table')
    test.set_defaults(command=run_test)
    for command in (run, test):
        command.add_argument('--data', type=Path, required=True, help='folder of the splits')
        command.add_argument('--work-dir', type=Path, required=True, help='of the checkpoints')

    report = commands.add_parser('report', help='write the tables and the curves')
    report.add_argument('--root', type=Path, default=ROOT, help='folder of the pages to write')
    report.set_defaults(command=run_report)
    for command in (run, test, report):
        command.add_argument('--grid', type=Path, default=ARENA / 'grid.json', help='the rows')
        command.add_argument('--folder', type=Path, default=ARENA, help='of the results')
    return parser.parse_args()


def run_prepare(args: argparse.Namespace) -> None:
    from benchmarks.arena.images import prepare

    prepare(args.cifar10, args.data, args.num_train, args.num_val)


def run_grid(args: argparse.Namespace) -> None:
    from benchmarks.arena.cells import finished, run_cell
    from benchmarks.arena.grid import read_grid

    results = args.folder / 'trials.jsonl'
    spawn = multiprocessing.get_context('spawn')
    done = set()
    while True:
        # Read again each time: rows may be added while it runs.
        cells = [cell for cell in read_grid(args.grid, args.names) if cell.key not in done]
        cells = [cell for cell in cells if cell.key not in finished(results)]
        if not cells:
            return
        cell = cells[0]
        done.add(cell.key)
        work = (cell, args.data, args.work_dir, results)
        process = spawn.Process(target=run_cell, args=work)
        process.start()
        process.join()
        if process.exitcode:
            print(f'{cell.key} failed; its log is in {args.work_dir / cell.key}', flush=True)


def run_test(args: argparse.Namespace) -> None:
    from benchmarks.arena.cells import append, finished, measure_cell, read_results
    from benchmarks.arena.grid import read_grid

    trials = {trial['key']: trial for trial in read_results(args.folder / 'trials.jsonl')}
    results = args.folder / 'test.jsonl'
    for cell in read_grid(args.grid, args.names):
        if cell.key in trials and cell.key not in finished(results):
            figures = measure_cell(cell, args.data, args.work_dir, 'test')
            append(results, dict(trials[cell.key], figures=figures))


def run_report(args: argparse.Namespace) -> None:
    from benchmarks.arena.cells import read_results
    from benchmarks.arena.grid import read_pairs
    from benchmarks.arena.pages import write_pages
    from benchmarks.arena.report import differences, draw_curves, table

    pairs = read_pairs(args.grid)
    results = {name: read_results(args.folder / f'{name}.jsonl') for name in ('trials', 'test')}
    for name, lines in results.items():
        text = table(lines) + '\n' + differences(lines, pairs)
        (args.folder / f'{name}.md').write_text(text)
    drawn = {line['name']: line['name'] for line in results['trials']}
    pages = args.folder / 'pages.json'
    if pages.exists():
        spec = json.loads(pages.read_text())
        drawn = {name: spec['labels'][name] for name in spec['curves']}
        write_pages(results['test'], pairs, spec['labels'], spec['tables'], args.root)
    draw_curves(results['trials'], drawn, args.folder / 'curves.png')


if __name__ == '__main__':
    main()
