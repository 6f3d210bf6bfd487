"""Two processes, each with running statistics of its own: evaluated is what is saved."""

from pathlib import Path

import pytest
import torch
from torch import distributed

from mmselfsup_invp.engine.hooks.common import unwrap
from mmselfsup_invp.evaluation import extract_features

from .. import toy
from .processes import OPTIONS, run_ranks
from .recording import Watch

pytestmark = pytest.mark.slow  # Two processes are started.

# Norm layers count in training, unlike those of the other distributed tests.
MODELS = dict(
    InvP=toy.model_config(),
    MomentumInvP=toy.model_config('MomentumInvP', memory=dict(length=20)),
    InterCLR=toy.interclr_config(),
)
MEMORY_HOOK = dict(type='PropagationMemoryHook', ramp='constant')


def trained(images: Path, work_dir: Path, name: str, *hooks: dict, watch: Watch | None = None):
    """The model after two epochs, in one of the processes."""
    views = 1 + (name == 'MomentumInvP')
    runner = toy.build_runner(
        images,
        work_dir,
        model=MODELS[name],
        train_dataloader=toy.loader(images, views=toy.VIEWS, num_views=views, batch_size=4),
        custom_hooks=[dict(type='EpochSeedHook'), *hooks],
        **OPTIONS,
    )
    if watch:
        runner.register_hook(watch)
    runner.train()
    return unwrap(runner.model)


def embed(model, inputs):
    return model.embed(inputs[0])


def images_of(folder: Path):
    return toy.build_loader(toy.loader(folder, batch_size=4))


def state(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def extract(images: Path, work_dir: Path, name: str) -> dict:
    """Features of every kind, with the state of the network around them."""
    model, loader = trained(images, work_dir, name, MEMORY_HOOK), images_of(images)
    after_training = state(model)
    # The pixels themselves, so that no batch enters the statistics.
    extract_features(
        model, loader, lambda _, inputs: inputs[0].flatten(1), training=True, main_only=True
    )
    own = state(model)
    model.memory.bank.add_(distributed.get_rank())  # Were it sent, the banks would be alike again.
    return dict(
        trained=after_training,
        own=own,
        extracted=extract_features(model, loader, embed),
        collected=extract_features(model, loader, embed, main_only=True),
        after=state(model),
    )


def watched(images: Path, work_dir: Path) -> dict:
    """State after a run that was evaluated after every epoch."""
    queries = toy.loader(images, 'test', batch_size=4)
    knn = dict(type='KNNEvalHook', query_dataloader=queries, k=5)
    return state(trained(images, work_dir, 'InvP', MEMORY_HOOK, knn))


def clustered(images: Path, work_dir: Path) -> dict:
    """State when all images were just clustered anew, after one epoch."""
    extraction = toy.loader(images, batch_size=4)
    hook = dict(type='OnlineClusterHook', extract_dataloader=extraction, offline_interval=1)
    found = {}
    watch = Watch('before_train_epoch', lambda runner: found.update(state(unwrap(runner.model))))
    trained(images, work_dir, 'InterCLR', hook, watch=watch)
    return found


def scenarios(folder: Path, images: Path) -> dict:
    """What one of the processes keeps for the tests."""
    return dict(
        InvP=extract(images, folder / 'InvP', 'InvP'),
        MomentumInvP=extract(images, folder / 'MomentumInvP', 'MomentumInvP'),
        watched=watched(images, folder / 'watched'),
        clusters=clustered(images, folder / 'clusters'),
    )


@pytest.fixture(scope='module')
def ranks(images, tmp_path_factory):
    return run_ranks(scenarios, tmp_path_factory.mktemp('ranks'), images)


def parts(of: dict, *, running: bool) -> dict[str, torch.Tensor]:
    """The running statistics in a state, or the rest of it."""
    return {name: value for name, value in of.items() if ('.running_' in name) == running}


def alike(one: dict, other: dict) -> list[bool]:
    assert one and one.keys() == other.keys()
    return [torch.equal(value, other[name]) for name, value in one.items()]


def features_by(saved: dict, images: Path) -> torch.Tensor:
    """What one process extracts with the network of a checkpoint."""
    model = toy.build_model(toy.model_config())
    network = {k: v for k, v in saved.items() if k.startswith(('backbone.', 'neck.'))}
    assert not model.load_state_dict(network, strict=False).unexpected_keys
    return extract_features(model, images_of(images), embed)


@pytest.mark.parametrize('name', ['InvP', 'MomentumInvP'])
def test_what_is_evaluated_is_the_network_that_is_saved(ranks, images, name):
    first, second = (rank[name] for rank in ranks)
    expected = features_by(first['own'], images)
    for found in (first['extracted'], second['extracted'], first['collected']):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    # The networks of the two processes differ.
    assert (features_by(second['own'], images) - expected).abs().max() > 1e-3


@pytest.mark.parametrize('name', ['InvP', 'MomentumInvP'])
def test_all_ranks_take_over_the_statistics_of_the_first(ranks, name):
    own, *after = (
        parts(each, running=True)
        for each in (ranks[0][name]['own'], ranks[0][name]['after'], ranks[1][name]['after'])
    )
    assert not any(alike(own, parts(ranks[1][name]['own'], running=True)))
    assert all(alike(own, after[0]) + alike(own, after[1]))
    encoders = {key.split('.')[0] for key in own}
    assert ('key_encoder' in encoders) == (name == 'MomentumInvP')


def test_nothing_else_is_sent(ranks):
    for rank, run in enumerate(each['InvP'] for each in ranks):
        own, after = (parts(run[when], running=False) for when in ('own', 'after'))
        assert torch.equal(after.pop('memory.bank'), own.pop('memory.bank') + rank)
        assert all(alike(own, after))


def test_in_training_mode_every_rank_keeps_its_own(ranks):
    before, after = ([rank['InvP'][when] for rank in ranks] for when in ('trained', 'own'))
    for one, other in zip(before, after, strict=True):
        assert all(alike(one, other))
    assert not any(alike(*(parts(each, running=True) for each in after)))


def test_training_goes_on_as_without_an_evaluation(ranks):
    """All that is saved, which is the first rank's, and the weights and memory of the other."""
    assert all(alike(ranks[0]['watched'], ranks[0]['InvP']['trained']))
    rest = (parts(run, running=False) for run in (ranks[1]['watched'], ranks[1]['InvP']['trained']))
    assert all(alike(*rest))


def test_clusters_are_those_of_the_network_that_is_saved(ranks, images):
    saved = ranks[0]['clusters']
    labels = saved['branch.memory.labels']
    assert torch.equal(labels, ranks[1]['clusters']['branch.memory.labels'])
    memory = toy.build_model(toy.interclr_config()).branch.memory
    memory.fit(24)
    memory.cluster(features_by(saved, images))
    assert torch.equal(memory.labels, labels)
    torch.testing.assert_close(memory.centroids, saved['branch.memory.centroids'])
