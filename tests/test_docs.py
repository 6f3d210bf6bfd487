"""Links, paths, options and examples of the documentation."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmselfsup_invp.cli.errors import options_of
from mmselfsup_invp.compat.host import MODELS, registries
from mmselfsup_invp.datasets import PILGaussianBlur

from . import toy

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *sorted(ROOT.glob('*.md')),
    *sorted(ROOT.glob('benchmarks/*.md')),
    *sorted(ROOT.glob('configs/**/README.md')),
    *sorted(ROOT.glob('docs/en/*.md')),
]
OPTIONS = (ROOT / 'docs/en/configuration.md').read_text()
SECTIONS = dict(re.findall(r'^## (\w+)\n(.*?)(?=^## |\Z)', OPTIONS, re.DOTALL | re.MULTILINE))
# Options that a section describes in words.
IN_WORDS = {
    'ProjectionNeck': dict(init_cfg='Xavier'),
    'AlexNetBN': dict(init_cfg='Kaiming'),
}
# Sections that list the options which a component adds to those of a class of another package.
ADDED_ALONE = {'CheckpointHook', 'FewLabels', 'ImageFiles', 'LoadImage', 'VOCMeanAveragePrecision'}
EXAMPLES = ('close_head', 'clustered_simsiam', 'nearest_neighbour')

every_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```', page.read_text(), re.DOTALL | re.MULTILINE)


def named_files(page: Path) -> dict[str, str]:
    """Files of a page: Python blocks below a line that begins with the name of the file."""
    pattern = r'^`(\w+\.py)`[^\n]*\n\n```python\n(.*?)^```'
    return dict(re.findall(pattern, page.read_text(), re.DOTALL | re.MULTILINE))


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
def test_inherited_configs_load(page, tmp_path):
    modules = {name.removesuffix('.py') for name in named_files(page)}
    for block in blocks(page, 'python'):
        if "'mmselfsup_invp::" not in block:
            continue
        # Modules of the page are imported by test_the_examples_run.
        block = re.sub(rf", '({'|'.join(modules)})'\]", ']', block)
        (tmp_path / 'mine.py').write_text(block)
        config = Config.fromfile(tmp_path / 'mine.py')
        # A benchmark on frozen features has no model.
        assert 'model' in config or config.benchmark
        if not modules:
            assert 'model' not in config or MODELS.get(config.model.type)


def component(name: str) -> type:
    """The class of a component, from the registry that holds it."""
    if name == 'PILGaussianBlur':
        return PILGaussianBlur
    kinds = (getattr(registries, kind) for kind in registries.__all__)
    return next(found for kind in kinds if (found := kind.get(name)) is not None)


def default(option: inspect.Parameter) -> str:
    return 'required' if option.default is option.empty else f'`{option.default!r}`'


def options_added_by(cls: type) -> dict[str, inspect.Parameter]:
    """Options that a class names itself."""
    if '__init__' not in vars(cls):
        return {}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    options = inspect.signature(cls).parameters
    return {name: option for name, option in options.items() if option.kind in kinds}


@pytest.mark.parametrize('name', SECTIONS)
def test_every_option_is_listed_with_its_default(name):
    section, cls = SECTIONS[name], component(name)
    listed = dict(re.findall(r'^\| `(\w+)` \| ([^|]+?) \|', section, re.MULTILINE))
    options = options_added_by(cls) if name in ADDED_ALONE else options_of(cls)
    expected = {key: default(option) for key, option in options.items()}
    expected |= IN_WORDS.get(name, {})
    for other in re.findall(r'^Options of `(\w+)`', section, re.MULTILINE):
        shared = {key: default(option) for key, option in options_of(component(other)).items()}
        listed = shared | listed
    assert listed == expected


def test_the_example_in_pytorch_runs():
    (example,) = (one for one in blocks(ROOT / 'README.md', 'python') if 'invp_step' in one)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 128))
    dataset = torch.utils.data.TensorDataset(torch.randn(1100, 3, 4, 4), torch.arange(1100))
    names = dict(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        dataset=dataset,
        # Two epochs: from the second one on the images have neighbours.
        loader=[*torch.utils.data.DataLoader(dataset, 550)] * 2,
    )
    exec(example, names)
    assert names['step'].positive.mask.any(dim=1).all()
    assert names['step'].propagation > 0


def run_on_digits(command: str, folder: Path, *changes: str) -> list[dict]:
    """Run a training command of a page on 32 images, a batch of the digits; returns its log."""
    toy.image_folder(folder / 'data/digits', images=32)
    for name in ('tools', 'configs'):
        (folder / name).symlink_to(ROOT / name)
    separator = '' if '--cfg-options' in command else '--cfg-options'
    done = subprocess.run(
        f'{command.strip()} {separator} {" ".join(changes)}',
        shell=True,
        cwd=folder,
        env={**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (log,) = folder.glob('work_dirs/**/vis_data/scalars.json')
    return [line for line in map(json.loads, log.open()) if 'loss' in line]


@pytest.mark.slow
@pytest.mark.parametrize('name', EXAMPLES)
def test_the_examples_run(name, tmp_path):
    """Two iterations by the command of the page, one in each epoch."""
    page = ROOT / 'docs/en/extend.md'
    for file, code in named_files(page).items():
        (tmp_path / file).write_text(code)
    (command,) = (one for one in blocks(page, 'shell') if f'{name}_digits.py' in one)
    changes = ['train_cfg.max_epochs=2', 'default_hooks.logger.interval=1']
    if name == 'close_head':
        changes.append('default_hooks.memory.ramp_epochs=0')
    steps = run_on_digits(command, tmp_path, *changes)
    assert len(steps) == 2
    for step in steps:
        parts = [value for key, value in step.items() if key.startswith('loss_')]
        assert len(parts) == 2 and sum(parts) == pytest.approx(step['loss'], rel=1e-4)
    assert name != 'close_head' or steps[-1]['num_positives'] > 0


@pytest.mark.slow
def test_the_run_with_two_hops_propagates(tmp_path):
    page = ROOT / 'docs/en/get_started.md'
    (command,) = (one for one in blocks(page, 'shell') if 'two_hops' in one)
    first, second = run_on_digits(command, tmp_path, 'default_hooks.logger.interval=1')
    assert first['num_positives'] == 0
    assert second['num_positives'] > 4 and second['loss_inv'] > 0  # k = 4
