import shutil

import pytest
import torch

from mmselfsup_invp.evaluation import extract_features, read_run
from mmselfsup_invp.ops import knn_graph
from mmselfsup_invp.visualization.blocks import Absent
from mmselfsup_invp.visualization.source import Options, Source

from .. import toy


def test_the_network_is_that_of_the_run(trained):
    run, model, images = trained
    source = Source(run, Options())
    loader = toy.build_loader(toy.loader(images))
    expected = extract_features(model, loader, lambda model, inputs: model.embed(inputs[0]))
    torch.testing.assert_close(source.embedding, expected)
    assert source.gallery.label.tolist() == [n % 3 for n in range(24)]
    assert source.gallery.path(5).endswith('train/005.png')
    assert source.queries.path(5).endswith('test/005.png') and len(source.query_backbone) == 12
    torch.testing.assert_close(source.backbone.norm(dim=1), torch.ones(24))


def test_the_graph_is_that_of_the_checkpoint(trained):
    run, model, _ = trained
    neighbours, words = Source(run, Options()).graph
    assert torch.equal(neighbours, model.memory.neighbours) and 'checkpoint' in words


def test_of_some_images_the_graph_is_built(trained):
    run, _, _ = trained
    source = Source(run, Options(max_images=10, anchors=(7, 23)))
    number = source.gallery.number
    assert len(number) == 10 and (number.diff() > 0).all()
    assert number[source.anchors].tolist() == [7, 23]
    assert source.gallery.path(source.anchors[0]).endswith('train/007.png')
    assert source.gallery.label.tolist() == (number % 3).tolist()
    whole = Source(run, Options())
    torch.testing.assert_close(source.embedding, whole.embedding[number])
    neighbours, words = source.graph
    assert torch.equal(neighbours, knn_graph(source.embedding, 2)) and '2 nearest' in words


def test_anchors_are_drawn_by_the_seed(trained):
    run, _, _ = trained
    first, again, other = (Source(run, Options(seed=seed)).anchors for seed in (0, 0, 1))
    assert first == again != other and len(set(first)) == 4


@pytest.mark.parametrize('anchor', [-1, 24])
def test_an_anchor_that_is_no_image_is_refused(trained, anchor):
    with pytest.raises(ValueError, match=f'anchor {anchor} is outside the valid range 0 to 23'):
        _ = Source(trained[0], Options(anchors=(3, anchor))).anchors


def test_images_that_have_moved_are_found(trained, tmp_path):
    run, _, images = trained
    run.config.train_dataloader.dataset.data_root = 'nowhere'
    try:
        with pytest.raises(Absent, match='cannot be loaded .*--data'):
            _ = Source(run, Options()).gallery
        moved = Source(run, Options(data_root=str(images)))
        assert len(moved.gallery.number) == 24
    finally:
        run.config.train_dataloader.dataset.data_root = str(images)


@pytest.mark.parametrize('num_workers', [0, 1])
def test_an_image_that_is_gone_is_named(trained, tmp_path, num_workers):
    run, _, images = trained
    shutil.copytree(images, tmp_path / 'images')
    (tmp_path / 'images' / 'train' / '007.png').unlink()
    source = Source(run, Options(data_root=str(tmp_path / 'images')))
    run.config.train_dataloader.num_workers = num_workers
    try:
        with pytest.raises(Absent, match='Cannot read the image .*train/007.png') as caught:
            _ = source.embedding
        assert '\n' not in str(caught.value)
    finally:
        run.config.train_dataloader.num_workers = 0


def test_a_repeated_data_set_is_looked_through(trained):
    run, _, images = trained
    plain = run.config.train_dataloader.dataset
    run.config.train_dataloader.dataset = dict(type='RepeatDataset', dataset=plain, times=3)
    try:
        assert Source(run, Options()).gallery.total == 24
    finally:
        run.config.train_dataloader.dataset = plain


def test_a_queue_shorter_than_configured_is_no_hindrance(images, tmp_path):
    """The run lowers it to its data set; a model built anew has the length of the config."""
    model = toy.model_config('MomentumInvP')
    runner = toy.build_runner(
        images,
        tmp_path,
        1,
        model=model,
        train_dataloader=toy.loader(images, views=toy.VIEWS, num_views=2),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        test_pipeline=toy.loader(images)['dataset']['pipeline'],
    )
    runner.train()
    source = Source(read_run(tmp_path), Options())
    assert source.embedding.shape == (24, toy.DIM)
    # Rows of a queue are not images.
    assert torch.equal(source.graph[0], knn_graph(source.embedding, 2))
    with pytest.raises(Absent, match='no KNNEvalHook'):
        _ = source.queries


def test_a_checkpoint_of_another_network_is_refused(trained):
    run, _, _ = trained
    state = {name: value for name, value in run.state.items() if not name.startswith('neck')}
    changed = Source(run.__class__(**{**vars(run), 'state': state}), Options())
    with pytest.raises(ValueError, match='epoch_1.pth holds no weights for .* parameters of InvP'):
        _ = changed.model
