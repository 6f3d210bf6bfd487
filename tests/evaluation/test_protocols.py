"""Benchmarks as tools/benchmark.py runs them, on a checkpoint and images of a few pixels."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmselfsup_invp.datasets import FewLabels
from mmselfsup_invp.evaluation import (
    read_backbone,
    read_run,
    similarity_distribution,
    similarity_metrics,
    svm,
)
from mmselfsup_invp.evaluation.protocols import (
    KINDS,
    Benchmark,
    Job,
    Outcome,
    check_network,
    evaluate,
    finished,
    frozen,
    read_benchmark,
    results_table,
    write_outcome,
)
from mmselfsup_invp.evaluation.protocols.data import check_data, move_data

from ..toy import build_runner, image_folder


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return image_folder(tmp_path_factory.mktemp('images') / 'data', images=36)


@pytest.fixture(scope='module')
def backbone(root):
    """A checkpoint of two epochs of pre-training."""
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=2))
    build_runner(root, root.parent / 'run', 2, default_hooks=hooks).train()
    return read_backbone(root.parent / 'run' / 'epoch_2.pth')


def loader(root, split, **dataset):
    pipeline = [dict(type='LoadImage'), dict(type='mmcls.PackClsInputs')]
    return dict(
        batch_size=12,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
        collate_fn=dict(type='mmselfsup_invp.default_collate'),
        dataset=dict(
            type='mmcls.CustomDataset',
            data_root=str(root),
            ann_file=f'meta/{split}.txt',
            data_prefix=dict(img_path=split),
            pipeline=pipeline,
            **dataset,
        ),
    )


PROBE = dict(
    type='LayerwiseProbe', backbone=dict(), num_classes=3, pool_sizes=(2, 2, 1), norm='train'
)
CLASSIFIER = dict(
    type='mmcls.ImageClassifier',
    backbone=dict(),
    neck=dict(type='mmcls.GlobalAveragePooling'),
    head=dict(
        type='mmcls.LinearClsHead',
        num_classes=3,
        in_channels=999,
        loss=dict(type='mmcls.CrossEntropyLoss'),
    ),
)


def training(root, model=PROBE, metric='layers/best', epochs=2):
    """A benchmark that trains."""
    return Config(
        dict(
            default_scope='mmselfsup',
            # The name that all configs of the host give it.
            visualizer=dict(type='SelfSupVisualizer', name='visualizer'),
            model=model,
            train_dataloader=loader(root, 'train'),
            val_dataloader=loader(root, 'test'),
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=1),
            val_cfg=dict(),
            val_evaluator=dict(type='LayerwiseMetric' if model is PROBE else 'mmcls.Accuracy'),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)
            ),
            benchmark=dict(
                name='toy', title='a toy', kind='training', metric=metric, data='toy',
                published={'a method': 50.0},
            ),
        )
    )  # fmt: skip


def on_features(root, kind, metric, pool_size=2, **options):
    """A benchmark on frozen features."""
    return Config(
        dict(
            default_scope='mmselfsup',
            num_classes=3,
            pool_size=pool_size,
            train_dataloader=loader(root, 'train'),
            test_dataloader=loader(root, 'test'),
            benchmark=dict(
                name='toy', title='a toy', kind=kind, metric=metric, data='toy', options=options
            ),
        )
    )


def knn(root, pool_size=2, **options):
    options = dict(k=5, temperature=0.1) | options
    return on_features(root, 'knn', 'k{k}_t{temperature}'.format(**options), pool_size, **options)


def make_job(config, backbone, out, **changes):
    return Job(Benchmark(**config.benchmark.to_dict()), config, backbone, out, **changes)


def run(config, backbone, out, **changes):
    job = make_job(config, backbone, out, **changes)
    return job, evaluate(job)


class TestTraining:
    @pytest.mark.parametrize('random_init', [False, True])
    def test_probes_classify_images_of_plain_colours(self, root, backbone, tmp_path, random_init):
        _, outcome = run(training(root, epochs=4), backbone, tmp_path, random_init=random_init)
        assert outcome.best >= outcome.last > 60 and outcome.epochs == 4
        assert {f'layers/0{number}' for number in range(1, 6)} <= set(outcome.metrics)

    @pytest.mark.parametrize(
        ('model', 'metric', 'frozen'),
        [(PROBE, 'layers/best', True), (CLASSIFIER, 'accuracy/top1', False)],
    )
    def test_training_starts_from_the_checkpoint(
        self, root, backbone, tmp_path, model, metric, frozen
    ):
        config = training(root, model, metric)
        job, outcome = run(config, backbone, tmp_path)
        state = torch.load(job.work_dir / 'epoch_2.pth', weights_only=True)['state_dict']
        same = [torch.equal(state[f'backbone.{name}'], x) for name, x in backbone.state.items()]
        assert all(same) is frozen and 0 <= outcome.last <= 100
        if model is CLASSIFIER:
            assert state['head.fc.weight'].shape == (3, 16)

    def test_an_interrupted_run_continues(self, root, backbone, tmp_path, monkeypatch):
        monkeypatch.setattr(Job, 'id', 'same')
        job, _ = run(training(root, epochs=1), backbone, tmp_path)
        first = read_run(job.work_dir).curves['layers/best'].value
        _, outcome = run(training(root, epochs=3), backbone, tmp_path)
        curve = read_run(job.work_dir).curves['layers/best']
        assert curve.epoch == [1, 2, 3] and curve.value[:1] == first
        assert outcome.best == max(curve.value) and outcome.last == curve.value[-1]

    def test_the_seed_also_draws_the_labels(self, root, backbone, tmp_path):
        config = training(root, epochs=1)
        config.train_dataloader.dataset.update(type='FewLabels', fraction=0.4)
        config.train_dataloader.batch_size = 5
        for seed in (0, 3):
            job, _ = run(config, backbone, tmp_path, seed=seed)
            (dumped,) = job.work_dir.glob('*.py')
            assert Config.fromfile(dumped).train_dataloader.dataset.seed == seed

    @pytest.mark.parametrize('classes', [2, 5])
    def test_another_number_of_classes_is_refused(self, root, backbone, tmp_path, classes):
        config = training(root, model=dict(PROBE, num_classes=classes))
        config.val_evaluator = dict(type='LayerwiseMetric')
        with pytest.raises(ValueError, match=f'says {classes} classes.*run from 0 to 2'):
            run(config, backbone, tmp_path)

    def test_test_images_of_another_class_are_refused(self, root, backbone, tmp_path):
        lines = (root / 'meta/test.txt').read_text() + '000.png 3\n'
        (root / 'meta/more.txt').write_text(lines)
        config = training(root)
        config.val_dataloader.dataset.ann_file = 'meta/more.txt'
        with pytest.raises(ValueError, match='says 3 classes, but the test labels.*from 0 to 3'):
            run(config, backbone, tmp_path)

    def test_a_metric_that_is_not_logged_is_named(self, root, backbone, tmp_path):
        with pytest.raises(ValueError, match="no metric 'layers/worst'; it has .*layers/best"):
            run(training(root, metric='layers/worst'), backbone, tmp_path)

    def test_another_network_is_refused(self, root, backbone, tmp_path):
        config = training(root)
        config.benchmark.backbone = dict(base_channels=4)
        with pytest.raises((ValueError, RuntimeError), match='size mismatch|not in the checkpoint'):
            run(config, backbone, tmp_path)


class TestFrozen:
    def test_knn_classifies_images_of_plain_colours(self, root, backbone, tmp_path):
        _, outcome = run(knn(root, pool_size=1), backbone, tmp_path)
        assert outcome.last > 60 and outcome.metrics == {'k5_t0.1': outcome.last}

    def test_svms_rank_images_of_plain_colours(self, root, backbone, tmp_path):
        config = on_features(root, 'svm', 'mAP', costs=[1.0, 10.0], jobs=1)
        _, outcome = run(config, backbone, tmp_path)
        each = [outcome.metrics[f'ap/0{number}'] for number in range(3)]
        assert outcome.last == pytest.approx(sum(each) / 3) and outcome.last > 60

    @pytest.mark.parametrize(
        ('selection', 'expected'),
        # By each cost (rows) the mean over the classes of the two draws (columns): 30, 60 and
        # 50, 20 for one shot, so that no draw selects by itself; 10, 10 and 20, 40 for four.
        [('test', {'shots/01': 45, 'shots/04': 30}), ('cross_validation', {'shots/01': 7})],
    )
    def test_the_cost_of_few_shots(
        self, root, backbone, tmp_path, monkeypatch, selection, expected
    ):
        """The published protocol: one cost for each number of shots, the best on the test set."""
        scores = {(1, 0): [30, 50], (1, 1): [60, 20], (4, 0): [10, 20], (4, 1): [10, 40]}
        monkeypatch.setattr(
            frozen, 'few_shot_target', lambda target, shots, seed: np.array(scores[shots, seed])
        )
        # Classes of which the test set has no image do not count.
        monkeypatch.setattr(
            frozen.FewShotSVM,
            'each_cost',
            lambda svms, few, *_: np.stack([few[1] + 10, few[1] - 10, few[1] * np.nan]),
        )
        monkeypatch.setattr(
            frozen.FewShotSVM,
            'cross_validated',
            lambda *_: np.array([6.0, 8.0, np.nan]),
        )
        options = dict(costs=[1.0, 2.0], shots=[1, 4], samples=2, cost_selection=selection)
        _, outcome = run(on_features(root, 'few_shot', 'mAP', **options), backbone, tmp_path)
        assert expected.items() <= outcome.metrics.items()
        means = [outcome.metrics['shots/01'], outcome.metrics['shots/04']]
        assert outcome.last == outcome.metrics['mAP'] == sum(means) / 2

    @pytest.mark.parametrize('selection', ['test', 'cross_validation'])
    def test_no_draw_of_a_seed_is_one_of_another_seed(
        self, root, backbone, tmp_path, monkeypatch, selection
    ):
        seeds = []

        def draw(target, shots, seed):
            seeds.append(seed)
            return svm.few_shot_target(target, shots, seed)

        monkeypatch.setattr(frozen, 'few_shot_target', draw)
        options = dict(costs=[1.0], jobs=1, shots=[1], samples=2, cost_selection=selection)
        for seed in range(3):
            config = on_features(root, 'few_shot', 'mAP', **options)
            run(config, backbone, tmp_path, seed=seed)
        assert len(seeds) == len(set(seeds)) == 6

    @pytest.mark.parametrize(
        ('kind', 'options', 'fits', 'again'),
        [
            ('svm', dict(costs=[1.0]), 3, 1),
            ('few_shot', dict(costs=[1.0], shots=[1, 2], samples=2), 12, 3),
        ],
    )
    def test_an_interrupted_call_continues(
        self, root, backbone, tmp_path, monkeypatch, kind, options, fits, again
    ):
        """The class, or the draw, that was interrupted is repeated, and nothing else."""
        config = on_features(root, kind, 'mAP', jobs=1, **options)
        whole = run(config, backbone, tmp_path / 'whole')[1]
        fit, calls = svm.LinearSVMs.fit, []

        def interrupted(*inputs):
            calls.append(0)
            if len(calls) == 2 * again:
                raise KeyboardInterrupt
            return fit(*inputs)

        monkeypatch.setattr(svm.LinearSVMs, 'fit', interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(config, backbone, tmp_path / 'cut')
        assert run(config, backbone, tmp_path / 'cut')[1] == whole
        assert len(calls) == fits + again

    def test_a_network_that_it_is_not_for_is_refused(self, root, backbone):
        entry = knn(root).benchmark.to_dict()
        check_network(Benchmark(**entry, network='Res'), backbone)
        message = r'toy is for networks named \*AlexNet\*, .*epoch_2.pth holds ResNet'
        with pytest.raises(ValueError, match=message):
            check_network(Benchmark(**entry, network='AlexNet'), backbone)

    def test_similarities_separate_plain_colours(self, root, backbone, tmp_path):
        config = on_features(root, 'similarity', 'auroc', pool_size=1, num_neighbours=2)
        job, outcome = run(config, backbone, tmp_path)
        feature, target = torch.load(job.work_dir / 'features_test.pth')
        drawn = similarity_distribution(
            torch.nn.functional.normalize(feature), target.argmax(dim=1), num_neighbours=2
        )
        assert outcome.metrics == similarity_metrics(*drawn)  # No draw: all others count.
        assert outcome.last > 60 and not (job.work_dir / 'features_train.pth').exists()

    def test_a_label_beyond_the_classes_is_named(self, root, backbone, tmp_path):
        config = knn(root)
        config.num_classes = 2
        with pytest.raises(ValueError, match=r'says 2 classes, but .*0\d\d.png has the label 2'):
            run(config, backbone, tmp_path)

    def test_features_are_stored_for_a_second_call(self, root, backbone, tmp_path, monkeypatch):
        monkeypatch.setattr(Job, 'id', 'same')
        config = knn(root)
        _, first = run(config, backbone, tmp_path)
        config.train_dataloader.dataset.ann_file = 'not there'
        assert run(config, backbone, tmp_path)[1] == first


def test_few_labels_are_drawn_from_each_class(root):
    options = dict(loader(root, 'train')['dataset'])
    options.pop('type'), options.pop('pipeline')
    few = [FewLabels(**options, fraction=0.26, seed=seed) for seed in (0, 0, 1)]
    labels = [image['gt_label'] for image in few[0]]
    assert sorted(labels) == sorted([0, 1, 2] * 4)
    paths = [[image['img_path'] for image in each] for each in few]
    assert paths[0] == paths[1] != paths[2]
    with pytest.raises(ValueError, match='fraction = 0 is not valid'):
        FewLabels(**options, fraction=0)


@pytest.mark.parametrize(('fraction', 'drawn'), [(0.01, [8, 13]), (0.1, [74, 130])])
def test_the_share_of_a_class_is_rounded_up(tmp_path, fraction, drawn):
    """Golden values: the smallest class of ImageNet, and the largest."""
    classes = [f'{number}.png 0\n' for number in range(732)]
    classes += [f'{number}.png 1\n' for number in range(1300)]
    (tmp_path / 'all.txt').write_text(''.join(classes))
    few = FewLabels(data_root=str(tmp_path), ann_file='all.txt', fraction=fraction)
    labels = [few.get_data_info(row)['gt_label'] for row in range(len(few))]
    assert [labels.count(0), labels.count(1)] == drawn


def missing(root, name, folder):
    """The message where a folder holds nothing."""
    config = training(root)
    move_data(config, str(folder))
    with pytest.raises(FileNotFoundError) as raised:
        check_data(config, name)
    return str(raised.value)


def test_missing_data_are_named(root, tmp_path):
    check_data(training(root), 'toy')
    message = missing(root, 'toy', tmp_path)
    assert message.startswith(f'toy: not complete, {tmp_path / "meta/train.txt"}, ')
    assert 'docs/en/data.md describes' in message


@pytest.mark.parametrize(
    ('name', 'folder', 'advice'),
    [
        ('digits', 'data/digits/', 'run `python tools/convert_dataset.py digits data/digits`'),
        ('pets', 'data/pets/', 'run `python tools/prepare_data.py pets`'),
        ('pets', 'cats', 'run `python tools/prepare_data.py pets --root cats`'),
        ('voc2007', 'data/VOCdevkit/VOC2007', 'run `python tools/prepare_data.py voc2007`'),
        (['voc2007', 'voc2012'], 'data/VOCdevkit', 'voc2007`, .*; run .*prepare_data.py voc2012`'),
        ('bccd', 'data/bccd', 'configs/benchmarks/mmdetection/README.md says where'),
        ('custom-voc', 'mine', 'configs/benchmarks/mmdetection/README.md describes'),
    ],
)
def test_the_advice_is_the_right_command(root, name, folder, advice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(advice, missing(root, name, folder))


def read_toy(tmp_path, entry, changes=None):
    (tmp_path / 'b.py').write_text(f'benchmark = {entry}' if entry else 'model = dict()')
    return read_benchmark(tmp_path / 'b.py', changes)


DELETE = {'_delete_': True}


@pytest.mark.parametrize(
    ('kind', 'changes', 'message'),
    [
        ('knn', {'benchmark.optins.k': 3}, "'optins'.*Its keys: name, title"),
        ('knn', {'benchmark.options.kk': 3}, "'kk' Options of kind='knn': k, temperature"),
        ('knn', {'benchmark.options.k': 0}, 'k = 0 must be an integer above 0'),
        ('knn', {'benchmark.options.k': 'many'}, "k = 'many' must be an integer above 0"),
        ('knn', {'benchmark.options.temperature': 0}, 'temperature = 0 must be positive'),
        ('knn', {'benchmark.options': {**DELETE, 'k': 3}}, "missing .* 'temperature'"),
        ('knn', {'benchmark.metric': 'foo'}, "metric = 'foo' is unknown; valid: 'k5_t0.1'"),
        ('knn', {'benchmark.options.k.l': 3}, 'cannot be changed by'),
        ('kn', {}, "benchmark.kind = 'kn' is unknown; valid: 'training', 'detection', 'knn'"),
        ('detection', {'benchmark.options': DELETE}, "metric = '' is unknown; valid: 'AP'"),
        ('training', {'benchmark.options': DELETE}, 'b lacks metric'),
        ('training', {}, "'k' Options of kind='training': none"),
        ('similarity', {'benchmark.options': {**DELETE, 'num_queries': 0}}, 'num_queries = 0'),
        ('svm', {'benchmark.options': {**DELETE, 'costs': [0.0]}}, 'must be positive numbers'),
        ('svm', {'benchmark.options': {**DELETE, 'costs': []}}, 'must be positive numbers'),
        ('svm', {'benchmark.options': {**DELETE, 'folds': 2.5}}, 'folds = 2.5 must be an int'),
        ('svm', {'benchmark.options': {**DELETE, 'rule': 'x'}}, "rule = 'x' is unknown"),
        ('svm', {'benchmark.options': {**DELETE, 'shots': [1]}}, "'shots' Options of kind='svm'"),
        ('few_shot', {'benchmark.options': {**DELETE, 'samples': 0}}, 'samples = 0 must be'),
        ('few_shot', {'benchmark.options': {**DELETE, 'shots': [0, 1]}}, 'shots = 0 must be'),
        ('few_shot', {'benchmark.options': {**DELETE, 'folds': 0}}, 'folds = 0 must be'),
        ('few_shot', {'benchmark.options': {**DELETE, 'cost_selection': 'x'}}, "= 'x' is unknown"),
    ],
)
def test_invalid_settings_are_named(tmp_path, kind, changes, message):
    entry = dict(name='b', title='b', kind=kind, data='toy', options=dict(k=5, temperature=0.1))
    with pytest.raises(ValueError, match=message):
        read_toy(tmp_path, entry, changes)


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        (None, 'b.py is no benchmark'),
        (dict(name='b', kinds='training'), "'kinds'.*Its keys: name, title, kind"),
    ],
)
def test_a_config_without_the_entry_is_refused(tmp_path, entry, message):
    with pytest.raises(ValueError, match=message):
        read_toy(tmp_path, entry)


def test_the_metric_of_knn_is_named_by_its_options(tmp_path):
    entry = dict(name='b', title='b', kind='knn', data='x', options=dict(k=5, temperature=0.1))
    wanted = {'benchmark.options.k': 1, 'benchmark.options.temperature': 0.1}
    benchmark, config, changes = read_toy(tmp_path, entry, wanted)
    assert benchmark.metric == 'k1_t0.1' and config.benchmark.options.k == 1
    assert changes == {'benchmark.options.k': 1}  # The other one changes nothing.


class TestResults:
    @pytest.fixture
    def job(self, root, backbone, tmp_path):
        return make_job(knn(root), backbone, tmp_path)

    OUTCOME = Outcome(last=50.0, best=62.5, epochs=3, metrics={'k5_t0.1': 50.0})

    def test_a_result_is_found_again(self, job):
        assert finished(job) is None
        assert write_outcome(job, self.OUTCOME) == finished(job)
        assert finished(job)['value'] == 50.0 and finished(job)['checkpoint'] == 'epoch_2.pth'
        for content in ('torn', '[]', '{"protocol": 1}'):
            job.result.write_text(content)
            assert finished(job) is None

    def test_irrelevant_settings_share_a_result(self, job):
        config = job.config.copy()
        config.train_dataloader.num_workers = 2
        config.benchmark.title = 'another title'
        backbone = dataclasses.replace(job.backbone, path=job.out / 'epoch_2.pth')
        changes = {'train_dataloader.num_workers': 2}
        same = dataclasses.replace(job, config=config, backbone=backbone, changes=changes)
        assert same.work_dir == job.work_dir and same.provenance == job.provenance

    def other_weights(job):
        state = {name: value + 1 for name, value in job.backbone.state.items()}
        return dict(backbone=dataclasses.replace(job.backbone, state=state))

    def other_options(job):
        return dict(benchmark=dataclasses.replace(job.benchmark, options=dict(k=3)))

    def other_metric(job):
        return dict(benchmark=dataclasses.replace(job.benchmark, metric='best'))

    def other_folder(job):
        config = job.config.copy()
        shutil.copytree(config.train_dataloader.dataset.data_root, job.out / 'copied')
        move_data(config, str(job.out / 'copied'))
        return dict(config=config)

    def other_list(job):
        config = job.config.copy()
        root = job.out / 'link'
        root.mkdir()
        for name in ('train', 'test'):
            (root / name).symlink_to(f'{config.train_dataloader.dataset.data_root}/{name}')
        (root / 'meta').mkdir()
        (root / 'meta/train.txt').write_text('000.png 0\n')
        (root / 'meta/test.txt').write_text('000.png 1\n')
        move_data(config, str(root))
        return dict(config=config)

    @pytest.mark.parametrize(
        ('change', 'part'),
        [
            (other_weights, 'checkpoint'),
            (other_options, 'config'),
            (other_metric, 'metric'),
            (other_folder, 'data'),
            (other_list, 'lists'),
            (lambda job: dict(random_init=True), 'checkpoint'),
            (lambda job: dict(seed=1), None),
        ],
    )
    def test_every_other_job_has_a_result_of_its_own(self, job, change, part):
        write_outcome(job, self.OUTCOME)
        other = dataclasses.replace(job, **change(job))
        assert finished(other) is None and other.work_dir != job.work_dir
        assert part is None or other.provenance[part] != job.provenance[part]

    def test_published_results_are_listed_unless_the_recipe_was_changed(self, job):
        published = dataclasses.replace(job.benchmark, published={'a method': 12.5})
        job = dataclasses.replace(job, benchmark=published)
        entry = write_outcome(job, self.OUTCOME)
        assert entry['published'] == [dict(method='a method', value=12.5)]
        row = '| toy | epoch_2.pth | k5_t0.1 | 50.00 | 62.50 | 3 | 0 | a method: 12.5 |'
        assert (job.out / 'results.md').read_text().splitlines()[2] == row

        changes = {'benchmark.options.k': 3, 'train_dataloader.num_workers': 2}
        entry = write_outcome(dataclasses.replace(job, changes=changes), self.OUTCOME)
        assert entry['provenance']['changes'] == {'benchmark.options.k': 3}
        assert 'not comparable: benchmark.options.k=3 |' in results_table(job.out)

    def test_results_of_one_name_are_distinguished(self, job):
        write_outcome(job, self.OUTCOME)
        other = dataclasses.replace(job, **TestResults.other_weights(job))
        write_outcome(other, self.OUTCOME)
        names = {row.split(' | ')[1] for row in results_table(job.out).splitlines()[2:]}
        assert names == {f'epoch_2.pth ({job.id})', f'epoch_2.pth ({other.id})'}
        other.result.unlink()
        assert 'epoch_2.pth |' in results_table(job.out)

    def test_results_of_others_are_listed_too(self, tmp_path):
        """In the form that docs/en/report.md describes."""
        own = [
            dict(protocol='a', metric='top-1', value=1.0),
            dict(protocol='b', metric='mAP', value=2, published=[dict(method='c'), 'd']),
            dict(protocol='c', metric='mAP'),
        ]
        (tmp_path / 'own.json').write_text(json.dumps(own))
        (tmp_path / 'torn.json').write_text('{')
        lines = results_table(tmp_path).splitlines()
        assert lines[2] == '| a | - | top-1 | 1.00 | - | - | - | - |'
        assert lines[3] == '| b | - | mAP | 2 | - | - | - | c: ? |'
        assert lines[5] == 'own.json: 1 entries without protocol, metric, value are left out.'
        assert lines[7].startswith('torn.json is no JSON file')


def test_every_kind_can_be_built():
    needed = dict(knn=dict(k=1, temperature=1))
    for name, kind in KINDS.items():
        kind(**needed.get(name, {})).metrics()
