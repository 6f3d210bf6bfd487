import pytest

from mmselfsup_invp.evaluation import read_run

from .. import toy


@pytest.fixture(scope='package')
def trained(tmp_path_factory):
    """An InvP run of one epoch, its model and its images."""
    root = tmp_path_factory.mktemp('trained')
    images = toy.image_folder(root / 'images')
    knn = dict(type='KNNEvalHook', query_dataloader=toy.loader(images, 'test'), k=3)
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1), knn=knn)
    runner = toy.build_runner(images, root / 'work', 1, default_hooks=hooks)
    runner.train()
    return read_run(root / 'work'), runner.model, images
