"""The protocols custom-* on generated class folders of mixed sizes."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from mmselfsup_invp.evaluation import Encoder, read_backbone
from mmselfsup_invp.evaluation.protocols import (
    Job,
    evaluate,
    finished,
    own_labels,
    read_benchmark,
    results_table,
    write_outcome,
)
from mmselfsup_invp.evaluation.protocols.class_folders import ClassFolders
from mmselfsup_invp.evaluation.protocols.data import check_data, move_data
from mmselfsup_invp.evaluation.protocols.own_labels import CLASSIFIERS, bootstrap_interval

from ..checkpoints import save_checkpoint

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/benchmarks/classification/custom'
NAMES = sorted(CONFIGS.glob('*.py'))
COLOURS = {'amber': (230, 160, 30), 'blue': (40, 60, 220), 'coral': (240, 110, 100)}
SIZES = [(16, 16), (20, 31), (40, 17), (9, 12)]  # Width and height.


def class_folders(root, counts, splits=('',), seed=0):
    """Write class folders of noisy colours; images of a class have several sizes and formats."""
    random = np.random.default_rng(seed)
    for split in splits:
        for name, count in counts.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                width, height = SIZES[number % len(SIZES)]
                noise = random.integers(-90, 90, (height, width, 3))
                pixels = (np.array(COLOURS[name]) + noise).clip(0, 255).astype(np.uint8)
                suffix = ('png', 'JPG', 'webp')[number % 3]
                Image.fromarray(pixels).save(folder / f'{number:02d}.{suffix}')
    return root


@pytest.fixture(scope='module')
def backbone(tmp_path_factory):
    return read_backbone(save_checkpoint(tmp_path_factory.mktemp('run') / 'epoch_3.pth'))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    counts = dict(amber=12, blue=10, coral=8)
    return class_folders(tmp_path_factory.mktemp('data') / 'mine', counts)


def make_job(path, root, backbone, out, changes=None, **options):
    benchmark, config, changed = read_benchmark(path, changes)
    move_data(config, str(root))
    check_data(config, benchmark.data)
    return Job(benchmark, config, backbone, out, changes=changed, **options)


@pytest.mark.parametrize('path', NAMES, ids=lambda path: path.stem)
def test_every_protocol_runs_on_class_folders(path, root, backbone, tmp_path):
    changes = {'benchmark.options.settings.jobs': 1} if 'svm' in path.stem else None
    job = make_job(path, root, backbone, tmp_path, changes)
    outcome = evaluate(job)
    assert job.benchmark.name.startswith('custom-') and job.benchmark.metric == 'top1'
    low, high = outcome.interval
    assert 0 <= low <= outcome.last <= high <= 100
    # A fifth of each class, rounded up: 3 + 2 + 2 images.
    assert outcome.references['majority class'] == pytest.approx(300 / 7)
    assert outcome.last > 60  # The network separates colours with its initial weights.
    assert 0 <= outcome.references['untrained'] <= 100
    shots = [name for name in outcome.metrics if name.startswith('shots/')]
    lowshot = 'lowshot' in path.stem
    assert shots == (['shots/01', 'shots/02', 'shots/04'] if lowshot else [])
    if shots:
        assert outcome.last == pytest.approx(np.mean([outcome.metrics[name] for name in shots]))


KNN = CONFIGS / 'knn_custom.py'


def test_the_result_is_a_row_with_interval_and_references(root, backbone, tmp_path):
    job = make_job(KNN, root, backbone, tmp_path)
    outcome = evaluate(job)
    entry = write_outcome(job, outcome)
    assert entry['references'].keys() == {'majority class', 'untrained'}
    assert finished(job) == json.loads(json.dumps(entry))
    row = results_table(tmp_path).splitlines()[2]
    low, high = outcome.interval
    assert f'| {outcome.last:.2f} ({low:.2f} to {high:.2f}) |' in row
    assert f'majority class: 42.86; untrained: {outcome.references["untrained"]:.2f} |' in row


def test_the_untrained_network_is_that_of_random_init(root, backbone, tmp_path):
    trained = evaluate(make_job(KNN, root, backbone, tmp_path))
    untrained = evaluate(make_job(KNN, root, backbone, tmp_path, random_init=True))
    assert untrained.references.keys() == {'majority class'}
    assert untrained.last == trained.references['untrained']


def test_features_are_extracted_once(root, backbone, tmp_path, monkeypatch):
    linear = CONFIGS / 'linear_custom.py'
    evaluate(make_job(KNN, root, backbone, tmp_path))
    stored = {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'features').iterdir()}
    assert len(stored) == 2  # Of the network, and of the untrained one.
    evaluate(make_job(linear, root, backbone, tmp_path))
    assert stored == {
        path.name: path.stat().st_mtime_ns for path in (tmp_path / 'features').iterdir()
    }


@pytest.mark.parametrize('folder', ['val', 'test'])
def test_a_split_in_folders_is_kept(backbone, tmp_path, folder):
    counts = dict(amber=4, blue=3)
    root = class_folders(tmp_path / 'mine', counts, splits=('train', folder))
    data = ClassFolders(root)
    assert {Path(data.files[row]).relative_to(root).parts[0] for row in data.test} == {folder}
    assert len(data.train) == len(data.test) == 7
    assert data.label[data.train].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert data.majority() == pytest.approx(400 / 7)


def test_the_seed_draws_the_split(root):
    zero, same, one = ClassFolders(root, 0), ClassFolders(root, 0), ClassFolders(root, 1)
    np.testing.assert_array_equal(zero.test, same.test)
    assert zero.test.tolist() != one.test.tolist()
    assert zero.files == one.files and zero.key == one.key
    assert np.bincount(zero.label[zero.test]).tolist() == [3, 2, 2]
    assert sorted([*zero.train, *zero.test]) == [*range(30)]


@pytest.mark.parametrize('change', ['label', 'content', 'name'])
def test_another_folder_is_another_result(backbone, tmp_path, change):
    root = class_folders(tmp_path / 'mine', dict(amber=3, blue=3))
    before = make_job(KNN, root, backbone, tmp_path).work_dir
    assert make_job(KNN, root, backbone, tmp_path).work_dir == before
    image = root / 'amber/00.png'
    if change == 'label':
        image.rename(root / 'blue/20.png')
    elif change == 'name':
        image.rename(root / 'amber/20.png')
    else:
        Image.new('RGB', (30, 30)).save(image)
    assert make_job(KNN, root, backbone, tmp_path).work_dir != before


@pytest.mark.parametrize(
    ('counts', 'message'),
    [
        (dict(amber=3), 'Found to train: amber 2; to test: 1'),
        (dict(amber=1, blue=1), 'Found to train: amber 1, blue 1; to test: 0'),
        (dict(amber=3, blue=0), 'class folders without an image: blue. Images must lie directly'),
    ],
)
def test_too_few_images_are_named(tmp_path, counts, message):
    with pytest.raises(ValueError, match=message):
        ClassFolders(class_folders(tmp_path / 'mine', counts))


def test_ignored_images_are_reported(backbone, tmp_path, monkeypatch):
    root = class_folders(tmp_path / 'mine', dict(amber=4, blue=4))
    assert ClassFolders(root).ignored == ''
    class_folders(root / 'amber', dict(coral=3))
    messages = []
    monkeypatch.setattr(own_labels, 'print_log', lambda text, **_: messages.append(text))
    evaluate(make_job(KNN, root, backbone, tmp_path / 'out'))
    assert messages == [
        f'Images in {root} that do not lie in a class folder are ignored: 3 (3 in amber/coral).'
    ]


def test_an_unreadable_image_is_named(backbone, tmp_path):
    root = class_folders(tmp_path / 'mine', dict(amber=3, blue=3))
    (root / 'blue/01.JPG').write_bytes(b'')
    with pytest.raises(ValueError, match='Cannot read the image .*blue/01.JPG'):
        evaluate(make_job(KNN, root, backbone, tmp_path / 'out'))


def test_a_folder_without_classes_or_none_is_named(backbone, tmp_path):
    with pytest.raises(FileNotFoundError, match='class-folders: not complete.*--data'):
        make_job(KNN, tmp_path / 'nowhere', backbone, tmp_path)
    (tmp_path / 'flat').mkdir()
    with pytest.raises(FileNotFoundError, match='has no class folders'):
        make_job(KNN, tmp_path / 'flat', backbone, tmp_path).id  # noqa: B018


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'benchmark.options.classifier': 'forest'}, "one of 'knn', 'logistic', 'svm'"),
        ({'benchmark.options.settings.neighbours': 3}, "'neighbours'"),
        ({'benchmark.options.shots': [0]}, r'shots = \[0\] is not valid'),
    ],
)
def test_settings_are_checked_when_the_config_is_read(changes, message):
    with pytest.raises(ValueError, match=message):
        read_benchmark(KNN, changes)


def test_the_size_of_the_view_can_be_set(root, backbone, tmp_path, monkeypatch):
    sizes = []
    original = Encoder.features

    def features(self, paths, num_workers=None):
        sizes.append(self.size)
        return original(self, paths, num_workers)

    monkeypatch.setattr(Encoder, 'features', features)
    evaluate(make_job(KNN, root, backbone, tmp_path))
    evaluate(make_job(KNN, root, backbone, tmp_path, {'benchmark.options.size': 8}))
    assert sizes == [(16, 16)] * 2 + [(8, 8)] * 2


# ---- classifiers ----


def problem(num, seed, classes=4, noise=0.8):
    random = np.random.default_rng(seed)
    centre = np.random.default_rng(9).standard_normal((classes, 8))
    label = np.arange(num) % classes
    feature = centre[label] + noise * random.standard_normal((num, 8))
    feature /= np.linalg.norm(feature, axis=1, keepdims=True)
    return feature.astype(np.float32), label


def test_knn_votes_as_scikit_learn():
    (train, label), (test, _) = problem(60, 0), problem(40, 1)
    reference = KNeighborsClassifier(
        7, metric='cosine', weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(train, label)
    found = CLASSIFIERS['knn']((train, label), test, 0, k=7)
    np.testing.assert_array_equal(found, reference.predict(test))


def test_logistic_regression_is_that_of_scikit_learn():
    (train, label), (test, truth) = problem(60, 0), problem(40, 1)
    scale = StandardScaler().fit(train)
    reference = LogisticRegression(C=0.1, max_iter=1000).fit(scale.transform(train), label)
    found = CLASSIFIERS['logistic']((train, label), test, 0, costs=[0.1])
    np.testing.assert_array_equal(found, reference.predict(scale.transform(test)))
    assert (CLASSIFIERS['logistic']((train, label), test, 0) == truth).mean() > 0.6


@pytest.mark.parametrize('name', CLASSIFIERS)
@pytest.mark.parametrize('num', [4, 8, 60])
def test_classifiers_learn_from_one_image_of_each_class_or_more(name, num):
    settings = dict(jobs=1) if name == 'svm' else {}
    (train, label), (test, truth) = problem(num, 0, noise=0.4), problem(200, 1, noise=0.4)
    predicted = CLASSIFIERS[name]((train, label), test, 0, **settings)
    assert predicted.shape == truth.shape and (predicted == truth).mean() > 0.4
    again = CLASSIFIERS[name]((train, label), test, 0, **settings)
    np.testing.assert_array_equal(predicted, again)


# ---- the interval ----


def test_the_interval_is_that_of_the_binomial():
    hits = np.arange(400) % 4 > 0  # 75 %.
    low, high = bootstrap_interval(hits.astype(float))
    spread = 100 * 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(75 - spread, abs=0.6)
    assert high == pytest.approx(75 + spread, abs=0.6)
    assert bootstrap_interval(hits.astype(float)) == (low, high)


def test_the_interval_covers_the_truth():
    random = np.random.default_rng(0)
    inside = 0
    for seed in range(60):
        low, high = bootstrap_interval((random.random(150) < 0.6).astype(float), seed)
        inside += low <= 60 <= high
    assert inside >= 52  # 57 expected; 52 or more with a probability of 98 %.


def test_a_run_is_reproducible(root, backbone, tmp_path):
    path = CONFIGS / 'svm-lowshot_custom.py'
    changes = {'benchmark.options.settings.jobs': 1, 'benchmark.options.samples': 2}
    job = make_job(path, root, backbone, tmp_path / 'one', changes)
    other = dataclasses.replace(job, out=tmp_path / 'two')
    torch.manual_seed(7)
    assert evaluate(job) == evaluate(other)


def test_shots_beyond_the_smallest_class_are_left_out(backbone, tmp_path):
    root = class_folders(tmp_path / 'mine', dict(amber=9, blue=4))
    settings = own_labels.OwnLabels('svm', dict(jobs=1), shots=(1, 2, 8), samples=2)
    job = make_job(CONFIGS / 'svm-lowshot_custom.py', root, backbone, tmp_path)
    assert [*settings(job).metrics] == ['top1', 'shots/01', 'shots/02']
