"""Benchmark configs and tools of MMSelfSup, started by its own scripts, on our backbone.

Each runs two iterations on toy data, in processes that do not import this package unless the config
does.
"""

import subprocess
from pathlib import Path

import pytest

from mmselfsup_invp.export import export_backbone

from . import detectors, layouts
from .host_tools import HOST, PRETRAINING, SMALL, TOOLS, pretrained, table

ROOT = Path(__file__).resolve().parent.parent
INVP = ROOT / 'configs/invp/invp_resnet50_1xb128-coslr-800e_in1k.py'


def write_lists(root: Path) -> None:
    """Lists of the images of ImageNet, and of VOC 2007, by the names in the configs."""
    for split in ('train', 'val'):
        names = sorted(path.relative_to(root / split) for path in (root / split).glob('*/*.JPEG'))
        lines = ''.join(f'{name} {number % 2}\n' for number, name in enumerate(names))
        (root / 'meta').mkdir(exist_ok=True)
        if split == 'val':  # knn_eval divides the number of images by 100.
            lines *= 13
        for name in [split, *(f'{split}_{percent}percent' for percent in (1, 10))]:
            (root / 'meta' / f'{name}.txt').write_text(lines)


@pytest.fixture(scope='module')
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a checkout of the host, with toy data and a backbone of ours."""
    root = tmp_path_factory.mktemp('checkout')
    for name in ('tools', 'configs'):
        (root / name).symlink_to(HOST / name)
    write_lists(layouts.imagenet(root / 'data/imagenet', per_class=4))
    layouts.places205(root / 'data/Places205')
    voc = layouts.voc(root / 'data/VOCdevkit', trainval=4, test=4) / 'VOC2007'
    names = sorted(path.name for path in (voc / 'JPEGImages').glob('*.jpg'))
    (voc / 'Lists').mkdir()
    (voc / 'Lists/trainvaltest.txt').write_text(''.join(f'{name} 0\n' for name in names))
    checkpoint = detectors.resnet_checkpoint(root / 'run')
    export_backbone(checkpoint, 'mmselfsup', root / 'backbone.pth')
    return root


def start(checkout: Path, name: str, config: str) -> subprocess.CompletedProcess:
    """Run a tool as the shell scripts of the host do, with fewer and smaller batches."""
    tool = TOOLS[name]
    words = [str(INVP) if word == PRETRAINING else word for word in tool.command]
    options = pretrained()
    if config:
        words.append(str(tool.folder / config))
    if tool.command[0].endswith('train.py'):
        words += ['--work-dir', str(checkout / 'work')]
        loaders = ['train_dataloader']
        if config:
            loaders.append('val_dataloader')
            options.append('val_dataloader.dataset.indices=4')
        options += [f'{loader}.{option}' for loader in loaders for option in SMALL]
        options += ['train_cfg.max_epochs=1', 'default_hooks.checkpoint=None']
    return tool.run(checkout, words, options)


CASES = [
    (name, config)
    for name, tool in TOOLS.items()
    if tool.project != 'mmdet'  # test_host_detection.py
    for config in [*tool.paths()] or ['']
]


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'config'), CASES)
def test_the_result_is_that_of_the_table(checkout, name, config):
    output = TOOLS[name].output_of(start(checkout, name, config))
    if not TOOLS[name].error:
        assert 'do not match' not in output and 'unexpected key' not in output


def test_the_table_is_that_of_the_documentation():
    assert table() in (ROOT / 'docs/en/compatibility.md').read_text()
