"""Detection configs of MMSelfSup and MMDetection, started by MMDetection's script, on our backbone.

Each trains for two iterations on toy data and is tested, in a process that does not import this
package. The options are those of ``mim_dist_train_c4.sh`` and ``mim_dist_train_fpn.sh`` of
MMSelfSup.
"""

import re
import subprocess
from pathlib import Path

import pytest
from mmengine.config import Config

from mmselfsup_invp.export import export_backbone

from . import detectors
from .host_tools import TOOLS, pretrained

pytestmark = [pytest.mark.detection, pytest.mark.slow]

CASES = [
    (name, config)
    for name, tool in TOOLS.items()
    if tool.project == 'mmdet'
    for config in tool.paths()
]
# An anchor of 32 pixels lies within the image, which the configs for COCO need.
SCALE = (48, 48)
LENGTHS = {
    'IterBasedTrainLoop': ('train_cfg.max_iters=2', 'train_cfg.val_interval=2'),
    'EpochBasedTrainLoop': ('train_cfg.max_epochs=1', 'train_cfg.val_interval=1'),
}


@pytest.fixture(scope='module')
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with toy data and a backbone of ours."""
    from mmdet.datasets import CocoDataset

    root = tmp_path_factory.mktemp('checkout')
    detectors.devkit(root / 'data/VOCdevkit')
    detectors.coco_folder(root / 'data/coco', CocoDataset.METAINFO['classes'])
    export_backbone(detectors.resnet_checkpoint(root / 'run'), 'mmselfsup', root / 'backbone.pth')
    return root


def start(checkout: Path, name: str, config: str) -> subprocess.CompletedProcess:
    """Run the script as the shell scripts do, on tiny images, for two iterations."""
    tool = TOOLS[name]
    path = detectors.shrunk(tool.folder / config, checkout, SCALE)
    options = ['train_dataloader.batch_size=2', *LENGTHS[Config.fromfile(path).train_cfg.type]]
    options += pretrained()
    if '-c4_' in config:
        options += pretrained('roi_head.shared_head')
    words = [*tool.command, path.name, '--work-dir', 'work']
    return tool.run(checkout, words, options)


@pytest.mark.parametrize(('name', 'config'), CASES)
def test_the_result_is_that_of_the_table(checkout, name, config):
    output = TOOLS[name].output_of(start(checkout, name, config))
    if not TOOLS[name].error:
        assert re.search(r'\(val\).*\[4/4\]', output)
        # The shared head has a normalisation of its own after the last stage.
        assert not re.search(r'missing keys in source state_dict: (?!norm\.)', output)
