"""Pre-train InvP on handwritten digits and compare it with its twin; `make demo` runs this.

Nothing is downloaded. InvP and the same config without propagation (lambda_inv = 0) are trained at
the same time, each on one thread, with the same seed and epochs, and compared with the network
before training. All measures are of the features of the backbone; labels are used for measuring
only.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from command_line import create_parser, require_packages

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / 'configs/invp/invp_resnet18-slim_1xb32-coslr-50e_digits.py'
UNTRAINED, TWIN, INVP = 'random weights', 'instance loss only', 'InvP'
# lambda_inv by the name of the row.
RUNS = {TWIN: 0.0, INVP: 0.6}
KNN, TEMPERATURE, DEGREE, HOPS = 20, 0.07, 4, 3
COLOURS = '0.65', 'tab:orange', 'tab:blue'


def main():
    parser = create_parser(__doc__)
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs/demo',
        help='folder of the runs; those of an earlier demo are deleted (default: %(default)s)',
    )
    parser.add_argument('--seed', type=int, default=0, help='of both runs (default: %(default)s)')
    args = parser.parse_args()

    require_packages(args)
    # Imported late, so that --help is answered at once.
    from mmselfsup_invp.datasets.converters import convert_digits

    convert_digits(ROOT / 'data/digits')
    folders = {name: args.work_dir.resolve() / f'lambda_{value:g}' for name, value in RUNS.items()}
    train(folders, args.seed)
    rows = measure_all(folders)
    picture = args.work_dir.resolve() / 'demo.png'
    draw(rows, picture)
    show(rows, folders[INVP], picture)


def train(folders, seed):
    """Train all runs at once, each in a process of its own, and show how far they are."""
    from mmengine.config import Config
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    epochs = Config.fromfile(CONFIG).train_cfg.max_epochs
    processes = {}
    for name, folder in folders.items():
        # The folder may contain other files, so only the runs are deleted.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = [sys.executable, str(ROOT / 'tools/train.py'), str(CONFIG), '--work-dir']
        command += [str(folder), '--cfg-options', f'model.head.lambda_inv={RUNS[name]}']
        command += [f'randomness.seed={seed}', f'default_hooks.knn.interval={epochs}']
        print('$', ' '.join(command[1:]), flush=True)
        with open(folder / 'console.log', 'w') as log:
            processes[name] = subprocess.Popen(
                command, cwd=ROOT, env=one_thread(), stdout=log, stderr=subprocess.STDOUT
            )
    columns = [*Progress.get_default_columns(), TimeElapsedColumn()]
    columns.append(TextColumn('{task.fields[loss]}'))
    try:
        with Progress(*columns) as progress:
            tasks = {name: progress.add_task(name, total=epochs, loss='') for name in processes}
            while any(process.poll() is None for process in processes.values()):
                time.sleep(1)
                for name, task in tasks.items():
                    logged = last_metrics(folders[name])
                    loss = f'loss {logged["loss"]:.2f}' if 'loss' in logged else ''
                    progress.update(task, completed=logged.get('epoch', 0), loss=loss)
    finally:
        for process in processes.values():
            process.terminate()
    for name, process in processes.items():
        if process.wait():
            log = folders[name] / 'console.log'
            sys.exit(f'{name}: training failed. The end of {log}:\n' + log.read_text()[-2000:])


def one_thread():
    """The environment with one thread for each numerical library."""
    return os.environ | dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS'), '1')


def last_metrics(folder):
    """Last logged value of every metric of a run."""
    metrics = {}
    for log in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            try:
                metrics.update(json.loads(line))
            except ValueError:  # The line is being written.
                break
    return metrics


def measure_all(folders):
    """Measures in percent by name of the run; the untrained network comes first."""
    from mmselfsup_invp.evaluation import read_run
    from mmselfsup_invp.visualization import ReportOptions
    from mmselfsup_invp.visualization.run_data import RunData

    data = {name: RunData(read_run(folder), ReportOptions()) for name, folder in folders.items()}
    untrained = RunData(read_run(folders[INVP]), ReportOptions())
    for module in untrained.model.backbone.modules():
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()
    return {name: measure(run) for name, run in {UNTRAINED: untrained, **data}.items()}


def measure(data):
    """kNN accuracy, accuracy with few labels, agreement of clusters and purity of a network."""
    import torch
    from sklearn.cluster import KMeans

    from mmselfsup_invp import evaluation
    from mmselfsup_invp.ops import knn_graph

    gallery, label = data.backbone, data.gallery.label
    query = data.query_backbone, data.queries.label
    clusters = KMeans(int(label.max()) + 1, n_init=10, random_state=0).fit_predict(gallery.numpy())
    agreement = evaluation.cluster_agreement(torch.from_numpy(clusters).long(), label)
    purity = evaluation.neighbour_purity(
        knn_graph(gallery, DEGREE), label, HOPS, torch.arange(len(gallery))
    )
    return {
        'kNN': evaluation.knn_accuracy(*query, gallery, label, KNN, TEMPERATURE),
        '1 label a class': evaluation.few_shot_accuracy(*query, gallery, label, 1),
        '5 labels a class': evaluation.few_shot_accuracy(*query, gallery, label, 5),
        'clusters, NMI': agreement['nmi'],
        'purity, 1 hop': purity['purity_hop1'],
        f'purity, {HOPS} hops': purity[f'purity_hop{HOPS}'],
    }


def draw(rows, path):
    """Draw the measures as a picture, one line for each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout='constrained')
    axes = figure.subplots()
    names = list(rows[INVP])[::-1]
    for (name, values), colour in zip(rows.items(), COLOURS, strict=True):
        axes.plot([values[n] for n in names], names, 'o', color=colour, label=name, markersize=8)
    gain = [[rows[run][n] for n in names] for run in (TWIN, INVP)]
    axes.hlines(names, *gain, color=COLOURS[-1], linewidth=1)
    axes.set_xlabel('percent')
    axes.grid(axis='x', alpha=0.3)
    axes.set_title('Features of the backbone, handwritten digits')
    axes.legend(loc='lower left')
    figure.savefig(path, dpi=120)


def show(rows, folder, picture):
    """Print the table and the paths of the results."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title='Handwritten digits, features of the backbone, %')
    for column in ('', *rows[INVP]):
        table.add_column(column, justify='right' if column else 'left', no_wrap=True)
    for name, values in rows.items():
        table.add_row(name, *(f'{value:.1f}' for value in values.values()))
    console = Console(width=110)
    console.print(table)
    console.print(f'picture     {picture}', soft_wrap=True)
    console.print(f'checkpoint  {(folder / "last_checkpoint").read_text()}', soft_wrap=True)
    command = shlex.join([relative(sys.executable), 'tools/report.py', relative(folder)])
    console.print(f'next        {command}', soft_wrap=True)


def relative(path):
    """A path relative to the root of the repository, where it lies in it."""
    path = Path(path)
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


if __name__ == '__main__':
    main()
