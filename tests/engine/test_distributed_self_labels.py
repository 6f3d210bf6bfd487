"""Labels of SeLa on two processes equal those of one."""

import pytest
import torch

from mmselfsup_invp.engine.hooks.common import unwrap
from mmselfsup_invp.evaluation import extract_features

from .. import toy
from .processes import OPTIONS, run_ranks
from .recording import Watch, ids_of
from .test_self_label_hook import DROPOUT, eval_mode, train

pytestmark = pytest.mark.slow  # Two processes are started.

# Statistics of a batch play no part.
FROZEN = dict(backbone=dict(norm_eval=True))


def scenario(images, work_dir, hook, **changes):
    """Labels after every event, how often each image came, and the features of one pass."""
    seen, ids = [], []
    note = Watch(
        'before_train_iter',
        lambda r, data_batch, **_: (
            seen.append(unwrap(r.model).memory.labels.clone()),
            ids.append(ids_of(data_batch)),
        ),
    )
    runner = train(images, work_dir, note, epochs=2, hook=hook, **changes)
    loader = toy.build_loader(toy.loader(images, 'train', batch_size=4))
    feature = extract_features(runner.model, loader, embed, main_only=True)
    expected = extract_features(runner.model, loader, embed)
    return dict(labels=seen, ids=ids, feature=feature, expected=expected)


def embed(model, inputs):
    return model.embed(inputs[0])


def scenarios(folder, odd):
    options = dict(**OPTIONS, train_dataloader=toy.loader(odd, views=toy.VIEWS, batch_size=4))
    return dict(
        train=scenario(odd, folder / 'train', {}, model=DROPOUT, **options),
        eval=scenario(odd, folder / 'eval', eval_mode(odd), model=FROZEN, **options),
    )


@pytest.fixture(scope='module')
def ranks(odd_images, tmp_path_factory):
    return run_ranks(scenarios, tmp_path_factory.mktemp('ranks'), odd_images)


@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_labels_are_the_same_on_every_rank(ranks, mode):
    runs = [rank[mode] for rank in ranks]
    assert len(runs[0]['labels']) == 6
    for one, other in zip(*(run['labels'] for run in runs), strict=True):
        assert torch.equal(one, other) and one.shape == (21, 2)
    assert not torch.equal(runs[0]['labels'][0], runs[0]['labels'][-1])
    for one, other in zip(*(run['ids'] for run in runs), strict=True):
        assert len(set(one.tolist()) & set(other.tolist())) <= 1  # The image that pads.


def test_features_are_collected_on_the_main_process_alone(ranks):
    found = ranks[0]['eval']
    assert found['feature'].shape == (21, 16)
    torch.testing.assert_close(found['feature'], found['expected'])
    assert ranks[1]['eval']['feature'] is None


def test_labels_of_two_ranks_equal_those_of_one(ranks, odd_images, tmp_path):
    """The first event, before rounding in the training steps sets the networks apart."""
    single = scenario(
        odd_images,
        tmp_path,
        eval_mode(odd_images),
        model=FROZEN,
        train_dataloader=toy.loader(odd_images, views=toy.VIEWS, batch_size=8),
    )
    assert torch.equal(single['labels'][0], ranks[0]['eval']['labels'][0])
