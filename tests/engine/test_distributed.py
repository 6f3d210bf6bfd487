"""Two processes on one machine: the same memory in both, and the same run as in one."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import distributed

from mmselfsup_invp import ops
from mmselfsup_invp.engine.hooks.common import unwrap
from mmselfsup_invp.evaluation import extract_features

from .. import toy
from .processes import OPTIONS, run_ranks
from .recording import Steps, Watch, ids_of, record_staged, snapshot

pytestmark = pytest.mark.slow  # Two processes are started.


def runner_of(
    images: Path,
    work_dir: Path,
    batch_size: int,
    momentum: bool = False,
    dtype: str = 'float32',
    **changes,
):
    """A runner for any number of processes; statistics of a batch play no part."""
    config = toy.model_config('MomentumInvP', memory=dict(length=20)) if momentum else None
    alike = dict(backbone=dict(norm_eval=True), memory=dict(dtype=dtype))
    model = toy.merged(config or toy.model_config(), alike)
    hooks = [
        dict(type='EpochSeedHook'),
        dict(
            type='PropagationMemoryHook',
            ramp='constant',
            # So that every image has positives from the start: then means of means are means.
            initial_graph='knn',
        ),
        dict(
            type='KNNEvalHook',
            gallery='backbone' if momentum else ['bank', 'backbone'],
            query_dataloader=toy.loader(images, 'test', batch_size=5),
            gallery_dataloader=toy.loader(images, 'train', batch_size=5),
            k=5,
        ),
    ]
    return toy.build_runner(
        images,
        work_dir,
        model=model,
        train_dataloader=toy.loader(
            images, views=toy.VIEWS, num_views=1 + momentum, batch_size=batch_size
        ),
        custom_hooks=hooks,
        **changes,
    )


def train(images: Path, work_dir: Path, batch_size: int, momentum: bool = False, **changes) -> dict:
    """Train and give all there is to compare."""
    runner = runner_of(images, work_dir, batch_size, momentum, **changes)
    steps, inserted, knn = Steps(), [], []
    runner.register_hook(steps)

    def watch_keys(runner):
        memory = unwrap(runner.model).memory
        insert = memory.insert

        def watched(key, sample):
            anchor = insert(key, sample)
            inserted.append(dict(key=key, anchor=anchor, rows=memory.bank[anchor].clone()))
            return anchor

        memory.insert = watched

    def watch_knn(runner):
        (hook,) = (hook for hook in runner.hooks if type(hook).__name__ == 'KNNEvalHook')
        knn.append(hook.evaluate(runner))

    runner.register_hook(Watch('before_train', watch_keys))
    runner.register_hook(Watch('after_train_epoch', watch_knn))
    runner.train()
    model = unwrap(runner.model)
    return dict(
        state=model.state_dict(),
        ids=steps.ids,
        query=steps.query,
        before=steps.before,
        after=steps.after,
        inserted=inserted,
        knn=knn,
        end=snapshot(model),
    )


def train_clusters(images: Path, work_dir: Path, **changes) -> dict:
    """Train InterCLR with a queue; give its state after every step, and the batches."""
    hook = dict(
        type='OnlineClusterHook',
        extract_dataloader=toy.loader(images, batch_size=5),
        centroid_interval=2,
        repair_interval=2,
    )
    runner = toy.build_runner(
        images,
        work_dir,
        model=toy.interclr_config('MomentumInterCLR'),
        train_dataloader=toy.loader(images, views=toy.VIEWS, num_views=2, batch_size=4),
        custom_hooks=[dict(type='EpochSeedHook'), hook],
        **changes,
    )
    steps, keys = [], []

    def written(runner, data_batch, **_):
        model = unwrap(runner.model)
        steps.append(
            dict(
                ids=ids_of(data_batch),
                key=keys[-1],
                branch={k: v.clone() for k, v in model.branch.state_dict().items()},
                queue={k: v.clone() for k, v in model.queue.state_dict().items()},
            )
        )

    runner.register_hook(
        Watch('before_train', lambda r: record_staged(unwrap(r.model).branch.memory, keys))
    )
    runner.register_hook(Watch('after_train_iter', written))
    runner.train()
    return steps


def features(images: Path) -> torch.Tensor:
    """Features of 21 images by a network of which all processes have the same."""
    torch.manual_seed(0)
    model = toy.build_model(toy.model_config())
    config = toy.loader(images, batch_size=4)
    config['dataset']['indices'] = 21
    return extract_features(
        model, toy.build_loader(config), lambda model, inputs: model.embed(inputs[0])
    )


def repaired() -> dict:
    """Clusters of which one is small by the labels of the second rank alone."""
    memory = toy.build_model(toy.interclr_config()).branch.memory
    memory.fit(24)
    memory.labels.copy_(torch.arange(24) % 4)
    if distributed.get_rank():
        memory.labels[memory.labels == 3] = 0
    found = memory.repair()
    return dict(found=found, labels=memory.labels, centroids=memory.centroids)


def scenarios(folder: Path, images: Path, odd: Path) -> dict:
    """Train in one of the processes; return what the tests compare."""
    return dict(
        even=train(images, folder / 'even', 4, **OPTIONS),
        odd=train(odd, folder / 'odd', 4, **OPTIONS),
        bfloat16=train(images, folder / 'bfloat16', 4, dtype='bfloat16', **OPTIONS),
        queue=train(odd, folder / 'queue', 4, momentum=True, **OPTIONS),
        features=features(images),
        clusters=train_clusters(odd, folder / 'clusters', **OPTIONS),
        repaired=repaired(),
    )


@pytest.fixture(scope='module')
def ranks(images, odd_images, tmp_path_factory):
    return run_ranks(scenarios, tmp_path_factory.mktemp('ranks'), images, odd_images)


@pytest.mark.parametrize('scenario', ['even', 'odd', 'queue', 'bfloat16'])
def test_all_state_is_the_same_on_every_rank(ranks, scenario):
    first, second = (rank[scenario]['state'] for rank in ranks)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    for name in ('bank', 'neighbours'):
        for one, other in zip(*(rank[scenario]['after'] for rank in ranks), strict=True):
            assert torch.equal(one[name], other[name])


def test_ranks_see_different_images(ranks):
    for one, other in zip(*(rank['even']['ids'] for rank in ranks), strict=True):
        assert len(one) == len(other) == 4 and not set(one.tolist()) & set(other.tolist())


def test_the_memory_is_written_from_every_rank(ranks):
    """Images that a sampler repeats are written once, with the lowest rank's feature."""
    runs = [rank['odd'] for rank in ranks]
    repeated = 0
    for step, before in enumerate(runs[0]['before']):
        ids = torch.cat([run['ids'][step] for run in runs])
        query = torch.cat([run['query'][step] for run in runs])
        repeated += len(ids) - len(ids.unique())
        bank, neighbours = before['bank'].clone(), before['neighbours'].clone()
        for position in range(len(ids) - 1, -1, -1):  # The first is written last.
            row, one = ids[position], query[position]
            bank[row] = F.normalize(0.5 * before['bank'][row] + 0.5 * one, dim=0)
            similarity = before['bank'].double() @ one.double()
            similarity[row] = -9
            neighbours[row] = similarity.topk(2).indices
        after = runs[0]['after'][step]
        torch.testing.assert_close(after['bank'], bank)
        assert torch.equal(after['neighbours'].sort(1)[0], neighbours.sort(1)[0])
    visits = [int(i) for run in runs for ids in run['ids'][:3] for i in ids]
    assert len(visits) == 22 and set(visits) == set(range(21))
    assert repeated <= 2  # One in each epoch, if it is in the batch of its image.


def test_a_run_equals_that_of_one_process_with_the_whole_batch(ranks, images, tmp_path):
    """Losses and gradients of the ranks average to those of the concatenated batch."""
    single = train(images, tmp_path, 8)
    double = [rank['even'] for rank in ranks]
    for step, ids in enumerate(single['ids']):
        both = torch.cat([run['ids'][step] for run in double])
        assert sorted(both.tolist()) == sorted(ids.tolist())
    # The first step is exact but for the order of sums; the rest follows from it.
    for name in ('bank', 'weight'):
        tolerance = dict(atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            double[0]['after'][0][name], single['after'][0][name], **tolerance
        )
        torch.testing.assert_close(double[0]['end'][name], single['end'][name], **tolerance)
    assert torch.equal(
        double[0]['after'][0]['neighbours'].sort(1)[0], single['after'][0]['neighbours'].sort(1)[0]
    )
    assert (single['end']['weight'] - single['before'][0]['weight']).abs().max() > 1e-2


def test_evaluation_is_the_same_on_every_rank_and_in_one_process(ranks, images, tmp_path):
    knn = [rank['even']['knn'] for rank in ranks]
    assert knn[0] == knn[1]
    assert knn[0] == train(images, tmp_path, 8)['knn']


def test_features_of_two_ranks_equal_those_of_one(ranks, images):
    found = features(images)
    assert found.shape == (21, toy.DIM)
    for rank in ranks:
        torch.testing.assert_close(rank['features'], found)


def test_anchors_are_the_slots_of_the_ranks_own_keys(ranks):
    runs = [rank['queue']['inserted'] for rank in ranks]
    assert len(runs[0]) == len(runs[1]) == 6
    pointer = 0
    for first, second in zip(*runs, strict=True):
        for each in (first, second):
            assert torch.equal(each['rows'], each['key'])
        anchors = torch.cat([first['anchor'], second['anchor']])
        assert anchors.tolist() == [(pointer + i) % 20 for i in range(len(anchors))]
        pointer = (pointer + len(anchors)) % 20
    assert ranks[0]['queue']['state']['memory.pointer'] == pointer == 4


def test_neighbours_in_the_queue_are_those_of_every_ranks_queries(ranks):
    """For the last step, whose slots were not overwritten."""
    runs = [rank['queue'] for rank in ranks]
    bank, neighbours = runs[0]['end']['bank'], runs[0]['end']['neighbours']
    for run in runs:
        anchor, query = run['inserted'][-1]['anchor'], run['query'][-1]
        expected = ops.top_m(query, bank, 2, exclude=anchor)[1]
        assert torch.equal(neighbours[anchor].sort(1)[0], expected.sort(1)[0])


def test_clusters_are_the_same_on_every_rank(ranks):
    first, second = (rank['clusters'] for rank in ranks)
    assert len(first) == len(second) == 6
    for one, other in zip(first, second, strict=True):
        assert not torch.equal(one['ids'], other['ids'])
        for part in ('branch', 'queue'):
            for name, value in one[part].items():
                assert torch.equal(value, other[part][name]), name


def test_a_repair_ends_alike_though_only_one_rank_found_something(ranks):
    first, second = (rank['repaired'] for rank in ranks)
    assert (first['found'], second['found']) == (0, 1)
    assert first['labels'].tolist() == [0, 1, 2, 3] * 6
    for name in ('labels', 'centroids'):
        assert torch.equal(first[name], second[name])


def test_clusters_and_queue_take_the_keys_of_every_rank(ranks):
    runs = [rank['clusters'] for rank in ranks]
    for before, *after in zip(runs[0], *(run[1:] for run in runs), strict=False):
        ids = torch.cat([step['ids'] for step in after])
        key = torch.cat([step['key'] for step in after])
        bank = before['branch']['memory.bank'].clone()
        for row, one in reversed(list(zip(ids, key, strict=True))):
            bank[row] = F.normalize(0.5 * before['branch']['memory.bank'][row] + 0.5 * one, dim=0)
        torch.testing.assert_close(after[0]['branch']['memory.bank'], bank)
        pointer = int(before['queue']['pointer'])
        slots = (pointer + torch.arange(len(key))) % 20
        assert torch.equal(after[0]['queue']['bank'][slots], key)
    assert pointer
