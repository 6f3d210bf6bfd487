"""Benchmarks as tools/benchmark.py runs them, on a checkpoint and images of a few pixels."""

import dataclasses
import json
import re
import shutil

import pytest
import torch
from mmengine.config import Config

from mmselfsup_invp.datasets import FewLabels
from mmselfsup_invp.evaluation import (
    read_backbone,
    read_run,
    similarity_distribution,
    similarity_figures,
    svm,
)
from mmselfsup_invp.evaluation.protocols import (
    KINDS,
    Benchmark,
    Job,
    begin,
    check_network,
    discard,
    effective,
    finished,
    provenance,
    read_benchmark,
    results_table,
    write_outcome,
)
from mmselfsup_invp.evaluation.protocols.data import check_data, move_data
from mmselfsup_invp.evaluation.protocols.job import OPTIONS
from mmselfsup_invp.evaluation.svm import SVMProtocol

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


def training(root, model=PROBE, metric='layers/best', epochs=2, **changes):
    """A benchmark that trains."""
    evaluator = dict(type='LayerwiseMetric')
    if model is not PROBE:
        evaluator = dict(type='mmcls.Accuracy')
    config = dict(
        default_scope='mmselfsup',
        visualizer=dict(type='SelfSupVisualizer', name='visualizer'),  # As the host names them all.
        model=model,
        train_dataloader=loader(root, 'train'),
        val_dataloader=loader(root, 'test'),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=1),
        val_cfg=dict(),
        val_evaluator=evaluator,
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)),
        benchmark=dict(
            name='toy', title='a toy', kind='training', metric=metric, data='toy',
            published={'somebody': 50.0},
        ),
    )  # fmt: skip
    return Config({**config, **changes})


def frozen(root, kind, metric, pool_size=2, **options):
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


def make_job(config, backbone, work_dir, **changes):
    return Job(Benchmark(**config.benchmark.to_dict()), config, backbone, work_dir, **changes)


def run(config, backbone, work_dir, **changes):
    job = make_job(config, backbone, work_dir, **changes)
    return job, KINDS[job.benchmark.kind](job)


class TestTraining:
    @pytest.mark.parametrize('random_init', [False, True])
    def test_probes_classify_images_of_plain_colours(self, root, backbone, tmp_path, random_init):
        _, outcome = run(training(root, epochs=4), backbone, tmp_path, random_init=random_init)
        assert outcome.best >= outcome.last > 60 and outcome.epochs == 4
        assert {f'layers/0{number}' for number in range(1, 6)} <= set(outcome.figures)

    def test_the_weights_are_those_of_the_checkpoint(self, root, backbone, tmp_path):
        run(training(root), backbone, tmp_path)
        state = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)['state_dict']
        for name, value in backbone.state.items():
            assert torch.equal(state[f'backbone.{name}'], value), name

    def test_a_classifier_gets_the_width_of_the_network(self, root, backbone, tmp_path):
        config = training(root, CLASSIFIER, 'accuracy/top1')
        _, outcome = run(config, backbone, tmp_path)
        state = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)['state_dict']
        assert state['head.fc.weight'].shape == (3, 16)
        assert any(
            not torch.equal(state[f'backbone.{name}'], value)
            for name, value in backbone.state.items()
        )
        assert 0 <= outcome.last <= 100

    def test_an_interrupted_run_goes_on(self, root, backbone, tmp_path):
        run(training(root, epochs=1), backbone, tmp_path)
        first = read_run(tmp_path).curves['layers/best'].value
        _, outcome = run(training(root, epochs=3), backbone, tmp_path)
        curve = read_run(tmp_path).curves['layers/best']
        assert curve.epoch == [1, 2, 3] and curve.value[:1] == first
        assert outcome.best == max(curve.value) and outcome.last == curve.value[-1]

    def test_the_seed_draws_the_few_labels_too(self, root, backbone, tmp_path):
        config = training(root, epochs=1)
        config.train_dataloader.dataset.update(type='FewLabels', fraction=0.4)
        config.train_dataloader.batch_size = 5
        for seed in (0, 3):
            run(config, backbone, tmp_path / str(seed), seed=seed)
            (dumped,) = (tmp_path / str(seed)).glob('*.py')
            assert Config.fromfile(dumped).train_dataloader.dataset.seed == seed

    @pytest.mark.parametrize('classes', [2, 5])
    def test_another_number_of_classes_is_refused(self, root, backbone, tmp_path, classes):
        config = training(root, model=dict(PROBE, num_classes=classes))
        with pytest.raises(ValueError, match=f'says {classes} classes.*run from 0 to 2'):
            run(config, backbone, tmp_path)

    def test_test_images_of_another_class_are_refused(self, root, backbone, tmp_path):
        lines = (root / 'meta/test.txt').read_text() + '000.png 3\n'
        (root / 'meta/more.txt').write_text(lines)
        config = training(root)
        config.val_dataloader.dataset.ann_file = 'meta/more.txt'
        with pytest.raises(ValueError, match='says 3 classes, but the test labels.*from 0 to 3'):
            run(config, backbone, tmp_path)

    def test_a_figure_that_is_not_logged_is_named(self, root, backbone, tmp_path):
        with pytest.raises(ValueError, match="has no figure 'layers/worst'; it has .*taps/best"):
            run(training(root, metric='layers/worst'), backbone, tmp_path)

    def test_another_network_is_refused(self, root, backbone, tmp_path):
        config = training(root)
        config.benchmark.backbone = dict(base_channels=4)
        with pytest.raises((ValueError, RuntimeError), match='size mismatch|not in the checkpoint'):
            run(config, backbone, tmp_path)


class TestFrozen:
    def test_knn_is_that_of_pooled_features(self, root, backbone, tmp_path):
        config = frozen(root, 'knn', '', pool_size=1, k=5, temperature=0.1)
        _, outcome = run(config, backbone, tmp_path)
        assert outcome.last > 60 and outcome.figures == {'k5_t0.1': outcome.last}

    def test_svms_rank_images_of_plain_colours(self, root, backbone, tmp_path):
        config = frozen(root, 'svm', 'mAP', costs=[1.0, 10.0], jobs=1)
        _, outcome = run(config, backbone, tmp_path)
        each = [outcome.figures[f'ap/0{number}'] for number in range(3)]
        assert outcome.last == pytest.approx(sum(each) / 3) and outcome.last > 60

    def test_few_shots_are_averaged(self, root, backbone, tmp_path):
        options = dict(costs=[1.0], jobs=1, shots=[1, 4], samples=2)
        _, outcome = run(frozen(root, 'few_shot', 'mAP', **options), backbone, tmp_path)
        each = [outcome.figures['shots/01'], outcome.figures['shots/04']]
        assert outcome.last == pytest.approx(sum(each) / 2)

    def test_no_draw_of_a_seed_is_one_of_another_seed(self, root, backbone, tmp_path, monkeypatch):
        seeds = []

        def draw(target, shots, seed):
            seeds.append(seed)
            return target

        monkeypatch.setattr(svm, 'few_shot_target', draw)
        options = dict(costs=[1.0], jobs=1, shots=[1], samples=2)
        for seed in range(3):
            config = frozen(root, 'few_shot', 'mAP', **options)
            run(config, backbone, tmp_path / str(seed), seed=seed)
        assert len(seeds) == len(set(seeds)) == 6

    @pytest.mark.parametrize(
        ('kind', 'options'),
        [('svm', dict(costs=[1.0])), ('few_shot', dict(costs=[1.0], shots=[1, 2], samples=2))],
    )
    def test_an_interrupted_call_goes_on(
        self, root, backbone, tmp_path, monkeypatch, kind, options
    ):
        config = frozen(root, kind, 'mAP', jobs=1, **options)
        whole = run(config, backbone, tmp_path / 'whole')[1]
        fit, fits = svm.SVMProtocol._fit, []

        def interrupted(*inputs):
            fits.append(0)
            if len(fits) == 2 * (1 if kind == 'svm' else 3):
                raise KeyboardInterrupt
            return fit(*inputs)

        monkeypatch.setattr(svm.SVMProtocol, '_fit', interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(config, backbone, tmp_path / 'cut')
        assert run(config, backbone, tmp_path / 'cut')[1] == whole
        wanted = 3 if kind == 'svm' else 12
        again = 1 if kind == 'svm' else 3  # The class, or the draw, that was cut off.
        assert len(fits) == wanted + again

    def test_a_network_that_it_is_not_for_is_refused(self, root, backbone):
        entry = frozen(root, 'knn', 'k5', k=5, temperature=0.1).benchmark.to_dict()
        check_network(Benchmark(**entry, network='Res'), backbone)
        message = r'toy is for networks named \*AlexNet\*, .*epoch_2.pth holds ResNet'
        with pytest.raises(ValueError, match=message):
            check_network(Benchmark(**entry, network='AlexNet'), backbone)

    def test_similarities_tell_plain_colours_apart(self, root, backbone, tmp_path):
        config = frozen(root, 'similarity', 'auroc', pool_size=1, num_neighbours=2)
        _, outcome = run(config, backbone, tmp_path)
        assert {'auroc', 'overlap', 'same', 'other'} == set(outcome.figures)
        feature, target = torch.load(tmp_path / 'features_test.pth')
        drawn = similarity_distribution(
            torch.nn.functional.normalize(feature), target.argmax(dim=1), num_neighbours=2
        )
        assert outcome.figures == similarity_figures(*drawn)  # All others count: no draw.
        assert outcome.last > 60 and not (tmp_path / 'features_train.pth').exists()

    def test_a_label_beyond_the_classes_is_named(self, root, backbone, tmp_path):
        config = frozen(root, 'knn', 'k5', k=5, temperature=0.1)
        config.num_classes = 2
        with pytest.raises(
            ValueError, match=r'says 2 classes, but .*train/0\d\d.png has the label 2'
        ):
            run(config, backbone, tmp_path)

    def test_features_are_kept_for_a_second_call(self, root, backbone, tmp_path):
        config = frozen(root, 'knn', '', k=5, temperature=0.1)
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
    with pytest.raises(ValueError, match='fraction = 0 must be above 0'):
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


def test_results_are_written_and_listed(root, backbone, tmp_path):
    job, outcome = run(training(root, epochs=1), backbone, tmp_path / 'toy')
    write_outcome(tmp_path / 'toy.json', job, outcome)
    entry = json.loads((tmp_path / 'toy.json').read_text())
    assert entry['value'] == outcome.last and entry['checkpoint'] == 'epoch_2.pth'
    assert entry['published'] == [dict(method='somebody', value=50.0)]
    row = results_table(tmp_path).splitlines()[2]
    assert row == (
        f'| toy | epoch_2.pth | taps/best | {outcome.last:.2f} | {outcome.best:.2f} | 1 | 0 | '
        'somebody: 50.0 |'
    )


def missing(root, name, folder):
    """What is said where a folder holds nothing."""
    config = training(root)
    move_data(config, str(folder))
    with pytest.raises(FileNotFoundError) as raised:
        check_data(config, name)
    return str(raised.value)


def test_what_is_missing_is_named_before_anything_begins(root, tmp_path):
    check_data(training(root), 'toy')
    said = missing(root, 'toy', tmp_path)
    assert said.startswith(f'toy: not complete, {tmp_path / "meta/train.txt"}, ')
    assert 'docs/en/data.md says which layouts' in said


@pytest.mark.parametrize(
    ('name', 'folder', 'advice'),
    [
        ('digits', 'data/digits/', 'run `python tools/convert_dataset.py digits data/digits`'),
        ('pets', 'data/pets/', 'run `python tools/prepare_data.py pets`'),
        ('pets', 'cats', 'run `python tools/prepare_data.py pets --root cats`'),
        ('voc2007', 'data/VOCdevkit/VOC2007', 'run `python tools/prepare_data.py voc2007`'),
        (['voc2007', 'voc2012'], 'data/VOCdevkit', 'voc2007`, .*; run .*prepare_data.py voc2012`'),
        ('bccd', 'data/bccd', 'configs/benchmarks/mmdetection/README.md says where'),
        ('custom-voc', 'mine', 'configs/benchmarks/mmdetection/README.md says how'),
    ],
)
def test_the_advice_is_the_right_command(root, name, folder, advice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(advice, missing(root, name, folder))


def test_a_config_without_the_entry_is_refused(tmp_path):
    (tmp_path / 'a.py').write_text('model = dict()')
    with pytest.raises(ValueError, match='a.py is no benchmark'):
        read_benchmark(tmp_path / 'a.py')
    (tmp_path / 'b.py').write_text("benchmark = dict(name='b', kinds='training')")
    with pytest.raises(ValueError, match="'kinds'.*Its keys: name, title, kind"):
        read_benchmark(tmp_path / 'b.py')


@pytest.mark.parametrize(
    ('kind', 'changes', 'message'),
    [
        ('knn', {'benchmark.optins.k': 3}, "'optins'.*Its keys: name, title"),
        ('knn', {'benchmark.options.kk': 3}, "has kk; valid for kind='knn': k, temperature"),
        ('knn', {'benchmark.options.k': 0}, 'options.k = 0 must be an integer above 0'),
        ('knn', {'benchmark.options.k': 'many'}, "options.k = 'many' must be an integer"),
        ('knn', {'benchmark.options.temperature': 0}, 'temperature = 0 must be above 0'),
        ('knn', {'benchmark.options': {'_delete_': True, 'k': 3}}, 'lacks temperature'),
        ('knn', {'benchmark.metric': 'foo'}, "the metric 'foo'.*leave benchmark.metric out"),
        ('knn', {'benchmark.options.k.l': 3}, 'cannot be changed by'),
        ('kn', {}, "benchmark.kind = 'kn' is unknown; valid: 'training', 'detection', 'knn'"),
        ('svm', {'benchmark.options': {'_delete_': True}}, "metric = '' is unknown; valid: 'mAP'"),
        ('training', {'benchmark.options': {'_delete_': True}}, 'b lacks metric'),
        ('training', {}, "has k, temperature; valid for kind='training': none"),
    ],
)
def test_settings_that_do_not_fit_are_named(tmp_path, kind, changes, message):
    entry = dict(name='b', title='b', kind=kind, data='toy', options=dict(k=5, temperature=0.1))
    (tmp_path / 'b.py').write_text(f'benchmark = {entry}')
    with pytest.raises(ValueError, match=message):
        read_benchmark(tmp_path / 'b.py', changes)


def test_the_metric_of_knn_is_named_by_what_was_done(tmp_path):
    entry = dict(name='b', title='b', kind='knn', data='x', options=dict(k=5, temperature=0.1))
    (tmp_path / 'b.py').write_text(f'benchmark = {entry}')
    changed = read_benchmark(tmp_path / 'b.py', {'benchmark.options.k': 1})[0]
    assert changed.metric == 'k1_t0.1'


def test_the_options_are_those_that_the_functions_take():
    assert OPTIONS.keys() == KINDS.keys()
    fields = {field.name for field in dataclasses.fields(SVMProtocol)} - {'seed'}
    assert {*OPTIONS['svm']} == fields == {*OPTIONS['few_shot']} - {'shots', 'samples'}


class TestOrigin:
    @pytest.fixture
    def job(self, root, backbone, tmp_path):
        config = frozen(root, 'knn', '', k=5, temperature=0.1)
        return make_job(config, backbone, tmp_path / 'knn')

    @pytest.fixture
    def done(self, job):
        """The job, with a result."""
        note = begin(job)
        write_outcome(job.result, job, KINDS['knn'](job), note)
        return job

    def test_nothing_is_there_at_first(self, job):
        assert finished(job) is None

    def test_a_result_is_found_again(self, done):
        assert finished(done)['metric'] == 'k5_t0.1'
        done.result.unlink()
        assert finished(done) is None  # To go on with.

    def test_what_does_not_matter_may_change(self, done, backbone):
        config = done.config.copy()
        config.train_dataloader.num_workers = 2
        config.benchmark.title = 'another title'
        path = backbone.path.with_name('a copy.pth')
        same = dataclasses.replace(backbone, path=path)
        assert finished(dataclasses.replace(done, config=config, backbone=same))

    def other_weights(job):
        state = {name: value + 1 for name, value in job.backbone.state.items()}
        return dict(backbone=dataclasses.replace(job.backbone, state=state))

    def other_options(job):
        config = job.config.copy()
        config.benchmark.options.k = 3
        return dict(config=config, changes={'benchmark.options.k': 3})

    def other_metric(job):
        return dict(benchmark=dataclasses.replace(job.benchmark, options=dict(k=3, temperature=1)))

    def other_folder(job):
        config = job.config.copy()
        folder = job.work_dir.parent / 'link'
        folder.symlink_to(config.train_dataloader.dataset.data_root)
        copied = job.work_dir.parent / 'copied'
        shutil.copytree(folder, copied)
        move_data(config, str(copied))
        return dict(config=config)

    def other_list(job):
        config = job.config.copy()
        config.test_dataloader.dataset.ann_file = 'meta/train.txt'
        return dict(config=config)

    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            (other_weights, r'knn.json was made with another checkpoint \(\w+, now \w+\)\. Repeat'),
            (other_options, 'another config .*--cfg-options: nothing, now benchmark.options.k=3'),
            (other_metric, r'another metric \(k5_t0.1, now k3_t1\)'),
            (other_folder, r'other data \(.*, now .*copied\)\. '),
            (other_list, 'another config.*; other lists of images'),
        ],
    )
    def test_the_result_of_something_else_is_refused(self, done, change, message):
        other = dataclasses.replace(done, **change(done))
        with pytest.raises(ValueError, match=f'toy: .*{message}'):
            finished(other)
        done.result.unlink()
        if change is not TestOrigin.other_metric:  # Another figure of the same run.
            with pytest.raises(ValueError, match='toy: .*knn was made with .* --force'):
                finished(other)
        discard(other)
        assert finished(other) is None

    @pytest.mark.parametrize('content', ['{}', '[]', 'torn', '{"protocol": 1}'])
    def test_what_does_not_say_is_refused(self, job, content):
        job.result.write_text(content)
        with pytest.raises(ValueError, match='knn.json does not say what it was made with'):
            finished(job)
        discard(job)
        job.work_dir.mkdir()
        (job.work_dir / 'features_train.pth').touch()
        with pytest.raises(ValueError, match='knn does not say what it was made with'):
            finished(job)

    def test_a_changed_recipe_is_not_compared(self, done):
        changes = {'benchmark.options.k': 3, 'train_dataloader.num_workers': 2}
        job = dataclasses.replace(done, changes=changes)
        entry = write_outcome(job.result, job, KINDS['knn'](job), provenance(job))
        assert entry['provenance']['changes'] == {'benchmark.options.k': 3}
        assert 'not comparable: benchmark.options.k=3 |' in results_table(job.result.parent)


def test_a_setting_as_it_is_changes_nothing(root):
    config = frozen(root, 'knn', '', k=5, temperature=0.1)
    before = config.to_dict()
    wanted = {'benchmark.options.k': 5, 'benchmark.options.temperature': 0.2, 'new.key': 1}
    assert list(effective(config, wanted)) == ['benchmark.options.temperature', 'new.key']
    assert config.to_dict() == before


def test_checkpoints_of_one_name_are_told_apart(tmp_path):
    for name, fingerprint in (('a', '123456789'), ('b', '123456789'), ('c', 'abcdefghi')):
        entry = dict(protocol=name, metric='mAP', value=1.0, checkpoint='epoch_1.pth')
        entry['provenance'] = dict(checkpoint=fingerprint)
        (tmp_path / f'{name}.json').write_text(json.dumps(entry))
    assert [row.split(' | ')[1] for row in results_table(tmp_path).splitlines()[2:]] == [
        *['epoch_1.pth (123456)'] * 2,
        'epoch_1.pth (abcdef)',
    ]
    (tmp_path / 'c.json').unlink()
    assert 'epoch_1.pth |' in results_table(tmp_path)


def test_results_of_others_are_listed_too(tmp_path):
    """In the form that docs/en/report.md has."""
    own = [dict(protocol='a', metric='top-1', value=1.0), dict(protocol='b', metric='mAP', value=2)]
    own[1]['published'] = [dict(method='somebody'), 'nobody']
    (tmp_path / 'own.json').write_text(json.dumps(own))
    (tmp_path / 'torn.json').write_text('{')
    lines = results_table(tmp_path).splitlines()
    assert lines[2] == '| a | - | top-1 | 1.00 | - | - | - | - |'
    assert lines[3] == '| b | - | mAP | 2 | - | - | - | somebody: ? |'
    assert lines[5].startswith('torn.json is no JSON file')
