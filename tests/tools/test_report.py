import base64
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from mmselfsup_invp.visualization.report import SECTIONS

from .. import toy

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools' / 'report.py'
VOID = {'meta', 'img', 'link', 'br', 'hr', 'input'}


class Page(HTMLParser):
    """The elements of a page that the tests check."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.images, self.links, self.open = [], [], [], []
        self.words, self.map = '', None
        self.feed(text)
        self.close()
        assert not self.open  # Every element was closed.

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == 'section':
            self.ids.append(attrs['id'])
        if tag == 'img':
            self.images.append(attrs)
        assert tag not in ('link', 'iframe', 'object') and 'src' not in attrs or tag == 'img'
        if tag == 'a':
            self.links.append(attrs['href'])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == 'script' and data.startswith('{'):
            self.map = json.loads(data)
        if not self.open or self.open[-1] not in ('style', 'script'):
            self.words += data


def decode(uri):
    """Raise unless a data URI holds an image."""
    kind, _, data = uri.partition(';base64,')
    content = base64.b64decode(data, validate=True)
    if kind == 'data:image/svg+xml':
        assert ElementTree.fromstring(content).tag.endswith('svg')
        assert not re.search(rb'(?:href|src)="https?:', content)
    else:
        assert kind == 'data:image/webp'
        Image.open(io.BytesIO(content)).load()


@pytest.fixture
def report(images, tmp_path):
    """Train for two epochs and write the page."""

    def make(name, *words, model=None, custom_hooks=(), ann_file=None, labels=True):
        run = tmp_path / name
        query = toy.loader(images, 'test')
        knn = dict(
            type='KNNEvalHook',
            query_dataloader=query,
            gallery_dataloader=toy.loader(images),
            gallery='backbone',
            k=3,
        )
        checkpoint = dict(type='CheckpointHook', interval=1)
        hooks = dict(checkpoint=checkpoint, **(dict(knn=knn) if labels else {}))
        changes = dict(
            train_dataloader=toy.loader(images, views=toy.VIEWS, ann_file=ann_file),
            default_hooks=hooks,
            test_pipeline=query['dataset']['pipeline'],
        )
        if model is not None:
            changes |= dict(model=model, custom_hooks=list(custom_hooks))
        runner = toy.build_runner(images, run, 2, **changes)
        runner.train()
        return run, call(run, *words)

    return make


def call(run, *words):
    """Run the tool in this process and read the page."""
    spec = importlib.util.spec_from_file_location('report_tool', SCRIPT)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['report.py', str(run), *map(str, words)])
        tool.main()
    return Page((Path(run) / 'report.html').read_text())


def check(page, omitted):
    """The other sections are there and linked, and the images are embedded."""
    expected = [name for name, _, _ in SECTIONS if name not in omitted]
    assert page.ids == [*expected, *(['omitted'] if omitted else [])]
    assert page.links == [f'#{name}' for name in page.ids]
    assert page.images
    for image in page.images:
        decode(image['src'])
        assert image['alt'] or image['id'] == 'sheet'  # Of which the script shows single tiles.


def test_a_page_of_invp(report, capsys):
    run, page = report('invp', '--anchors', 3, 14)
    check(page, omitted=['clusters', 'sizes', 'benchmarks'])
    lines = capsys.readouterr().out.splitlines()
    for _, title, _ in SECTIONS:
        assert any(line.startswith(f'{title}: ') for line in lines)
    assert 'Clusters: omitted, the log has no metrics of clusters' in ''.join(lines)
    for words in (
        'epoch_2.pth',
        '24 images at the positions',
        'the graph in the checkpoint',
    ):
        assert words in page.words
    assert page.map['anchors'] == [3, 14] and page.map['names'][14] == '014.png'
    assert page.map['label'][14] == 2 and page.map['hops'] == 2
    assert 'purity_hop2' in page.words and "type='PropagationMemory'" in page.words
    assert re.search(r'query \d+', page.words) and re.search(r'torch \d', page.words)

    # Benchmark results add a section.
    (run / 'benchmarks').mkdir()
    result = dict(protocol='linear <b>', metric='top-1', value=50.0, best=51.0, last=50.0)
    (run / 'benchmarks' / 'linear.json').write_text(json.dumps(result))
    page = call(run)
    assert 'benchmarks' in page.ids and 'linear <b>' in page.words


def test_errors_are_reported_before_features_are_computed(report, capsys):
    run, _ = report('invp')
    (run / 'file').touch()
    for words, message in (
        (['--out', run], f'{run} is a folder. Name a file, such as {run / "report.html"}'),
        (['--out', run / 'file' / 'page.html'], 'cannot be written to .*: .*Name another file'),
        (['--anchors', 5000], 'anchor 5000 is outside the valid range 0 to'),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            call(run, *words)
        printed = capsys.readouterr()
        assert re.search(message, printed.err) and 'Overview' not in printed.out


def test_missing_images_are_an_error_and_the_other_sections_are_written(report, images, capsys):
    run, _ = report('invp')
    moved = images.rename(images.with_name('moved'))
    try:
        with pytest.raises(SystemExit, match='images cannot be read; Map .*Retrieval are missing'):
            call(run)
        page = Page((run / 'report.html').read_text())
        images_only = ['map', 'similarities', 'retrieval']
        check(page, [*images_only, 'clusters', 'sizes', 'benchmarks'])
        check(call(run, '--data', moved), ['clusters', 'sizes', 'benchmarks'])
    finally:
        moved.rename(images)


def test_a_relative_data_root_needs_no_option(report, images, tmp_path, monkeypatch):
    """The page is complete when the tool is started in another folder than the training."""
    run, _ = report('invp')
    checkpoint = torch.load(run / 'epoch_2.pth', weights_only=False)
    meta = checkpoint['meta']
    root = os.path.relpath(images, tmp_path)
    assert str(images) in meta['cfg']
    meta['cfg'] = meta['cfg'].replace(str(images), root)
    torch.save(checkpoint, run / 'epoch_2.pth')
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    check(call(run), ['clusters', 'sizes', 'benchmarks'])


@pytest.mark.parametrize('method', ['InterCLR', 'SeLa'])
def test_pages_of_methods_with_self_labels(report, images, method):
    models = dict(InterCLR=toy.interclr_config(), SeLa=toy.sela_config())
    hooks = dict(
        InterCLR=dict(type='OnlineClusterHook', extract_dataloader=toy.loader(images)),
        SeLa=dict(type='SelfLabelHook', num_events=3, spacing='linear'),
    )
    _, page = report(method, model=models[method], custom_hooks=[hooks[method]])
    check(page, omitted=['graph', 'benchmarks'])
    assert 'nearest neighbours by the embeddings' in page.words
    assert re.search(r'memory\.labels in the checkpoint: \d+ to \d+ images', page.words)


def test_a_page_without_labels(report):
    _, page = report('unlabelled', ann_file='meta/unlabelled.txt', labels=False)
    omitted = ['knn', 'clusters', 'sizes', 'similarities', 'retrieval', 'benchmarks']
    check(page, omitted)
    assert 'Similarity distributions: the training images have no labels.' in page.words
    assert 'Retrieval: the run has no KNNEvalHook' in page.words
    assert page.map['label'] is None and len(page.map['cluster']) == 24


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['nothing'], 'There is no folder nothing. Give the work folder'),
        (['.'], 'has no log'),
        (['.', '--data', 'nothing'], 'There is no folder nothing for --data.'),
        (['.', '--device', 'abacus'], "The device 'abacus' cannot be used here"),
        (['.', '--max-images', '0'], 'max_images = 0 is outside the valid range'),
    ],
)
def test_errors_are_one_message(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        call(*words)
    assert stop.value.code == 1 and message in capsys.readouterr().err


def test_the_command_line(tmp_path):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, str(SCRIPT), 'nothing']
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert 'There is no folder nothing.' in done.stderr and 'Traceback' not in done.stderr


def test_the_figure_of_walks(report, tmp_path, capsys):
    run, _ = report('invp')
    call(run, '--walks', tmp_path / 'walks.webp', '--anchors', 3, 14)
    with Image.open(tmp_path / 'walks.webp') as picture:
        assert picture.format == 'WEBP' and picture.width > picture.height
    assert capsys.readouterr().out.endswith('walks.webp\n')
