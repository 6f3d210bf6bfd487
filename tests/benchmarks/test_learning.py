"""The harness: an interrupted cell continues, a finished one is not trained again."""

import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from benchmarks import learning
from benchmarks.arena import cells, report
from benchmarks.arena.grid import read_grid, read_pairs
from benchmarks.arena.images import BatchViews, ImageArray, prepare
from benchmarks.arena.measures import linear_probe

# Small enough for a test.
SMALL = {
    'model.backbone.width': 4,
    'model.neck.in_channels': 32,
    'train_dataloader.batch_size': 32,
}
IN_MEMORY = {**SMALL, 'model.memory.num_neighbours': 3}
LOSS = {'model.head.loss.num_background': 60, 'model.head.loss.num_hard': 5}
GRAPH = {'model.head.num_target': 20}
METHODS = {
    'simclr': SMALL,
    'moco': {**SMALL, 'model.queue_len': 64},
    'instance': {**IN_MEMORY, **LOSS},
    'invp': {**IN_MEMORY, **LOSS},
    'invp-official': {**IN_MEMORY, **LOSS},
    'multi-view': {**IN_MEMORY, **LOSS},
    'multi-view_graph-off': {**IN_MEMORY, **LOSS},
    'soft-invp': {**IN_MEMORY, **GRAPH},
    'soft-invp_graph-off': {**IN_MEMORY, **GRAPH},
    'interclr': {
        **SMALL,
        'model.head.num_negatives': 60,
        'model.branch.num_negatives': 60,
        'model.branch.memory.num_clusters': 4,
    },
    'sela': {**SMALL, 'model.head.in_channels': 32},
    'byol': SMALL,
    'supervised': {'model.backbone.width': 4, 'model.in_channels': 32},
}
# With a row of a bank for each image.
BANKS = (
    'instance', 'invp', 'invp-official', 'multi-view', 'multi-view_graph-off', 'soft-invp',
    'soft-invp_graph-off', 'interclr',
)  # fmt: skip


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """The digits of scikit-learn as the splits of the arena."""
    folder = tmp_path_factory.mktemp('digits')
    digits = load_digits()
    pixels = (digits.images / 16 * 255).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    for name, part in dict(train=slice(0, 128), val=slice(128, 192)).items():
        count = len(digits.target[part])
        np.savez(
            folder / f'{name}.npz',
            image=np.stack([pixels[part]] * 3, axis=1),
            label=digits.target[part].astype(np.int64),
            path=np.array(json.dumps([f'{name}/{i}' for i in range(count)])),
        )
    return folder


class Interruption(Exception):
    pass


def interrupt_at(monkeypatch, epoch):
    """Stop a run in the middle of an epoch."""

    train = cells.CostHook.before_train_iter

    def stop(hook, runner, *args, **kwargs):
        if runner.epoch == epoch:
            raise Interruption
        train(hook, runner)

    monkeypatch.setattr(cells.CostHook, 'before_train_iter', stop)


@pytest.mark.parametrize('config', METHODS)
def test_every_method_of_the_arena_trains(config, data, tmp_path):
    options = dict(METHODS[config], **{'train_dataloader.batch_size': 32})
    cell = cells.Cell(config, config, seed=0, budget=12, options=options)
    assert cells.run_cell(cell, data, tmp_path / 'work', tmp_path / 'trials.jsonl')
    (result,) = cells.read_results(tmp_path / 'trials.jsonl')
    passes = cells.build_config(cell, data, tmp_path).network_passes
    assert result['network_passes'] == 12 // passes * passes
    assert {'backbone', 'probe', 'purity_hop3'} <= result['figures'].keys()
    assert ('bank' in result['figures']) == (config in BANKS)
    assert str(result['epochs']) in result['curves'][report.CURVE]


def test_a_budget_below_one_epoch_is_refused(data, tmp_path):
    cell = cells.Cell('multi-view', 'multi-view', seed=0, budget=8)
    with pytest.raises(ValueError, match='8 network passes.* an epoch takes 12'):
        cells.build_config(cell, data, tmp_path)


def test_an_interrupted_cell_continues_as_if_it_had_not_been(data, tmp_path, monkeypatch):
    options = {**IN_MEMORY, **LOSS, 'default_hooks.checkpoint.interval': 1}
    cell = cells.Cell('invp', 'invp', seed=1, budget=12, options=options)
    whole, parts = tmp_path / 'whole.jsonl', tmp_path / 'parts.jsonl'
    cells.run_cell(cell, data, tmp_path / 'whole', whole)

    with monkeypatch.context() as patch, pytest.raises(Interruption):
        interrupt_at(patch, epoch=2)
        cells.run_cell(cell, data, tmp_path / 'parts', parts)
    assert not parts.exists()
    started = []
    monkeypatch.setattr(
        cells.CostHook, 'before_train_epoch', lambda hook, runner: started.append(runner.epoch)
    )
    cells.run_cell(cell, data, tmp_path / 'parts', parts)
    assert started == [2, 3]

    (expected,), (found,) = cells.read_results(whole), cells.read_results(parts)
    assert found['figures'] == expected['figures']
    assert found['curves'] == expected['curves']


def test_a_finished_cell_is_measured_and_not_trained_again(data, tmp_path, monkeypatch):
    cell = cells.Cell('simclr', 'simclr', seed=0, budget=6, options=SMALL)
    results, tested = tmp_path / 'trials.jsonl', tmp_path / 'test.jsonl'
    cells.run_cell(cell, data, tmp_path / 'work', results)
    # The test split is the validation split here.
    (tmp_path / 'data').mkdir()
    for name in ('train', 'val'):
        (tmp_path / 'data' / f'{name}.npz').symlink_to(data / f'{name}.npz')
    (tmp_path / 'data' / 'test.npz').symlink_to(data / 'val.npz')
    grid = tmp_path / 'grid.json'
    # Seed 1 was not trained, so it is not tested.
    row = dict(name='simclr', config='simclr', seeds=[0, 1], budget=6, options=SMALL)
    grid.write_text(json.dumps([row]))
    paths = dict(data=tmp_path / 'data', work_dir=tmp_path / 'work', grid=grid, folder=tmp_path)
    learning.run_test(Namespace(names=['simclr'], **paths))
    assert cells.read_results(tested) == cells.read_results(results)
    interrupt_at(monkeypatch, epoch=0)
    assert cells.run_cell(cell, data, tmp_path / 'work', results)
    assert len(cells.read_results(results)) == 1


def test_a_cell_starts_from_the_epochs_it_shares(data, tmp_path, monkeypatch):
    options = {**IN_MEMORY, **GRAPH, 'default_hooks.checkpoint.interval': 1}
    prefix = dict(name='off', config='soft-invp_graph-off', options=options, epoch=2)
    later = {**options, 'propagation_start': 0.5}
    alone = cells.Cell('on', 'soft-invp', 0, 16, later)
    shared = cells.Cell('on', 'soft-invp', 0, 16, later, prefix)
    off = cells.Cell('off', 'soft-invp_graph-off', 0, 16, options)
    cells.run_cell(alone, data, tmp_path / 'alone', tmp_path / 'alone.jsonl')
    cells.run_cell(off, data, tmp_path / 'work', tmp_path / 'work.jsonl')
    started = []
    monkeypatch.setattr(
        cells.CostHook, 'before_train_epoch', lambda hook, runner: started.append(runner.epoch)
    )
    cells.run_cell(shared, data, tmp_path / 'work', tmp_path / 'work.jsonl')
    assert started == [2, 3]
    (expected,) = cells.read_results(tmp_path / 'alone.jsonl')
    assert cells.read_results(tmp_path / 'work.jsonl')[1]['figures'] == expected['figures']


def test_results_survive_a_line_that_was_cut_off(tmp_path):
    results = tmp_path / 'trials.jsonl'
    cells.append(results, dict(key='a'))
    with open(results, 'a') as file:
        file.write('{"key": "b", "fig')
    cells.append(results, dict(key='c'))
    assert cells.finished(results) == {'a', 'c'}


def test_grid_lists_cells_by_seed(tmp_path):
    path = tmp_path / 'grid.json'
    path.write_text(
        json.dumps(
            [
                dict(name='a', config='simclr', seeds=[0, 1], budget=12),
                dict(name='b', config='moco', seeds=[2], budget=12, options=dict(x=1)),
            ]
        )
    )
    assert [(cell.name, cell.seed) for cell in read_grid(path)] == [('a', 0), ('a', 1), ('b', 2)]
    assert read_grid(path, ['b'])[0].options == dict(x=1)


def test_a_comparison_with_a_row_that_does_not_exist_is_refused(tmp_path):
    path = tmp_path / 'grid.json'
    row = dict(name='a', config='simclr', seeds=[0], budget=12, against=['b'])
    path.write_text(json.dumps([row, dict(row, name='b', against=[])]))
    assert read_pairs(path) == [('a', 'b')]
    path.write_text(json.dumps([row]))
    with pytest.raises(ValueError, match='a is compared with b, which is not a row'):
        read_pairs(path)


@pytest.mark.parametrize('name', ['grid', 'full'])
def test_the_grid_is_valid(name, tmp_path):
    path = learning.ARENA / f'{name}.json'
    assert read_pairs(path)
    cells_of_grid = read_grid(path)
    keys = {cell.key for cell in cells_of_grid}
    assert len(keys) == len(cells_of_grid)
    for cell in cells_of_grid:
        config = cells.build_config(cell, tmp_path, tmp_path)
        if cell.prefix:
            # A prefix that no cell has is never found, and one that is too long skips epochs.
            assert cell.shared.key in keys
            assert cell.prefix['epoch'] <= config.default_hooks.memory.ramp_epochs
            assert cell.prefix['epoch'] % config.default_hooks.checkpoint.interval == 0


def test_options_of_a_grid_are_those_of_all_rows(tmp_path):
    path = tmp_path / 'grid.json'
    row = dict(name='a', config='invp', seeds=[0], budget=12)
    options = dict(x=3, y=4)
    prefixed = dict(row, name='b', options=options, prefix=dict(name='a', config='instance'))
    path.write_text(json.dumps(dict(options=dict(x=1, z=2), rows=[row, prefixed])))
    first, second = read_grid(path)
    assert first.options == dict(x=1, z=2)
    assert second.options == dict(x=3, y=4, z=2)
    assert second.shared.options == first.options


def test_splits_are_disjoint(tmp_path):
    import cv2

    for split, count in (('train', 30), ('test', 5)):
        (tmp_path / split).mkdir(parents=True)
        (tmp_path / 'meta').mkdir(exist_ok=True)
        for i in range(count):
            cv2.imwrite(str(tmp_path / split / f'{i}.png'), np.full((4, 4, 3), i, np.uint8))
        lines = [f'{i}.png {i % 3}' for i in range(count)]
        (tmp_path / 'meta' / f'{split}.txt').write_text('\n'.join(lines))
    prepare(tmp_path, tmp_path / 'out', num_train=10, num_val=10)
    parts = {name: ImageArray(tmp_path / 'out' / f'{name}.npz') for name in ('train', 'val')}
    shown = {name: set(part.image[:, 0, 0, 0].tolist()) for name, part in parts.items()}
    assert len(shown['train']) == len(shown['val']) == 10
    assert not shown['train'] & shown['val']
    assert all(int(part.image[3, 0, 0, 0]) % 3 == part.label[3] for part in parts.values())
    with pytest.raises(ValueError, match='30 training images, fewer than 20 .* 11 to validate'):
        prepare(tmp_path, tmp_path / 'out', num_train=20, num_val=11)


class TestViews:
    IMAGE = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255

    @pytest.fixture
    def views(self):
        return BatchViews([{}], size=16, mean=[0.0] * 3, std=[1.0] * 3)

    def test_nothing_random_is_the_image_at_half_its_size(self, views):
        found = views.view(self.IMAGE, scale=(1, 1), flip=0, jitter_prob=0, grey=0)
        # The aspect ratio is random, but no crop is larger than the image.
        square = torch.nn.functional.avg_pool2d(self.IMAGE, 2)
        assert (found - square).abs().mean() < (self.IMAGE - self.IMAGE.mean()).abs().mean()
        evaluated = views(dict(inputs=[self.IMAGE], data_samples=None), training=False)[0][0]
        torch.testing.assert_close(evaluated, square)

    def test_grey_images_have_equal_channels(self, views):
        found = views.view(self.IMAGE, grey=1.0, jitter_prob=0)
        torch.testing.assert_close(found[:, 0], found[:, 1], atol=1e-2, rtol=1e-4)
        torch.testing.assert_close(found[:, 0], found[:, 2], atol=1e-2, rtol=1e-4)

    def test_jitter_changes_each_image_by_itself(self, views):
        image = self.IMAGE[:1].repeat(6, 1, 1, 1)
        found = views.view(image, scale=(1, 1), flip=0, jitter_prob=1, grey=0)
        assert len({round(float(one.mean()), 2) for one in found}) == 6
        assert found.min() >= 0 and found.max() <= 255


def test_linear_probe_separates_what_is_separable():
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(60) % 3
    feature = torch.eye(3)[label] + 0.1 * torch.randn(60, 3, generator=generator)
    assert linear_probe(feature[:30], label[:30], feature[30:], label[30:]) == 100
    assert linear_probe(feature[:30], label[:30], feature[30:], (label[30:] + 1) % 3) == 0
