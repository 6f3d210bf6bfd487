import gc
import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.runner import Runner

from mmselfsup_invp.engine.hooks import KNNEvalHook, knn_eval_hook

from .. import toy
from .methods import changes
from .recording import Watch, log_text, scalars


def hook_config(images, gallery=('bank', 'backbone'), **options):
    return dict(
        type='KNNEvalHook',
        gallery=gallery,
        query_dataloader=toy.loader(images, 'test', batch_size=5),
        gallery_dataloader=toy.loader(images, 'train', batch_size=7),
        **{'k': 7, 'temperature': 0.1, **options},
    )


def runner_of(images, work_dir, epochs=2, hook=None, **changes):
    hooks = [
        dict(type='EpochSeedHook'),
        hook or hook_config(images),
        dict(type='PropagationMemoryHook', ramp='constant'),
    ]
    return toy.build_runner(images, work_dir, epochs, custom_hooks=hooks, **changes)


def knn_hook(runner):
    (hook,) = (hook for hook in runner.hooks if type(hook) is KNNEvalHook)
    return hook


def features_of(model, images, split, embed):
    """Features of a split's images, one at a time, in float64, with their labels."""
    model.eval()
    dataset = toy.build_dataset(toy.loader(images, split)['dataset'])
    rows = []
    for item in dataset:
        image = (item['inputs'][0][[2, 1, 0]].float()[None] - 127.5) / 127.5
        rows.append(embed(model, image)[0].detach().double())
    labels = [int(dataset.get_data_info(i)['gt_label']) for i in range(len(dataset))]
    return torch.stack(rows), labels


def embedding(model, image):
    return F.normalize(model.neck(model.backbone(image))[0])


def pooled(model, image):
    return F.normalize(model.backbone(image)[0].mean(dim=(2, 3)))


def accuracy(query, truth, gallery, label, k, temperature):
    """The weighted vote as loops; also how close the closest vote was."""
    hits, margin = 0, 1.0
    for one, own in zip(query, truth, strict=True):
        similarity = [float(one @ other) for other in gallery]
        nearest = sorted(range(len(gallery)), key=lambda i: -similarity[i])[:k]
        votes = [0.0] * 3
        for i in nearest:
            votes[label[i]] += math.exp(similarity[i] / temperature)
        ranked = sorted(votes)
        margin = min(margin, 1 - ranked[-2] / ranked[-1])
        hits += votes.index(ranked[-1]) == own
    return 100 * hits / len(truth), margin


def test_accuracy_of_both_galleries_equals_loops(images, tmp_path):
    runner = runner_of(images, tmp_path)
    runner.train()
    metrics = scalars(tmp_path, 'knn')
    assert list(metrics) == [1, 2]
    bank = runner.model.memory.bank.double()
    query, truth = features_of(runner.model, images, 'test', embedding)
    labels = [i % 3 for i in range(24)]
    expected, margin = accuracy(query, truth, bank, labels, 7, 0.1)
    assert margin > 1e-5
    assert metrics[2]['knn/bank_k7_t0.1'] == pytest.approx(expected, abs=1e-4)

    query, truth = features_of(runner.model, images, 'test', pooled)
    gallery, labels = features_of(runner.model, images, 'train', pooled)
    expected, margin = accuracy(query, truth, gallery, labels, 7, 0.1)
    assert margin > 1e-5
    assert metrics[2]['knn/backbone_k7_t0.1'] == pytest.approx(expected, abs=1e-4)
    assert len(metrics[2]) == 2
    assert 'Epoch(knn) [2]  bank_k7_t0.1: ' in log_text(tmp_path)


def test_the_bank_of_the_whole_epoch_is_the_gallery(images, tmp_path, monkeypatch):
    """Though the hook stands before the memory's in the config."""
    galleries = []

    def watched(query, query_label, gallery, *others):
        galleries.append(gallery.clone())
        return 0.0

    monkeypatch.setattr(knn_eval_hook, 'knn_accuracy', watched)
    config = hook_config(images, gallery='bank')
    memory = dict(update='epoch')
    runner = runner_of(images, tmp_path, epochs=1, hook=config, model=dict(memory=memory))
    runner.train()
    (gallery,) = galleries
    assert torch.equal(gallery, runner.model.memory.bank)


def test_k_is_lowered_to_the_gallery(images, tmp_path):
    runner = runner_of(images, tmp_path, 1, hook_config(images, k=200, temperature=0.07))
    runner.train()
    assert set(scalars(tmp_path, 'knn')[1]) == {
        'knn/bank_k24_t0.07',
        'knn/backbone_k24_t0.07',
    }


@pytest.mark.parametrize(('interval', 'epochs'), [(1, [1, 2, 3]), (2, [2, 3]), (9, [3])])
def test_the_last_epoch_is_always_evaluated(images, tmp_path, interval, epochs):
    runner = runner_of(images, tmp_path, 3, hook_config(images, 'bank', interval=interval))
    runner.train()
    assert list(scalars(tmp_path, 'knn')) == epochs


def test_modes_come_back(images, tmp_path):
    runner = runner_of(images, tmp_path, model=dict(backbone=dict(norm_eval=True)))
    modes = []

    def watch(runner):
        modes.append({name: m.training for name, m in runner.model.named_modules()})

    runner.register_hook(Watch('after_train_epoch', watch, 'ABOVE_NORMAL'))
    runner.register_hook(Watch('after_train_epoch', watch))
    runner.train()
    assert modes[0] == modes[1]
    assert set(modes[0].values()) == {True, False}  # Norms in eval mode, the others not.


def test_the_run_goes_on_as_without_it(images, tmp_path):
    watched = runner_of(images, tmp_path / 'watched').train().state_dict()
    bare = toy.build_runner(images, tmp_path / 'bare').train().state_dict()
    assert all(torch.equal(watched[name], bare[name]) for name in bare)


def test_nothing_is_left_behind(images, tmp_path):
    runner = runner_of(images, tmp_path, epochs=1)
    runner.train()
    hook = knn_hook(runner)

    def tensors():
        gc.collect()
        found = [item for item in gc.get_objects() if isinstance(item, torch.Tensor)]
        return len(found), sum(item.numel() for item in found)

    before = tensors()
    for _ in range(2):
        hook.evaluate(runner)
    assert tensors() == before


@pytest.mark.parametrize('ann_file', toy.NOT_ONE_LABEL)
@pytest.mark.parametrize('unlabelled', ['gallery', 'queries'])
def test_without_labels_it_says_so_once(images, tmp_path, unlabelled, ann_file):
    config = hook_config(images, 'bank')
    changes = {}
    if unlabelled == 'gallery':
        changes['train_dataloader'] = toy.loader(images, views=toy.VIEWS, ann_file=ann_file)
    else:
        config['query_dataloader'] = toy.loader(images, 'train', ann_file=ann_file)
    runner_of(images, tmp_path, 3, config, **changes).train()
    assert scalars(tmp_path, 'knn') == {}
    assert log_text(tmp_path).count('kNN evaluation is skipped: it needs one label') == 1


def first_step(*_, **__):
    raise AssertionError('The first training step was reached.')


@pytest.mark.parametrize(
    ('name', 'found'), [('MomentumInvP', 'PropagationQueue'), ('SeLa', 'SelfLabelMemory')]
)
def test_a_memory_without_a_feature_of_every_image_is_no_gallery(images, tmp_path, name, found):
    config = changes(name, images)
    config['custom_hooks'].append(hook_config(images, 'bank'))
    runner = toy.build_runner(images, tmp_path, 1, **config)
    runner.register_hook(Watch('before_train', first_step))
    message = f"a feature of every image, {name} has {found}. Use gallery='backbone'"
    with pytest.raises(ValueError, match=message):
        runner.train()


@pytest.mark.parametrize('name', ['query_dataloader', 'gallery_dataloader'])
def test_a_missing_list_is_an_error_before_training(images, tmp_path, name):
    config = hook_config(images)
    config[name]['dataset']['ann_file'] = 'meta/none.txt'
    runner = runner_of(images, tmp_path, hook=config)
    runner.register_hook(Watch('before_train', first_step))
    with pytest.raises(FileNotFoundError, match='meta/none.txt'):
        runner.train()


def test_a_gallery_of_other_images_is_an_error_before_training(images, tmp_path):
    config = hook_config(images)
    config['gallery_dataloader']['dataset']['indices'] = 20
    runner = runner_of(images, tmp_path, hook=config)
    runner.register_hook(Watch('before_train', first_step))
    with pytest.raises(ValueError, match="gallery 'backbone' has 20 rows, .* lists 24 images"):
        runner.train()


@pytest.mark.parametrize('disabled', [False, True])
def test_none_disables_the_hook_of_a_config(images, tmp_path, disabled):
    """As in ``--cfg-options default_hooks.knn=None``; the hooks of MMEngine likewise."""
    config = toy.runner_config(images, tmp_path, 1, default_hooks=dict(knn=hook_config(images)))
    if disabled:
        config.merge_from_dict({'default_hooks.knn': None, 'default_hooks.timer': None})
    hooks = [type(hook).__name__ for hook in Runner.from_cfg(config).hooks]
    assert ('KNNEvalHook' not in hooks) == ('IterTimerHook' not in hooks) == disabled
    assert 'CheckpointHook' in hooks


def evaluator(images, work_dir, listed=24, rows=24, **options):
    """The hook and a runner as ``tools/test.py`` has them: no run has sized the bank."""
    config = hook_config(images, **options)
    config['gallery_dataloader']['dataset']['indices'] = 24
    loader = toy.loader(images, views=toy.VIEWS)
    loader['dataset']['indices'] = listed
    runner = runner_of(images, work_dir, hook=config, train_dataloader=loader)
    if rows:
        runner.model.memory.resize(rows)
    return knn_hook(runner), runner


@pytest.fixture(scope='module')
def many_images(tmp_path_factory):
    """30 images, to list fewer of."""
    return toy.image_folder(tmp_path_factory.mktemp('many') / 'images', images=30)


@pytest.mark.parametrize('listed', [20, 30])
def test_a_checkpoint_of_other_data_is_refused(many_images, tmp_path, listed):
    """With more labels than rows each image would have the label of another."""
    hook, runner = evaluator(many_images, tmp_path, listed, gallery='bank')
    message = f"gallery 'bank' has 24 rows, train_dataloader lists {listed} images.*checkpoint"
    with pytest.raises(ValueError, match=message):
        hook.evaluate(runner)


@pytest.mark.parametrize('listed', [20, 30])
def test_a_gallery_of_other_images_is_refused(many_images, tmp_path, listed):
    hook, runner = evaluator(many_images, tmp_path, listed, rows=listed, gallery='backbone')
    message = f"gallery 'backbone' has 24 rows, .* lists {listed} images.*gallery_dataloader"
    with pytest.raises(ValueError, match=message):
        hook.evaluate(runner)


def test_an_empty_bank_is_left_out_with_a_warning(images, tmp_path):
    hook, runner = evaluator(images, tmp_path / 'empty', rows=0)
    found = hook.evaluate(runner)
    assert list(found) == ['backbone_k7_t0.1']
    assert "The bank is empty: gallery 'bank' is left out" in log_text(tmp_path / 'empty')
    hook, runner = evaluator(images, tmp_path / 'alone', gallery='backbone')
    assert hook.evaluate(runner) == found
    assert 'left out' not in log_text(tmp_path / 'alone')


def test_an_empty_bank_alone_is_an_error(images, tmp_path):
    hook, runner = evaluator(images, tmp_path, rows=0, gallery='bank')
    with pytest.raises(ValueError, match="The bank is empty.*Load a checkpoint.*'backbone'"):
        hook.evaluate(runner)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (
            dict(gallery='neck'),
            "gallery = 'neck' is not valid. It must be one of 'bank', 'backbone'",
        ),
        (dict(gallery=['bank', 'neck']), r"gallery = \['bank', 'neck'\] is not valid"),
        (dict(gallery='backbone'), "gallery='backbone' needs gallery_dataloader"),
        (dict(k=0), 'k = 0 is not valid'),
        (dict(interval=0), 'interval = 0 is not valid'),
        (dict(temperature=0), 'temperature = 0 is not valid'),
        (dict(temperature=-1), 'temperature = -1 is not valid'),
    ],
)
def test_wrong_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        KNNEvalHook(query_dataloader={}, **option)
