import shutil

import pytest
import torch

from mmselfsup_invp.evaluation import extract_features, read_run
from mmselfsup_invp.ops import knn_graph
from mmselfsup_invp.visualization import ReportOptions
from mmselfsup_invp.visualization.blocks import ImagesUnavailable, Unavailable
from mmselfsup_invp.visualization.images import find_data_root
from mmselfsup_invp.visualization.run_data import RunData, is_graph

from .. import toy


def test_the_network_is_that_of_the_run(trained):
    run, model, images = trained
    data = RunData(run, ReportOptions())
    loader = toy.build_loader(toy.loader(images))
    expected = extract_features(model, loader, lambda model, inputs: model.embed(inputs[0]))
    torch.testing.assert_close(data.embedding, expected)
    assert data.gallery.label.tolist() == [n % 3 for n in range(24)]
    assert data.gallery.path(5).endswith('train/005.png')
    assert data.queries.path(5).endswith('test/005.png') and len(data.query_backbone) == 12
    torch.testing.assert_close(data.backbone.norm(dim=1), torch.ones(24))


def test_the_graph_is_that_of_the_checkpoint(trained):
    run, model, _ = trained
    neighbours, words = RunData(run, ReportOptions()).graph
    assert torch.equal(neighbours, model.memory.neighbours) and 'checkpoint' in words


def test_of_some_images_the_graph_is_built(trained):
    run, _, _ = trained
    data = RunData(run, ReportOptions(max_images=10, anchors=(7, 23)))
    number = data.gallery.index
    assert len(number) == 10 and (number.diff() > 0).all()
    assert number[data.anchors].tolist() == [7, 23]
    assert data.gallery.path(data.anchors[0]).endswith('train/007.png')
    assert data.gallery.label.tolist() == (number % 3).tolist()
    whole = RunData(run, ReportOptions())
    torch.testing.assert_close(data.embedding, whole.embedding[number])
    neighbours, words = data.graph
    assert torch.equal(neighbours, knn_graph(data.embedding, 2)) and '2 nearest' in words


def test_anchors_are_drawn_by_the_seed(trained):
    run, _, _ = trained
    first, again, other = (RunData(run, ReportOptions(seed=seed)).anchors for seed in (0, 0, 1))
    assert first == again != other and len(set(first)) == 4


@pytest.mark.parametrize('anchor', [-1, 24])
def test_an_anchor_outside_the_data_set_is_refused(trained, anchor):
    with pytest.raises(ValueError, match=f'anchor {anchor} is outside the valid range 0 to 23'):
        _ = RunData(trained[0], ReportOptions(anchors=(3, anchor))).anchors


def test_images_that_have_moved_are_found(trained, tmp_path):
    run, _, images = trained
    run.config.train_dataloader.dataset.data_root = 'nowhere'
    try:
        with pytest.raises(ImagesUnavailable, match='cannot be loaded .*--data'):
            _ = RunData(run, ReportOptions()).gallery
        moved = RunData(run, ReportOptions(data_root=str(images)))
        assert len(moved.gallery.index) == 24
    finally:
        run.config.train_dataloader.dataset.data_root = str(images)


def test_a_relative_data_root_is_found_beside_the_work_folder(tmp_path, monkeypatch):
    run = tmp_path / 'repo' / 'work_dirs' / 'invp'
    run.mkdir(parents=True)
    (tmp_path / 'repo' / 'data').mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_data_root('data', run) == str(tmp_path / 'repo' / 'data')
    assert find_data_root('other', run) == 'other' and find_data_root('', run) == ''
    (tmp_path / 'data').mkdir()  # The current folder comes first, as in training.
    assert find_data_root('data', run) == 'data'


def test_file_names_are_relative_and_printable(trained):
    images = RunData(trained[0], ReportOptions()).gallery
    assert images.file_name(5) == '005.png'
    dataset = images.loader.dataset
    dataset.get_data_info = lambda row: dict(img_path='/elsewhere/caf\udce9.png')
    assert images.file_name(5) == r'/elsewhere/caf\xe9.png'


@pytest.mark.parametrize('num_workers', [0, 1])
def test_a_missing_image_is_named(trained, tmp_path, num_workers):
    run, _, images = trained
    shutil.copytree(images, tmp_path / 'images')
    (tmp_path / 'images' / 'train' / '007.png').unlink()
    data = RunData(run, ReportOptions(data_root=str(tmp_path / 'images')))
    run.config.train_dataloader.num_workers = num_workers
    try:
        with pytest.raises(
            ImagesUnavailable, match='Cannot read the image .*train/007.png'
        ) as caught:
            _ = data.embedding
        assert '\n' not in str(caught.value)
    finally:
        run.config.train_dataloader.num_workers = 0


def test_a_repeated_data_set_is_unwrapped(trained):
    run, _, images = trained
    plain = run.config.train_dataloader.dataset
    run.config.train_dataloader.dataset = dict(type='RepeatDataset', dataset=plain, times=3)
    try:
        assert RunData(run, ReportOptions()).gallery.total == 24
    finally:
        run.config.train_dataloader.dataset = plain


def test_a_queue_shorter_than_configured(images, tmp_path):
    """Training shortens the queue to the data set; a new model has the length in the config."""
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
    data = RunData(read_run(tmp_path), ReportOptions())
    assert data.embedding.shape == (24, toy.DIM)
    # Rows of a queue are not images.
    assert torch.equal(data.graph[0], knn_graph(data.embedding, 2))
    with pytest.raises(Unavailable, match='no KNNEvalHook'):
        _ = data.queries


def test_a_checkpoint_of_another_network_is_refused(trained):
    run, _, _ = trained
    state = {name: value for name, value in run.state.items() if not name.startswith('neck')}
    changed = RunData(run.__class__(**{**vars(run), 'state': state}), ReportOptions())
    with pytest.raises(ValueError, match='epoch_1.pth has no weights of the right shape for'):
        _ = changed.model


@pytest.mark.parametrize(
    ('neighbours', 'valid'),
    [
        (torch.tensor([[1, -1], [0, 1]]), True),
        (torch.tensor([[1, 2], [0, 1]]), False),  # There is no row 2.
        (torch.tensor([[1, -2], [0, 1]]), False),
        (torch.tensor([[1], [0], [0]]), False),
        (torch.tensor([1, 0]), False),
        (torch.ones(2, 2), False),
        (torch.tensor(1), False),
    ],
)
def test_a_graph_links_existing_rows(neighbours, valid):
    assert is_graph(neighbours, rows=2) == valid
