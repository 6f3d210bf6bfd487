"""The benchmark configs and tools of MMSelfSup: how they are started, and which of them fail.

``python -m tests.host_tools`` prints the table in docs/en/compatibility.md. test_host_tools.py and
test_host_detection.py run every row on toy data.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


def mim(project: str) -> Path:
    """Folder of the configs and scripts of a project; mmdet may not be installed."""
    found = find_spec(project)
    return (Path(found.origin).parent if found else Path(project)) / '.mim'


HOST = mim('mmselfsup')
# The scripts that `mim train PROJECT` starts.
TRAIN = {project: (str(mim(project) / 'tools/train.py'),) for project in ('mmcls', 'mmdet')}
CLASSIFICATION = 'tools/benchmarks/classification'
PROTOCOLS = '../../configs/benchmarks/README.md#protocols'
# One process, as the shell scripts of the host start several.
LAUNCH = ('-m', 'torch.distributed.launch', '--nproc_per_node=1', '--master_port=29517')
# Options of a loader.
SMALL = ('batch_size=4', 'num_workers=0', 'persistent_workers=False')


@dataclass(frozen=True)
class Tool:
    """A script of the host with the configs that it is started with.

    Attributes:
        purpose (str): First column of the table.
        command (tuple[str, ...]): The script and its arguments in a checkout of the host; one that
            ends in ``train.py`` is started with each of the configs.
        configs (tuple[str, ...]): Patterns of configs below ``folder``.
        error (str): Regular expression in the output of a script that fails; empty if it runs.
        cause (str): The line upstream at which it fails.
        instead (str): What does the job instead.
        launched (bool): Whether PyTorch's launcher starts it.
        folder (Path): Folder of the configs.
    """

    purpose: str
    command: tuple[str, ...]
    configs: tuple[str, ...] = ()
    error: str = ''
    cause: str = ''
    instead: str = ''
    launched: bool = False
    folder: Path = HOST / 'configs/benchmarks'

    def paths(self) -> Iterator[str]:
        """The configs, from their folder."""
        for pattern in self.configs:
            yield from sorted(
                str(path.relative_to(self.folder)) for path in self.folder.glob(pattern)
            )

    def run(
        self, checkout: Path, words: list[str], options: list[str]
    ) -> subprocess.CompletedProcess:
        """Run it in a checkout of the host, by the launcher if needed, without a GPU."""
        if self.launched:
            words = [*LAUNCH, *words, '--launcher', 'pytorch']
        return subprocess.run(
            [sys.executable, *words, '--cfg-options', *options],
            cwd=checkout,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
            capture_output=True,
            text=True,
        )

    def output_of(self, done: subprocess.CompletedProcess) -> str:
        """The output of a run that ended as the table says."""
        output = done.stdout + done.stderr
        if self.error:
            assert done.returncode and re.search(self.error, output), output[-3000:]
        else:
            assert done.returncode == 0, output[-3000:]
        return output

    @property
    def project(self) -> str:
        """The project that the script belongs to."""
        return next((name for name in TRAIN if self.command == TRAIN[name]), 'mmselfsup')

    def row(self) -> str:
        """The row of the table."""
        script = '/'.join(Path(self.command[0]).parts[-2:])
        launcher = ', several processes' if self.launched else ''
        configs = len(list(self.paths()))
        number = f' ({configs} configs)' if configs > 1 else ''
        result = f'fails: {self.cause}' if self.error else 'runs unchanged'
        cells = (
            f'{self.purpose}{number}',
            f'{self.project} `{script}`{launcher}',
            result,
            self.instead,
        )
        return f'| {" | ".join(cells)} |'


PRETRAINING = 'PRETRAINING'  # Our config of the run whose backbone is evaluated.
KNN = (f'{CLASSIFICATION}/knn_imagenet/test_knn.py', PRETRAINING, '--num-knn', '1', '2')
SVM = (
    *(f'{CLASSIFICATION}/svm_voc07/extract.py', PRETRAINING),
    *('--layer-ind', '0,1,2,3,4', '--work-dir', 'work'),
)
RANK = "the script has no `--local-rank`, which PyTorch's launcher passes since 2.0"


def pretrained(part: str = 'backbone') -> list[str]:
    """Options of MMSelfSup's shell scripts, which load our backbone into a part of the model."""
    init = dict(type='Pretrained', checkpoint='backbone.pth', prefix='backbone.')
    return [f'model.{part}.init_cfg.{key}={value}' for key, value in init.items()]


def protocol(*names: str) -> str:
    """A link to protocols of tools/benchmark.py."""
    return f'[{", ".join(f"`{name}`" for name in names)}]({PROTOCOLS})'


TOOLS = {
    'pre-training': Tool('pre-training by our configs', ('tools/train.py', PRETRAINING)),
    'linear': Tool(
        'linear classification, ImageNet',
        TRAIN['mmcls'],
        (
            'classification/imagenet/resnet50_linear-*.py',
            'classification/imagenet/resnet50_8xb32*.py',
        ),
    ),
    'layers': Tool(
        'linear classification of each stage, ImageNet',
        TRAIN['mmcls'],
        ('classification/imagenet/resnet50_mhead_*.py',),
        'MultiHeadEvaluator is not in the',
        'MMSelfSup 1.0.0 has no `MultiHeadEvaluator`',
        'our `tools/train.py` with the same config, or ' + protocol('imagenet-linear'),
    ),
    'few labels': Tool(
        'fine-tuning on 1 % and 10 %',
        TRAIN['mmcls'],
        ('classification/imagenet/imagenet_1*percent/resnet50_head*.py',),
    ),
    'places': Tool(
        'Places205',
        TRAIN['mmcls'],
        ('classification/places205/resnet50_*.py',),
        'test_dataloader, test_cfg, and test_evaluator should be either all None or not None',
        '`_base_/datasets/places205.py` has no `test_dataloader`',
        protocol('places205-linear'),
    ),
    'inaturalist': Tool(
        'iNaturalist 2018',
        TRAIN['mmcls'],
        ('classification/inaturalist2018/resnet50_*.py',),
        'should be either all None or not None',
        '`_base_/datasets/inaturalist2018.py` is of MMSelfSup 0.x (`data = dict(...)`)',
        'none',
    ),
    'knn': Tool('kNN, ImageNet', KNN),
    'distributed knn': Tool(
        'kNN, ImageNet',
        KNN,
        error='unrecognized arguments: --local-rank',
        cause=RANK,
        instead=protocol('imagenet-knn'),
        launched=True,
    ),
    'svm': Tool(
        'features for SVMs and low-shot SVMs, VOC 2007',
        SVM,
        error='tuple indices must be integers or slices',
        cause='it collates by `pseudo_collate`, `SelfSupDataPreprocessor` needs stacked views',
        instead=protocol('voc07-svm', 'voc07-lowshot'),
    ),
    'distributed svm': Tool(
        'features for SVMs and low-shot SVMs, VOC 2007',
        SVM,
        error='unrecognized arguments: --local-rank',
        cause=RANK,
        instead=protocol('voc07-svm', 'voc07-lowshot'),
        launched=True,
    ),
    'distributed classification': Tool(
        'linear classification, ImageNet',
        TRAIN['mmcls'],
        ('classification/imagenet/resnet50_linear-8xb32-steplr*.py',),
        'unrecognized arguments: --local-rank',
        RANK,
        '`torchrun`, or our `tools/dist_train.sh` with the same config',
        launched=True,
    ),
    'detection': Tool(
        'detection, VOC 2007+2012 (C4)',
        TRAIN['mmdet'],
        ('mmdetection/voc0712/*c4*.py',),
    ),
    'distributed detection': Tool(
        'detection, VOC 2007+2012 (C4)',
        TRAIN['mmdet'],
        ('mmdetection/voc0712/*c4*.py',),
        r'torch\.cuda\.set_device\(local_rank\)',
        'without GPUs MMEngine stops in `torch.cuda.set_device`; not tested with GPUs',
        'on a CPU, one process',
        launched=True,
    ),
    'instance segmentation': Tool(
        'detection and instance segmentation, COCO (C4 and FPN)',
        TRAIN['mmdet'],
        ('mmdetection/coco/*.py',),
    ),
    'detection by mmdet': Tool(
        'detection, VOC 2007+2012 (C4), config of MMDetection',
        TRAIN['mmdet'],
        ('pascal_voc/*c4*.py',),
        folder=mim('mmdet') / 'configs',
    ),
    'instance segmentation by mmdet': Tool(
        'detection and instance segmentation, COCO (C4), config of MMDetection',
        TRAIN['mmdet'],
        ('mask_rcnn/*c4*.py',),
        folder=mim('mmdet') / 'configs',
    ),
}


def table() -> str:
    """The table of all tools."""
    head = '| Benchmark | Script | Result | Instead |\n|---|---|---|---|\n'
    return head + ''.join(f'{tool.row()}\n' for tool in TOOLS.values())


if __name__ == '__main__':
    print(table())
