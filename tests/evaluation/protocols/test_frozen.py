"""Benchmarks on frozen features, on a checkpoint and images of a few pixels."""

import numpy as np
import pytest
import torch
from mmcls.structures import ClsDataSample

from mmselfsup_invp.evaluation import similarity_distribution, similarity_metrics, svm
from mmselfsup_invp.evaluation.protocols import Benchmark, Job, check_network, features, frozen

from .jobs import knn, on_features, run


def voc_sample(label, difficult):
    """An image as MMClassification's VOC and PackClsInputs give it."""
    sample = ClsDataSample(metainfo=dict(img_path='a.jpg', gt_label_difficult=difficult))
    return sample.set_gt_label(label)


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

    @pytest.mark.parametrize(
        ('label', 'difficult', 'expected'),
        [
            ([], [1], [0, -1, 0]),
            ([], [], [0, 0, 0]),
            ([], None, [0, 0, 0]),
            ([2], [1, 2], [0, -1, 1]),
        ],
    )
    def test_images_with_difficult_objects_alone_or_none(self, label, difficult, expected):
        assert features._target(voc_sample(label, difficult), 3).tolist() == expected

    @pytest.mark.parametrize(('label', 'difficult'), [([3], []), ([0], [3]), ([], [3])])
    def test_a_difficult_label_beyond_the_classes_is_named(self, label, difficult):
        with pytest.raises(ValueError, match=r'says 3 classes, but a.jpg has the label 3'):
            features._target(voc_sample(label, difficult), 3)

    def test_features_are_stored_for_a_second_call(self, root, backbone, tmp_path, monkeypatch):
        monkeypatch.setattr(Job, 'id', 'same')
        config = knn(root)
        _, first = run(config, backbone, tmp_path)
        config.train_dataloader.dataset.ann_file = 'not there'
        assert run(config, backbone, tmp_path)[1] == first
