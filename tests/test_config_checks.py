"""Wrong options of a config are refused before anything is built."""

import doctest
from pathlib import Path

import pytest
from mmengine.config import Config

from mmselfsup_invp import config_checks
from mmselfsup_invp.config_checks import check_config

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
# Those of detection need mmdet to be read.
FILES = sorted(
    path for path in CONFIGS.rglob('*.py') if not {'_base_', 'mmdetection'} & {*path.parts}
)
INVP = CONFIGS / 'invp' / 'invp_resnet18-slim_1xb32-coslr-50e_digits.py'
LOADER = 'train_dataloader'


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path):
    check_config(Config.fromfile(path))


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [
        ('optim_wraper', {'a': 1}, 'the key optim_wraper = .*Did you mean optim_wrapper'),
        ('modle', 3, 'the key modle = 3, .*Did you mean model'),
        ('resume', 'no', "resume = 'no' is not valid. It must be True or False"),
        ('model.head.hop', 2, r'model.head \(InvPHead\) has no option hop \(= 2\). .* hops'),
        ('model.head.loss.eps', 2.0, r'model.head.loss \(HardSamplingLoss\): eps = 2.0'),
        ('model.backbone.depht', 18, 'has no option depht .*Did you mean depth'),
        ('model.backbone.norm_eval', 'no', "norm_eval = 'no' .* True or False"),
        ('model.data_preprocessor.mean', ['a'] * 3, 'mean = .* a list, each entry a finite number'),
        ('default_hooks.memory.health_interval', 2.5, 'health_interval = 2.5 .* an integer'),
        ('default_hooks.knn.query_dataloader.batch_size', -1, 'batch_size = -1 .* an integer'),
        ('default_hooks.checkpoint.interval', 2.5, r'\(CheckpointHook\): interval = 2.5'),
        ('default_hooks.logger.interval', 0, r'\(LoggerHook\): interval = 0'),
        (f'{LOADER}.batch_sise', 8, 'has no option batch_sise .* Did you mean batch_size'),
        (f'{LOADER}.dataset.serialize_data', 'no', "serialize_data = 'no'"),
        (f'{LOADER}.sampler.shuffle', 'yes', r'\(DefaultSampler\): shuffle = .yes.'),
        (f'{LOADER}.dataset.pipeline.1.num_views', 0, r'\(AugmentedViews\): num_views = 0'),
        (f'{LOADER}.dataset.pipeline.1.transforms.1.scale', (0.5, 3), r'scale = \(0.5, 3\)'),
        ('optim_wrapper.optimizer.lr', float('nan'), r'\(SGD\): lr = nan'),
        ('optim_wrapper.optimizer.momentun', 0.9, 'Did you mean momentum'),
        ('param_scheduler.0.T_max', 0, r'param_scheduler\[0\] \(CosineAnnealingLR\): T_max = 0'),
        ('train_cfg.max_epochs', 2.5, r'train_cfg \(EpochBasedTrainLoop\): max_epochs = 2.5'),
        ('randomness.seed', -1, 'randomness: seed = -1'),
        ('randomness.sed', 1, 'randomness has no option sed'),
        ('env_cfg.cudnn_benchmark', 'no', "env_cfg: cudnn_benchmark = 'no'"),
        ('auto_scale_lr.base_batch_size', 0, 'base_batch_size = 0'),
    ],
)
def test_wrong_options_are_named(option, value, message):
    cfg = Config.fromfile(INVP)
    part = cfg._cfg_dict
    *place, name = [int(key) if key.isdigit() else key for key in option.split('.')]
    for key in place:
        part = part[key]
    part[name] = value
    with pytest.raises(ValueError, match=message):
        check_config(cfg)


def test_variables_of_a_config_are_free():
    variables = dict(train_pipeline=[], gallery_dataloader={}, data_root='x', num_classes='many')
    check_config(Config(variables))


def test_unknown_components_are_left_to_the_registries():
    check_config(Config(dict(model=dict(type='NoSuchModel', size='x'), default_scope='mmselfsup')))


def test_examples():
    assert doctest.testmod(config_checks).failed == 0
