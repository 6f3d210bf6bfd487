"""Links, paths, options and examples of the documentation."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from mmengine.config import Config

from mmselfsup_invp.cli.errors import options_of
from mmselfsup_invp.compat.host import HOOKS, MODELS, TRANSFORMS
from mmselfsup_invp.datasets import PILGaussianBlur

from . import toy

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / 'README.md',
    *sorted(ROOT.glob('configs/**/README.md')),
    *sorted(ROOT.glob('docs/en/*.md')),
]
OPTIONS = (ROOT / 'docs/en/configuration.md').read_text()

every_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```', page.read_text(), re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub gives the headings of a page."""
    titles = re.findall(r'^#+ (.+)$', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


@every_page
def test_links_have_targets(page):
    for link in re.findall(r'\]\(([^)]+)\)', page.read_text()):
        if link.startswith('http'):
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_page
def test_named_files_exist(page):
    text = '\n'.join(blocks(page, 'shell'))
    named = set(re.findall(r'(?<![\w/])((?:configs|tools)/[\w/.-]+\.(?:py|sh))', text))
    assert not {name for name in named if not (ROOT / name).is_file()}


@every_page
def test_inherited_configs_load(page, tmp_path, monkeypatch):
    for block in blocks(page, 'python'):
        for module in re.findall(r"imports=\['mmselfsup_invp', '(\w+)'\]", block):
            monkeypatch.setitem(sys.modules, module, ModuleType(module))
        if "'mmselfsup_invp::" in block:
            (tmp_path / 'mine.py').write_text(block)
            config = Config.fromfile(tmp_path / 'mine.py')
            # A benchmark on frozen features has no model.
            assert MODELS.get(config.model.type) if 'model' in config else config.benchmark


@pytest.mark.parametrize(
    'name',
    [
        *('InvP', 'ProjectionNeck', 'InvPHead', 'HardSamplingLoss', 'PropagationMemory'),
        *('PropagationMemoryHook', 'KNNEvalHook', 'AugmentedViews', 'PILGaussianBlur'),
        *('InterCLR', 'BankMarginHead', 'QueueMarginHead', 'OnlineClusterBranch'),
        *('MarginNCELoss', 'OnlineClusterHook', 'ODCReweightHook'),
        *('SeLa', 'AlexNetBN', 'FullyConnectedNeck', 'SelfLabelHead', 'SelfLabelMemory'),
        *('SelfLabelHook', 'BackboneFormatHook', 'AugmentingDataPreprocessor', 'LayerwiseProbe'),
    ],
)
def test_every_option_is_listed_with_its_default(name):
    (section,) = re.findall(rf'^## {name}\n(.*?)(?=^## |\Z)', OPTIONS, re.DOTALL | re.MULTILINE)
    listed = dict(re.findall(r'^\| `(\w+)` \| ([^|]+?) \|', section, re.MULTILINE))
    component = MODELS.get(name) or HOOKS.get(name) or TRANSFORMS.get(name) or PILGaussianBlur
    expected = {
        key: 'required' if option.default is option.empty else f'`{option.default!r}`'
        for key, option in options_of(component).items()
    }
    if name == 'ProjectionNeck':
        expected['init_cfg'] = 'Xavier'
    if name == 'AlexNetBN':
        expected['init_cfg'] = 'Kaiming'
    assert listed == expected


@pytest.mark.slow
def test_the_example_of_another_head_runs(images, tmp_path, monkeypatch):
    module, config, _ = blocks(ROOT / 'docs/en/extend.md', 'python')
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'close_head.py').write_text(module)
    (tmp_path / 'mine.py').write_text(config)
    head = Config.fromfile(tmp_path / 'mine.py').model.head
    try:
        importlib.import_module('close_head')
        runner = toy.build_runner(
            images, tmp_path, model=dict(head=dict(type=head.type, least=head.least))
        )
        runner.train()
        assert type(runner.model.head).__name__ == 'CloseHead'
    finally:
        MODELS._module_dict.pop('CloseHead', None)
        sys.modules.pop('close_head', None)


@pytest.mark.slow
def test_the_example_of_a_branch_on_another_algorithm_runs(images, tmp_path):
    *_, module = blocks(ROOT / 'docs/en/extend.md', 'python')
    norm = dict(type='BN1d')
    model = dict(
        type='ClusteredSimSiam',
        backbone=toy.model_config()['backbone'],
        neck=dict(
            type='NonLinearNeck', in_channels=16, hid_channels=16, out_channels=toy.DIM,
            with_avg_pool=True, norm_cfg=norm,
        ),
        head=dict(
            type='LatentPredictHead',
            loss=dict(type='CosineSimilarityLoss'),
            predictor=dict(
                type='NonLinearNeck', in_channels=toy.DIM, hid_channels=16, out_channels=toy.DIM,
                with_avg_pool=False, norm_cfg=norm,
            ),
        ),
        branch=toy.branch_config(),
    )  # fmt: skip
    hooks = [dict(type='OnlineClusterHook', extract_dataloader=toy.loader(images))]
    try:
        exec(module, {})
        runner = toy.build_runner(
            images,
            tmp_path,
            model=model,
            train_dataloader=toy.loader(images, views=toy.VIEWS, num_views=2),
            custom_hooks=hooks,
        )
        runner.train()
        assert runner.model.branch.memory.clustered
    finally:
        MODELS._module_dict.pop('ClusteredSimSiam', None)
