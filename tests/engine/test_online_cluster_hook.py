import re

import pytest
import torch
import torch.nn.functional as F

from mmselfsup_invp import ops
from mmselfsup_invp.engine.hooks.odc_reweight_hook import cluster_weights
from mmselfsup_invp.evaluation import cluster_agreement
from mmselfsup_invp.models import ClusterMemory
from mmselfsup_invp.ops.clustering import cluster_health

from .. import toy
from .methods import changes
from .recording import Watch, ids_of, log_text, record_staged, scalars

SAVE = dict(default_hooks=dict(checkpoint=dict(interval=1)))


def train(images, work_dir, *watches, name='InterCLR', epochs=2, config=None, **options):
    """Train with the options of the hook and further hooks; return the runner."""
    config = toy.merged(changes(name, images, **options), config or {})
    runner = toy.build_runner(images, work_dir, epochs, **config)
    for watch in watches:
        runner.register_hook(watch)
    runner.train()
    return runner


class Steps:
    """Keeps the state of the clusters before and after every step, and what was staged."""

    def __init__(self):
        self.ids, self.before, self.after, self.feature = [], [], [], []

    @property
    def watches(self):
        return [
            Watch('before_train_iter', self._before),
            Watch('before_train', lambda r: record_staged(r.model.branch.memory, self.feature)),
            Watch('after_train_iter', lambda r, **_: self.after.append(snapshot(r.model))),
        ]

    def _before(self, runner, data_batch, **_):
        self.ids.append(ids_of(data_batch))
        self.before.append(snapshot(runner.model))


def snapshot(model):
    return {name: value.clone() for name, value in model.branch.memory.state_dict().items()}


class TestStart:
    def test_all_images_are_clustered_once_without_augmentation(self, images, tmp_path):
        first = []
        runner = train(
            images,
            tmp_path,
            Watch('before_train_epoch', lambda r: first.append(snapshot(r.model))),
            epochs=1,
            config=dict(optim_wrapper=dict(optimizer=dict(lr=0.0))),
            seed=3,
        )
        start = first[0]
        runner.model.eval()
        loader = toy.build_loader(toy.loader(images, batch_size=24))
        (batch,) = loader
        inputs, _ = runner.model.data_preprocessor(batch, False)
        # Statistics have moved since, but those of the start are what a new network has.
        fresh = toy.build_runner(images, tmp_path / 'fresh', **changes('InterCLR', images)).model
        fresh.load_state_dict({**runner.model.state_dict(), **_statistics(fresh)})
        feature = fresh.eval().embed(inputs[0]).detach()
        torch.testing.assert_close(start['bank'], feature)
        labels, centroids = ops.kmeans(feature, 4, seed=3)
        assert torch.equal(start['labels'], labels)
        torch.testing.assert_close(start['centroids'], centroids)

    def test_labels_from_a_checkpoint_are_kept(self, images, tmp_path, monkeypatch):
        train(images, tmp_path, epochs=1, config=SAVE)
        monkeypatch.setattr(ClusterMemory, 'cluster', None)
        resumed = train(images, tmp_path, epochs=2, config=dict(SAVE, resume=True))
        assert resumed.epoch == 2

    def test_the_queue_is_lowered_to_the_data_set(self, images, tmp_path):
        runner = train(
            images,
            tmp_path,
            name='MomentumInterCLR',
            config=dict(model=dict(queue=dict(length=50))),
        )
        assert len(runner.model.queue) == 24
        assert runner.model.queue.pointer == 0  # 48 keys later.
        assert 'queue of 50 is lowered to the 24 images' in log_text(tmp_path)

    def test_more_negatives_than_images_are_named(self, images, tmp_path):
        model = dict(head=dict(num_negatives=9), branch=dict(num_negatives=30))
        train(images, tmp_path, epochs=1, config=dict(model=model))
        text = log_text(tmp_path)
        assert 'num_negatives = 30 of OnlineClusterBranch exceeds what 24 images provide' in text
        assert 'of BankMarginHead' not in text

    def test_more_clusters_than_images_are_refused(self, images, tmp_path):
        model = dict(branch=dict(memory=dict(num_clusters=25)))
        with pytest.raises(ValueError, match='24 images cannot fill 25 clusters'):
            train(images, tmp_path, config=dict(model=model))

    def test_a_missing_list_is_an_error_before_training(self, images, tmp_path):
        loader = toy.loader(images, ann_file='meta/none.txt')
        steps = Steps()
        with pytest.raises(FileNotFoundError, match='meta/none.txt'):
            train(images, tmp_path, *steps.watches, extract_dataloader=loader)
        assert not steps.ids


def _statistics(model):
    return {name: value for name, value in model.state_dict().items() if 'running' in name}


class TestStep:
    @pytest.mark.parametrize('repair_interval', [1000, 2])
    def test_labels_and_centroids_equal_a_hand_computation(self, images, tmp_path, repair_interval):
        """Where both are due, the centroids are updated before small clusters are repaired."""
        steps = Steps()
        config = dict(model=dict(branch=dict(memory=dict(min_size=6))))
        intervals = dict(centroid_interval=2, repair_interval=repair_interval)
        train(images, tmp_path, *steps.watches, config=config, **intervals)
        assert len(steps.after) == 6
        moved = 0
        rounds = zip(steps.ids, steps.feature, steps.before, steps.after, strict=True)
        for number, (ids, feature, before, after) in enumerate(rounds):
            bank, labels = before['bank'].clone(), before['labels'].clone()
            bank[ids] = F.normalize(0.5 * bank[ids] + 0.5 * feature)
            labels[ids] = torch.cdist(bank[ids], before['centroids']).argmin(dim=1)
            centroids = before['centroids'].clone()
            if number % 2:
                for cluster in labels.unique():
                    centroids[cluster] = bank[labels == cluster].mean(dim=0)
            if repair_interval == 2 and number % 2:
                ops.repair_small(bank, labels, centroids, 6)
            torch.testing.assert_close(after['bank'], bank)
            assert torch.equal(after['labels'], labels)
            torch.testing.assert_close(after['centroids'], centroids)
            moved += int((labels != before['labels']).sum())
        assert moved  # There was something to compare.

    def test_small_clusters_are_repaired_in_their_turn(self, images, tmp_path):
        steps = Steps()

        def empty(runner):
            runner.model.branch.memory.labels.fill_(0)
            runner.model.branch.memory.centroids[1:] = 9.0

        train(
            images, tmp_path, Watch('before_train_epoch', empty), *steps.watches, epochs=1,
            repair_interval=3, centroid_interval=1000,
        )  # fmt: skip
        sizes = [ops.cluster_sizes(after['labels'], 4) for after in steps.after]
        assert [int((size == 0).sum()) for size in sizes] == [3, 3, 0]
        assert scalars(tmp_path, 'clusters')[1]['clusters/repaired'] == 3

    def test_offline_labels_change_between_epochs_alone(self, images, tmp_path):
        steps = Steps()
        train(images, tmp_path, *steps.watches, epochs=4, offline_interval=2)
        for before, after in zip(steps.before, steps.after, strict=True):
            assert torch.equal(before['labels'], after['labels'])
            assert torch.equal(before['centroids'], after['centroids'])
            assert not torch.equal(before['bank'], after['bank'])
        starts = [before['labels'] for before in steps.before[::3]]
        assert torch.equal(starts[0], starts[1]) and torch.equal(starts[2], starts[3])
        assert not torch.equal(steps.before[5]['centroids'], steps.before[6]['centroids'])
        assert torch.equal(steps.after[5]['bank'], steps.before[6]['bank'])

    def test_warm_up(self, images, tmp_path):
        losses = []
        watch = Watch('after_train_iter', lambda r, outputs, **_: losses.append(outputs))
        train(images, tmp_path, watch, epochs=3, warmup_epochs=2)
        assert [bool(step['loss_inter'] > 0) for step in losses] == [False] * 6 + [True] * 3

    def test_invp_with_the_branch(self, images, tmp_path):
        config = changes('InterCLR', images)
        config['model'] = toy.model_config(branch=toy.branch_config())
        config['custom_hooks'].append(dict(type='PropagationMemoryHook', ramp='constant'))
        model = train(images, tmp_path, config=config).model
        assert model.branch.memory.clustered and (model.memory.neighbours >= 0).all()


class TestHealth:
    def test_metrics_are_logged_every_epoch(self, images, tmp_path):
        steps = Steps()
        memory = train(images, tmp_path, *steps.watches).model.branch.memory
        metrics = scalars(tmp_path, 'clusters')
        sizes = ops.cluster_sizes(memory.labels, 4)
        for name, value in cluster_health(sizes).items():
            assert metrics[2][f'clusters/{name}'] == pytest.approx(value)
        for epoch in (1, 2):
            changed = sum(
                int((after['labels'] != before['labels'])[ids].sum())
                for ids, before, after in list(
                    zip(steps.ids, steps.before, steps.after, strict=True)
                )[3 * epoch - 3 : 3 * epoch]
            )
            assert metrics[epoch]['clusters/change_ratio'] == pytest.approx(changed / 24)
        assert re.search(r'Epoch\(clusters\) \[2\]  empty: 0 ', log_text(tmp_path))

    def test_agreement_with_the_true_classes(self, images, tmp_path):
        steps = Steps()
        memory = train(images, tmp_path, *steps.watches).model.branch.memory
        metrics, truth = scalars(tmp_path, 'clusters'), torch.arange(24) % 3
        for epoch, labels in ((0, steps.before[0]['labels']), (2, memory.labels)):
            for name, value in cluster_agreement(labels, truth).items():
                assert metrics[epoch][f'clusters/{name}'] == pytest.approx(value)

    @pytest.mark.parametrize('ann_file', toy.NOT_ONE_LABEL)
    def test_without_labels_there_is_no_agreement(self, images, tmp_path, ann_file):
        loader = toy.loader(images, views=toy.VIEWS, ann_file=ann_file)
        train(images, tmp_path, epochs=1, config=dict(train_dataloader=loader))
        metrics = scalars(tmp_path, 'clusters')
        assert list(metrics) == [1] and 'clusters/nmi' not in metrics[1]

    @pytest.mark.parametrize(('interval', 'epochs'), [(0, []), (2, [0, 2])])
    def test_interval(self, images, tmp_path, interval, epochs):
        train(images, tmp_path, epochs=3, health_interval=interval)
        assert list(scalars(tmp_path, 'clusters')) == epochs


class TestODC:
    def test_odc_of_mmselfsup_trains_in_one_process(self, images, tmp_path):
        losses = []
        watch = Watch('after_train_iter', lambda r, outputs, **_: losses.append(outputs))
        reweight = dict(type='ODCReweightHook', interval=1)
        config = changes('ODC', images)
        config['custom_hooks'].append(reweight)
        runner = train(images, tmp_path, watch, name='ODC', config=config)
        memory = runner.model.memory_bank
        assert memory.clustered
        assert all(0 <= step['change_ratio'] <= 1 and step['loss'] > 0.1 for step in losses)
        size = ops.cluster_sizes(memory.labels, 4)
        assert torch.equal(runner.model.head.loss.class_weight, cluster_weights(size, 0.5))
        assert scalars(tmp_path, 'clusters')[2]['clusters/change_ratio'] >= 0

    def test_weights_fall_with_the_size_and_average_to_one(self):
        size = torch.tensor([16, 4, 0, 1])
        weight = cluster_weights(size, 0.5)
        torch.testing.assert_close(weight / weight[3], torch.tensor([0.25, 0.5, 0.0, 1.0]))
        torch.testing.assert_close((weight * size).sum() / 21, torch.tensor(1.0))
        assert torch.equal(cluster_weights(torch.tensor([3, 5]), 0.0), torch.ones(2))

    def test_another_model_is_refused(self, images, tmp_path):
        config = changes('InterCLR', images)
        config['custom_hooks'].append(dict(type='ODCReweightHook'))
        message = 'ODCReweightHook needs ODC with an ODCClusterMemory, InterCLR has none'
        with pytest.raises(TypeError, match=message):
            train(images, tmp_path, config=config)
