"""Detectors of the host, of mmdet and of ours train from our checkpoints and are evaluated."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.hub import get_config
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from mmselfsup_invp.evaluation import check_loaded, read_backbone, run_detection

from . import detectors
from .detectors import dicts_in, shrink, shrunk

pytestmark = pytest.mark.detection

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / 'configs/benchmarks/mmdetection'
CONFIGS = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob('*/*.py'))
PAPER = FOLDER / 'voc0712/faster-rcnn_r50-c4_ms-24k_voc0712.py'
BATCH_4 = FOLDER / 'voc0712/faster-rcnn_r50-c4_ms-96k_voc0712.py'
BCCD = FOLDER / 'bccd/faster-rcnn_r50-c4_150i_bccd.py'
HOST = [
    'mmselfsup::benchmarks/mmdetection/voc0712/faster-rcnn_r50-c4_ms-24k_voc0712.py',
    'mmdet::pascal_voc/faster-rcnn_r50-caffe-c4_ms-18k_voc0712.py',
    'mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py',
]
every_config = pytest.mark.parametrize('name', CONFIGS)


@pytest.fixture(scope='module')
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return detectors.devkit(tmp_path_factory.mktemp('devkit'))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return detectors.resnet_checkpoint(tmp_path_factory.mktemp('pretrained'))


class Loaded(Hook):
    """Checks the initial weights."""

    def __init__(self, checkpoint: Path) -> None:
        self.backbone = read_backbone(checkpoint)

    def before_train(self, runner: Runner) -> None:
        check_loaded(runner.model, self.backbone)
        assert len(self.backbone.state) == 318


# ---- the configs of others ----


@pytest.mark.parametrize('name', HOST)
def test_a_host_config_trains_from_our_backbone(name, devkit, checkpoint, tmp_path, monkeypatch):
    """Nothing is changed but the data, what shrinks them, the length, and the initial weights."""
    config = shrink(get_config(name))
    config.default_hooks.checkpoint = None
    weights = dict(type='Pretrained', checkpoint=str(checkpoint), prefix='backbone.')
    config.model.backbone.init_cfg = weights
    if 'shared_head' in config.model.roi_head:
        config.model.roi_head.shared_head.init_cfg = weights
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
    config.log_processor.by_epoch = False
    config.work_dir = str(tmp_path)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/VOCdevkit').symlink_to(devkit)
    monkeypatch.chdir(tmp_path)
    runner = Runner.from_cfg(config)
    found = {}
    monkeypatch.setattr(
        Evaluator,
        'evaluate',
        lambda self, size, real=Evaluator.evaluate: found.update(real(self, size)) or found,
    )
    runner.register_hook(Loaded(checkpoint))
    runner.train()
    assert runner.iter == 2
    assert 0 <= found['pascal_voc/mAP'] <= 1 and 'pascal_voc/AP50' in found


# ---- ours ----


def tiny_run(path: Path, checkpoint: Path, data: Path, folder: Path, **options: Any) -> dict:
    """Two iterations of a config of ours on tiny images, and its figures."""
    options = {'train_cfg.max_iters': 2, 'auto_scale_lr.enable': True, **options}
    return run_detection(checkpoint, shrunk(path, folder), folder / 'run', data, options)


def test_the_paper_config_trains_and_gives_the_papers_figures(devkit, checkpoint, tmp_path):
    figures = tiny_run(PAPER, checkpoint, devkit, tmp_path)
    assert list(figures) == ['AP', 'AP50', 'AP75']
    assert all(0 <= value <= 100 for value in figures.values())


def test_the_bccd_config_trains_on_a_folder_in_voc_layout(checkpoint, tmp_path):
    data = detectors.voc_folder(tmp_path / 'cells', classes=('RBC', 'WBC', 'Platelets'))
    options = {'test_evaluator.iou_thrs': [0.5]}  # Each overlap starts processes of its own.
    assert list(tiny_run(BCCD, checkpoint, data, tmp_path, **options)) == ['AP50']


def test_a_box_without_size_is_ignored(tmp_path):
    """Its regression target would be the logarithm of 0 / 0."""
    data = detectors.voc_folder(tmp_path, classes=('RBC', 'WBC'), images=2)
    path = data / 'Annotations/000000.xml'
    text = path.read_text()
    left = re.search(r'<xmin>(\d+)', text)[1]
    path.write_text(re.sub(r'<xmax>\d+', f'<xmax>{left}', text))
    config = Config.fromfile(BCCD).train_dataloader.dataset
    config.data_root = str(data)
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(config)
    flat, sound = (dataset[index]['data_samples'] for index in range(2))
    assert (len(flat.gt_instances), len(flat.ignored_instances)) == (0, 1)
    assert (len(sound.gt_instances), len(sound.ignored_instances)) == (1, 0)


@every_config
def test_it_works_where_it_is_inherited(name, devkit, tmp_path, monkeypatch):
    """The scope of an inherited config must lead to mmdet's components."""
    (tmp_path / 'mine.py').write_text(f"_base_ = 'mmselfsup_invp::benchmarks/mmdetection/{name}'\n")
    config = shrink(Config.fromfile(tmp_path / 'mine.py'))
    config.work_dir = str(tmp_path)
    for part in (config.model.backbone, config.model.roi_head.shared_head):
        part.init_cfg = None
    runner = Runner.from_cfg(config)
    assert runner.model.backbone.norm1.training  # nothing is frozen
    assert type(runner.model.roi_head.shared_head).__name__ == 'ResLayerExtraNorm'
    classes = ('dog',)
    if 'voc0712' not in name:
        classes = config.train_dataloader.dataset.metainfo.classes
    for year in ('VOC2007', 'VOC2012'):
        detectors.voc_folder(tmp_path / 'data' / year, classes=classes)
    root = tmp_path / 'data' / ('' if 'voc0712' in name else 'VOC2007')
    for loader in (config.train_dataloader, config.test_dataloader):
        for part in dicts_in(loader.dataset):
            if 'data_root' in part:
                part['data_root'] = str(root)
        with DefaultScope.overwrite_default_scope('mmdet'):
            sample = DATASETS.build(loader.dataset)[0]
        boxes = sample['data_samples'].gt_instances
        assert len(boxes) == 1 and boxes.bboxes.numel() == 4 and sample['inputs'].dim() == 3


def test_the_recipe_is_that_of_the_paper():
    config = Config.fromfile(PAPER)
    pixels = config.model.data_preprocessor
    assert (pixels.mean, pixels.std) == ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    assert pixels.bgr_to_rgb is True
    warmup, steps = config.param_scheduler
    assert config.train_cfg.max_iters == 24000 and config.optim_wrapper.optimizer.lr == 0.02
    assert (warmup.end, steps.milestones) == (100, [18000, 22000])
    assert config.train_dataloader.batch_size == 2
    resize = config.train_dataloader.dataset.datasets[0].pipeline[2]
    assert [scale[1] for scale in resize.scales] == list(range(480, 801, 32))
    assert config.test_dataloader.dataset.pipeline[1].scale == (1333, 800)
    train = config.train_dataloader.dataset.datasets
    assert [part.ann_file for part in train] == [
        f'VOC{year}/ImageSets/Main/trainval.txt' for year in (2007, 2012)
    ]
    assert config.test_dataloader.dataset.ann_file == 'VOC2007/ImageSets/Main/test.txt'
    backbone, head = config.model.backbone, config.model.roi_head.shared_head
    assert backbone.frozen_stages == -1 and not backbone.norm_eval and not head.norm_eval
    assert backbone.norm_cfg == head.norm_cfg == dict(type='SyncBN', requires_grad=True)


def test_a_quarter_of_the_batch_takes_four_times_as_long():
    paper, four = Config.fromfile(PAPER), Config.fromfile(BATCH_4)
    assert four.train_dataloader.batch_size == 2 * 8 // 4
    assert four.optim_wrapper.optimizer.lr == paper.optim_wrapper.optimizer.lr / 4
    assert four.train_cfg.max_iters == 4 * paper.train_cfg.max_iters
    for ours, theirs in zip(four.param_scheduler, paper.param_scheduler, strict=True):
        assert ours.end == 4 * theirs.end
    assert four.param_scheduler[1].milestones == [72000, 88000]


@every_config
def test_a_config_says_how_many_images_its_rate_is_for(name):
    config = Config.fromfile(FOLDER / name)
    processes = 8 if FOLDER / name == PAPER else 1
    images = config.auto_scale_lr.base_batch_size
    assert images == processes * config.train_dataloader.batch_size
    assert not config.auto_scale_lr.enable


@pytest.mark.parametrize(('shift', 'passed'), [(0, 10), (20, 4), (30, 1)])
def test_ap_is_the_mean_over_ten_overlaps(shift, passed):
    """A box of 100 pixels beside its true place by 20 overlaps by 80 / 120 = 0.667."""
    config = Config.fromfile(PAPER).test_evaluator
    with DefaultScope.overwrite_default_scope('mmdet'):
        evaluator = Evaluator(config)
    evaluator.dataset_meta = dict(classes=('dog',), dataset_type='VOC2007')
    (metric,) = evaluator.metrics
    box, label = torch.tensor([[0.0, 0, 99, 99]]), torch.tensor([0])
    sample = dict(
        gt_instances=dict(bboxes=box, labels=label),
        ignored_instances=InstanceData(bboxes=box[:0], labels=label[:0]),
        pred_instances=dict(
            bboxes=box + torch.tensor([shift, 0, shift, 0]), labels=label, scores=torch.ones(1)
        ),
    )
    metric.process({}, [sample])
    found = metric.compute_metrics(metric.results)
    assert sum(name != 'mAP' for name in found) == 10
    assert found['mAP'] == pytest.approx(passed / 10)
    assert (found['AP50'], found['AP75']) == (1, float(shift == 0))


@every_config
def test_data_are_looked_for_in_the_current_folder(name):
    config = Config.fromfile(FOLDER / name)
    roots = [part['data_root'] for part in dicts_in(config._cfg_dict) if 'data_root' in part]
    assert roots and all(root.startswith('data/') and not os.path.isabs(root) for root in roots)
