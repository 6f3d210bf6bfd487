from importlib import import_module

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope

from mmselfsup_invp.datasets import LoadImage
from mmselfsup_invp.datasets.transforms import UnreadableImage
from mmselfsup_invp.evaluation import check_loaded, detection, read_backbone, run_detection

from .. import detectors

pytestmark = pytest.mark.detection

# A detector without a shared head, made small.
FPN = 'mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py'
R18 = {'model.backbone.depth': 18, 'model.neck.in_channels': [64, 128, 256, 512]}
C4 = 'mmdet::pascal_voc/faster-rcnn_r50-caffe-c4_ms-18k_voc0712.py'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return detectors.resnet_checkpoint(tmp_path_factory.mktemp('resnet18'), depth=18)


@pytest.fixture(scope='module')
def resnet50(tmp_path_factory):
    return read_backbone(detectors.resnet_checkpoint(tmp_path_factory.mktemp('resnet50')))


@pytest.fixture
def config(checkpoint, tmp_path):
    """A config file, small."""
    (tmp_path / 'base.py').write_text(f'_base_ = {FPN!r}')
    config = detectors.shrink(Config.fromfile(tmp_path / 'base.py'))
    config.merge_from_dict(R18)
    config.train_dataloader.dataset.times = 1
    config.dump(tmp_path / 'config.py')
    return tmp_path / 'config.py'


def build(config):
    """The detector, initialised."""
    detection.require_mmdet()
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = import_module('mmdet.registry').MODELS.build(config.model)
        model.init_weights()
    return model


def test_a_run_is_interrupted_resumed_and_tested_again(checkpoint, config, tmp_path, monkeypatch):
    data, work = detectors.devkit(tmp_path / 'data'), tmp_path / 'work'
    run = dict(checkpoint=checkpoint, config=config, work_dir=work, data_root=data)
    trained = []
    train = detection.Runner.train
    monkeypatch.setattr(
        detection.Runner, 'train', lambda runner: train(runner) and trained.append(runner)
    )
    figures = run_detection(**run, options={'train_cfg.max_epochs': 1})
    assert list(figures) == ['AP50'] and 0 <= figures['AP50'] <= 100
    assert run_detection(**run, options={'train_cfg.max_epochs': 1}) == figures
    assert [(runner.epoch, runner.iter) for runner in trained] == [(1, 4)]

    run_detection(**run, options={'train_cfg.max_epochs': 2})
    assert [(runner.epoch, runner.iter) for runner in trained] == [(1, 4), (2, 8)]
    assert trained[1]._resume
    refused = pytest.raises(ValueError, match='began with other weights, .*pretrained.pth')
    with refused:
        run_detection(**run, random_init=True)

    # Another network under the old name.
    other = torch.load(checkpoint, weights_only=True)
    other['state_dict']['backbone.conv1.weight'] += 1
    before = checkpoint.read_bytes()
    torch.save(other, checkpoint)
    try:
        with refused:
            run_detection(**run, options={'train_cfg.max_epochs': 2})
    finally:
        checkpoint.write_bytes(before)


def test_the_weights_the_pixels_and_the_data_reach_the_config(checkpoint):
    backbone = read_backbone(checkpoint)
    config = detection.detection_config(backbone, C4, 'elsewhere', {'train_cfg.max_iters': 7})
    expected = dict(type='Pretrained', checkpoint=str(checkpoint), prefix='backbone.')
    assert config.model.backbone.init_cfg == config.model.roi_head.shared_head.init_cfg == expected
    assert config.model.backbone.style == config.model.roi_head.shared_head.style == 'pytorch'
    pixels = config.model.data_preprocessor
    assert pixels.mean == pixels.std == [127.5] * 3 and pixels.bgr_to_rgb is True
    roots = [part.data_root for part in config.train_dataloader.dataset.datasets]
    assert {*roots, config.test_dataloader.dataset.data_root} == {'elsewhere'}
    assert config.train_cfg.max_iters == 7 and config.val_dataloader is None


def test_a_random_backbone_loads_nothing(checkpoint):
    config = detection.detection_config(read_backbone(checkpoint), C4, random_init=True)
    assert config.model.backbone.init_cfg is config.model.roi_head.shared_head.init_cfg is None


def test_a_c4_detector_is_loaded_in_both_parts(resnet50):
    check_loaded(build(detection.detection_config(resnet50, C4)), resnet50)


def without_head(config):
    config.model.roi_head.shared_head.init_cfg = None


def without_prefix(config):
    del config.model.backbone.init_cfg['prefix']


def without_last_stage(config):
    del config.model.roi_head['shared_head']


def with_another_depth(config):
    config.model.backbone.depth = 101


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (without_head, r'Weights different: layer4\.0\.'),
        (without_prefix, 'does not fit: none of the .* weights'),
        (without_last_stage, r'Weights not in the network: layer4\.0\.'),
        (with_another_depth, r'Weights not in the checkpoint: layer3\.10\.'),
    ],
)
def test_what_is_not_loaded_is_named(resnet50, change, message):
    config = detection.detection_config(resnet50, C4)
    change(config)
    with pytest.raises(ValueError, match=message):
        check_loaded(build(config), resnet50)


def test_another_network_is_refused_before_it_is_built(checkpoint, tmp_path, capfd):
    """MMEngine would load what fits, and tell of the rest on screens."""
    data = detectors.devkit(tmp_path / 'data')
    (tmp_path / 'base.py').write_text(f'_base_ = {FPN!r}')
    detectors.shrink(Config.fromfile(tmp_path / 'base.py')).dump(tmp_path / 'config.py')
    with pytest.raises(ValueError, match='not that of .*pretrained.pth.*not in the checkpoint'):
        run_detection(checkpoint, tmp_path / 'config.py', tmp_path / 'work', data)
    assert 'size mismatch' not in ''.join(capfd.readouterr())
    assert not (tmp_path / 'work').exists()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'depth': 101}, r'Weights not in the checkpoint: layer3\.10\.'),
        ({'base_channels': 32}, r'Weights different: bn1\.bias'),
    ],
)
def test_what_does_not_fit_is_named(resnet50, change, message):
    config = detection.detection_config(resnet50, C4)
    detection._check_shapes(config.model, resnet50)
    config.model.backbone.update(change)
    with pytest.raises(ValueError, match=message):
        detection._check_shapes(config.model, resnet50)


@pytest.mark.parametrize(
    ('loop', 'meta', 'finished'),
    [
        (dict(max_epochs=2), dict(epoch=1, iter=99), False),
        (dict(max_epochs=2), dict(epoch=2, iter=99), True),
        (dict(max_iters=100), dict(epoch=9, iter=99), False),
        (dict(max_iters=99), dict(epoch=0, iter=99), True),
    ],
)
def test_a_run_continues_unless_it_is_finished(tmp_path, loop, meta, finished):
    cfg = Config(dict(train_cfg=loop, backbone_fingerprint='a', model=dict(backbone=dict())))
    cfg.work_dir = str(tmp_path)
    assert detection._continue(cfg) is False and 'load_from' not in cfg
    meta['cfg'] = cfg.pretty_text
    torch.save(dict(state_dict={}, meta=meta), tmp_path / 'last.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'last.pth'))
    assert detection._continue(cfg) is finished
    assert cfg.resume is not finished and cfg.load_from == str(tmp_path / 'last.pth')
    cfg.backbone_fingerprint = 'b'
    with pytest.raises(ValueError, match='began with other weights'):
        detection._continue(cfg)


def recipe(batch_size, **changes):
    """What matters of a config whose learning rate is meant for 16 images."""
    return Config(
        dict(
            train_dataloader=dict(batch_size=batch_size),
            auto_scale_lr=dict(enable=False, base_batch_size=16),
            launcher='none',
            benchmark=dict(name='some-detection'),
        )
        | changes
    )


def test_another_batch_than_that_of_the_recipe_is_refused():
    with pytest.raises(ValueError, match=r'2 images a step \(batch_size 2 x processes 1') as raised:
        detection._check_batch(recipe(batch_size=2))
    for part in (
        'for 16',
        'batch_size x processes 16',
        'voc0712-detection-96k',
        'rate by 0.125',
        'size=2 keeps',
    ):
        assert part in str(raised.value)
    detection._check_batch(recipe(batch_size=16))
    detection._check_batch(recipe(batch_size=2, auto_scale_lr=dict(enable=True)))


def test_processes_that_a_launcher_started_count(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '8')
    detection._check_batch(recipe(batch_size=2, launcher='pytorch'))
    with pytest.raises(ValueError, match=r'24 images a step \(batch_size 3 x processes 8'):
        detection._check_batch(recipe(batch_size=3, launcher='pytorch'))


def test_a_config_that_is_no_benchmark_is_warned_about(monkeypatch):
    said = []
    monkeypatch.setattr(detection, 'print_log', lambda text, **_: said.append(text))
    config = recipe(batch_size=2)
    config.pop('benchmark')
    detection._check_batch(config)
    assert len(said) == 1 and 'is for 16' in said[0]
    config.pop('auto_scale_lr')
    detection._check_batch(config)
    assert len(said) == 1


def test_nothing_is_written_before_the_batch_is_refused(checkpoint, config, tmp_path):
    config.write_text(config.read_text() + "\nbenchmark = dict(name='some-detection')\n")
    with pytest.raises(ValueError, match='2 images a step'):
        run_detection(checkpoint, config, tmp_path / 'work', detectors.devkit(tmp_path / 'data'))
    assert not (tmp_path / 'work').exists()


def test_a_run_looks_at_its_data_first(checkpoint, config, tmp_path):
    data = detectors.devkit(tmp_path / 'data')
    (data / 'VOC2012/Annotations').rename(data / 'elsewhere')
    with pytest.raises(FileNotFoundError, match='VOC2012/Annotations/000000.xml'):
        run_detection(checkpoint, config, tmp_path / 'work', data)
    assert not (tmp_path / 'work').exists()


@pytest.mark.parametrize('content', [0, 300])
def test_an_image_that_cannot_be_read_is_named(checkpoint, config, tmp_path, content):
    data = detectors.devkit(tmp_path / 'data')
    broken = data / 'VOC2012/JPEGImages/000003.jpg'
    broken.write_bytes(broken.read_bytes()[:content])
    with pytest.raises(UnreadableImage, match=f'Cannot read the image {broken}'):
        run_detection(checkpoint, config, tmp_path / 'work', data)


def test_the_loader_of_images_keeps_its_name(checkpoint):
    """mmdet's inferencer looks for it."""
    config = detection.detection_config(read_backbone(checkpoint), C4)
    step = config.test_dataloader.dataset.pipeline[0]
    assert step.type == 'LoadImageFromFile'
    with DefaultScope.overwrite_default_scope('mmdet'):
        assert isinstance(TRANSFORMS.build(step), LoadImage)


def test_without_mmdet_it_says_what_to_install(checkpoint, tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(detection, 'import_module', missing)
    with pytest.raises(ImportError, match=r"No module named 'mmcv.ops'\. pip install \"mmdet=="):
        run_detection(checkpoint, FPN, tmp_path)


@pytest.mark.parametrize(
    ('found', 'expected'),
    [
        (dict(mAP=0.3, AP50=0.5, AP75=0.25), dict(AP=30, AP50=50, AP75=25)),
        (dict(mAP=0.5, AP50=0.5), dict(AP50=50)),
    ],
)
def test_a_mean_over_one_overlap_is_no_ap(found, expected):
    named = {f'pascal_voc/{name}': value for name, value in found.items()}
    assert detection._in_percent(named) == expected
