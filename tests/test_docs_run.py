"""The commands and scripts of the documentation run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from .pages import PAGES, ROOT, Block, blocks, name

DIGITS = 'configs/invp/invp_resnet18-slim_1xb32-coslr-50e_digits.py'


def loop_of_the_reader() -> dict:
    """Names that the loop of README.md uses, for two epochs on noise."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 128))
    dataset = torch.utils.data.TensorDataset(torch.randn(1100, 3, 4, 4), torch.arange(1100))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = [*torch.utils.data.DataLoader(dataset, 550)] * 2
    return dict(model=model, dataset=dataset, optimizer=optimizer, loader=loader)


# Scripts that use names of the reader: a word of the script, and these names.
FRAGMENTS = {
    'README.md': ('invp_step', loop_of_the_reader),
    'configs/sela/README.md': ('sinkhorn_labels', lambda: dict(logits=torch.randn(40, 4))),
}


def is_fragment(page: Path, block: Block) -> bool:
    return block.is_script and FRAGMENTS.get(name(page), ('\0',))[0] in block.code


@pytest.mark.parametrize('page', FRAGMENTS)
def test_fragments_run(page):
    (block,) = (block for block in blocks(ROOT / page) if is_fragment(ROOT / page, block))
    names = FRAGMENTS[page][1]()
    exec(block.code, names)
    if page == 'README.md':  # In the second epoch the images have neighbours.
        assert names['step'].positive.mask.any(dim=1).all()
        assert names['step'].propagation > 0


def run(command: str, folder: Path) -> None:
    """Run a command of a page by this Python."""
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={**os.environ, 'PATH': path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f'{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}'


def train(command: str, folder: Path) -> list[dict]:
    """Run a training command of a page for one iteration an epoch; returns the log."""
    epochs = 3 if '--resume' in command else 2
    changes = [f'train_cfg.max_epochs={epochs}', 'default_hooks.logger.interval=1']
    if 'close_head' in command:
        changes.append('default_hooks.memory.ramp_epochs=0')
    before = set(folder.rglob('scalars.json'))
    run(f'{command} --cfg-options {" ".join(changes)}', folder)
    (log,) = set(folder.rglob('scalars.json')) - before
    steps = [line for line in map(json.loads, log.open()) if 'loss' in line]
    assert steps
    for step in steps:
        parts = [value for key, value in step.items() if key.startswith('loss_')]
        assert not parts or sum(parts) == pytest.approx(step['loss'], rel=1e-4)
    return steps


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    """A folder like the root of the repository: digits of one batch, photos, a run."""
    folder = tmp_path_factory.mktemp('root')
    for link in ('configs', 'examples', 'tools'):
        (folder / link).symlink_to(ROOT / link)
    run('python tools/convert_dataset.py digits data/digits', folder)
    for split, count in (('train', 32), ('test', 16)):
        listed = folder / 'data/digits/meta' / f'{split}.txt'
        listed.write_text(''.join(listed.open().readlines()[:count]))
    for number, path in enumerate(sorted((folder / 'data/digits/test').rglob('*.png'))[:60]):
        photo = Image.open(path).resize((24, 32))
        for parent in ('photos', f'photos_by_class/{path.parent.name}'):
            (folder / parent).mkdir(parents=True, exist_ok=True)
            photo.save(folder / parent / f'{number}.jpg')
    photo.save(folder / 'cat.jpg')
    train(f'python tools/train.py {DIGITS} --work-dir run', folder)
    return folder


def provide_run(code: str, root: Path, folder: Path) -> None:
    """Put a run, or its last checkpoint, where the code expects one."""
    for path in re.findall(r'work_dirs/[\w./-]+|(?<![\w/])epoch_\d+\.pth', code):
        target = folder / path
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == '.pth':
            target.symlink_to(
                max([*target.parent.glob('epoch_*.pth')], default=root / 'run/epoch_2.pth')
            )
        else:
            shutil.copytree(root / 'run', target)


def runs(page: Path) -> list[Block]:
    """Blocks of a page that are run: commands and scripts without a comment that says why not."""
    found = [block for block in blocks(page) if not block.reason and not is_fragment(page, block)]
    return [block for block in found if block.language == 'shell' or block.is_script]


@pytest.mark.slow
@pytest.mark.parametrize('page', filter(runs, PAGES), ids=name)
def test_code_runs(page, root, tmp_path):
    """Run the blocks of a page in their order, as a reader would; training is shortened."""
    (tmp_path / 'data').mkdir()
    for link in (
        'configs',
        'examples',
        'tools',
        'data/digits',
        'photos',
        'photos_by_class',
        'cat.jpg',
    ):
        (tmp_path / link).symlink_to(root / link)
    for block in blocks(page):
        if block.file:
            (tmp_path / block.file).write_text(block.code)
    for block in runs(page):
        if block.is_script:
            provide_run(block.code, root, tmp_path)
            (tmp_path / 'snippet.py').write_text(block.code)
            run('python snippet.py', tmp_path)
            continue
        for command in block.commands():
            if 'tools/train.py' not in command:
                provide_run(command, root, tmp_path)
                run(command, tmp_path)
                continue
            steps = train(command, tmp_path)
            if 'two_hops' in command or 'close_head' in command:
                # The graph is empty in the first of the two epochs.
                assert steps[0]['num_positives'] == 0
                assert steps[-1]['num_positives'] > 0 and steps[-1]['loss_inv'] > 0
            if 'two_hops' in command:
                assert steps[-1]['num_positives'] > 4  # k = 4
