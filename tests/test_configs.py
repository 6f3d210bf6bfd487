"""Every config: its name says what it does, its schedule is that of the paper, MIM finds it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mmengine.config import Config, ConfigDict
from mmengine.registry import PARAM_SCHEDULERS

import mmselfsup_invp  # noqa: F401  (registers; names mmselfsup_invp:: configs)
from mmselfsup_invp.compat.host import MODELS

from .configs import CONFIGS, FOLDER, METHODS, ROOT, every_config, load

DATA = {'in1k': 'imagenet', 'cifar10': 'cifar10', 'cifar100': 'cifar100', 'svhn': 'svhn'}


# Which model the first word of a name stands for; the longest that fits counts.
ALGORITHMS = {
    'invp': 'InvP',
    'momentum-invp': 'MomentumInvP',
    'multi-view-invp': 'MultiViewInvP',
    'soft-invp': 'SoftInvP',
    'interclr-npid': 'InterCLR',
    'interclr-moco': 'MomentumInterCLR',
    'odc': 'ODC',
    'sela': 'SeLa',
}


every_method = pytest.mark.parametrize('method', METHODS)


def plain(config: Any) -> Any:
    """The content of a config, without the scope that MMEngine adds to inherited parts."""
    if isinstance(config, (Config, ConfigDict, dict)):
        return {key: plain(value) for key, value in config.items() if key != '_scope_'}
    if isinstance(config, (list, tuple)):
        return [plain(value) for value in config]
    return config


NAME = re.compile(
    r'(?P<algorithm>[a-z]+(-[a-z]+)*)'
    r'_(?P<network>[a-z]+)(?P<depth>\d*)(?P<module>[a-z-]*)'
    r'_(?P<gpus>\d+)xb(?P<batch>\d+)(-[a-z]+)*-(?P<schedule>coslr|steplr)-(?P<epochs>\d+)e'
    r'_(?P<data>[a-z0-9]+)'
)


def said_by(name: str) -> re.Match:
    """The parts of a name."""
    said = NAME.fullmatch(name.partition('/')[2])
    assert said, f'{name} is not {{algorithm}}_{{module}}_{{training}}_{{data}}'
    return said


def algorithm_of(said: re.Match) -> str:
    fitting = [word for word in ALGORITHMS if f'{said["algorithm"]}-'.startswith(f'{word}-')]
    return ALGORITHMS[max(fitting, key=len)]


CIFAR10 = {load(name).model.type: name for name in CONFIGS if name.endswith('cifar10')}


@pytest.mark.parametrize('algorithm', sorted(set(ALGORITHMS.values()) - {'ODC', 'SeLa'}))
def test_the_advice_names_an_option_of_the_temperature(algorithm):
    config = load(CIFAR10[algorithm])
    option = MODELS.get(algorithm).temperature_option
    config.merge_from_dict({option: 0.125})
    MODELS.build(config.model)
    config.merge_from_dict({option: -1})
    with pytest.raises((TypeError, ValueError), match='temperature.*-1'):
        MODELS.build(config.model)


@every_config
def test_the_name_says_what_the_config_does(name):
    said, config = said_by(name), load(name)
    model, epochs = config.model, int(said['epochs'])
    assert model.type == algorithm_of(said)
    assert said['network'] in model.backbone.type.lower()
    if said['depth']:
        assert model.backbone.depth == int(said['depth'])
    if said['depth'] == '50' and model.neck.type == 'ProjectionNeck':
        assert ('hid_channels' in model.neck) == ('mlp' in said['module'])
    assert config.train_dataloader.batch_size == int(said['batch'])
    assert config.train_cfg.max_epochs == epochs
    last = config.param_scheduler[-1]
    if said['schedule'] == 'coslr':
        assert last.type == 'CosineAnnealingLR'
        assert last.end == epochs == last.T_max + last.begin
    else:
        assert last.type == 'MultiStepLR' and max(last.milestones) < epochs
    folder = f'data/{DATA.get(said["data"], said["data"])}/'
    assert set(data_roots(config)) == {folder}


def data_roots(config: Config) -> Iterator[str]:
    hooks = [hook for hook in config.default_hooks.values() if hook]
    loaders = [hook[key] for hook in hooks for key in hook if key.endswith('dataloader')]
    for loader in [config.train_dataloader, *loaders]:
        yield loader.dataset.data_root


@every_config
def test_the_learning_rate_can_be_scaled_from_the_batch_of_the_name(name):
    said = said_by(name)
    expected = int(said['gpus']) * int(said['batch'])
    assert load(name).auto_scale_lr == dict(base_batch_size=expected)


# Learning rates of whole epochs, counted from 0: golden values of the papers' formulas.
SCHEDULES = {
    'invp/invp_resnet50_1xb128-coslr-800e_in1k': {
        0: 0.03,
        1: 2.999988e-2,
        400: 1.5e-2,
        799: 1.156593e-7,
    },
    'interclr/interclr-npid_resnet50-mlp_8xb32-coslr-200e_in1k': {
        0: 0.03,
        50: 0.025611,
        100: 0.015015,
        199: 3.184866e-5,
    },
    'sela/sela_resnet50_1xb256-steplr-400e_in1k': {
        0: 0.08,
        149: 0.08,
        150: 0.008,
        299: 0.008,
        300: 0.0008,
        349: 0.0008,
        350: 0.00008,
        399: 0.00008,
    },
}


@pytest.mark.parametrize('name', SCHEDULES)
def test_the_learning_rate_of_every_epoch(name):
    config = load(name)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=config.optim_wrapper.optimizer.lr)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(scheduler), default_args=dict(optimizer=optimizer))
        for scheduler in config.param_scheduler
    ]
    rates = []
    for _ in range(config.train_cfg.max_epochs):
        rates.append(optimizer.param_groups[0]['lr'])
        for scheduler in schedulers:
            scheduler.step()
    for epoch, rate in SCHEDULES[name].items():
        assert rates[epoch] == pytest.approx(rate, rel=2e-5), epoch


# ---- where they are found ----


@every_config
def test_it_can_be_inherited_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('mine.py').write_text(f"_base_ = 'mmselfsup_invp::{name}.py'\n")
    assert plain(Config.fromfile('mine.py')) == plain(load(name))


def metafile(method: str) -> dict:
    return yaml.safe_load((FOLDER / method / 'metafile.yml').read_text())


def test_every_method_has_a_metafile_and_stands_in_the_index():
    folders = {path.parent.name for path in FOLDER.glob('*/*.py')} - {'_base_'}
    assert sorted(folders) == METHODS
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert sorted(index['Import']) == [f'configs/{method}/metafile.yml' for method in METHODS]


@every_method
def test_the_metafile_lists_every_config_once(method):
    listed = [model['Config'] for model in metafile(method)['Models']]
    here = [name for name in CONFIGS if name.startswith(f'{method}/')]
    assert sorted(listed) == [f'configs/{name}.py' for name in here]


@every_method
def test_the_metafile_describes_its_collection(method):
    (collection,) = metafile(method)['Collections']
    assert collection['Name'].lower() == method
    assert {'Training Data', 'Training Techniques', 'Architecture'} <= set(collection['Metadata'])
    assert re.fullmatch(r'https://arxiv\.org/abs/\d{4}\.\d{5}', collection['Paper']['URL'])
    assert collection['Paper']['Title']
    assert (ROOT / collection['README']).is_file()
    assert (ROOT / collection['Code']['URL']).is_file()


@every_config
def test_the_metafile_describes_the_config(name):
    method, _, stem = name.partition('/')
    (model,) = (model for model in metafile(method)['Models'] if model['Name'] == stem)
    said = said_by(name)
    assert model['In Collection'].lower() == method
    assert model['Metadata']['Epochs'] == int(said['epochs'])
    assert model['Metadata']['Batch Size'] == int(said['gpus']) * int(said['batch'])
    # What has no weights must not name any, or MMEngine would try to load them.
    assert model['Results'] is None and 'Weights' not in model


@every_method
def test_the_method_page_names_every_config(method):
    page = (FOLDER / method / 'README.md').read_text()
    here = [name.partition('/')[2] for name in CONFIGS if name.startswith(f'{method}/')]
    assert not [name for name in here if f'({name}.py)' not in page]
    linked = re.findall(r'\(([\w-]+)\.py\)', page)
    assert not set(linked) - set(here)


def test_the_command_line_reaches_a_hook_by_name():
    config = load('invp/invp_resnet18_1xb128-coslr-800e_cifar10')
    config.merge_from_dict(
        {'default_hooks.memory.ramp_epochs': 10, 'default_hooks.knn.interval': 1}
    )
    hooks = config.default_hooks
    assert (hooks.memory.ramp_epochs, hooks.memory.ramp) == (10, 'binary')
    assert (hooks.knn.interval, hooks.knn.k) == (1, 200)
