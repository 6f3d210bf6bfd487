"""Benchmarks that train, on a checkpoint and images of a few pixels."""

import pytest
import torch
from mmengine.config import Config

from mmselfsup_invp.evaluation import read_run
from mmselfsup_invp.evaluation.protocols import Job

from .jobs import CLASSIFIER, PROBE, run, training


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
