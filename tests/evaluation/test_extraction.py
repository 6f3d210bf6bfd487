import pytest
import torch
from mmengine.model import MMDistributedDataParallel

from mmselfsup_invp.compat.host import MODELS
from mmselfsup_invp.evaluation import extract_features
from mmselfsup_invp.structures import sample_ids

from .. import toy


def embed(model, inputs):
    return model.embed(inputs[0])


@pytest.fixture
def model():
    model = MODELS.build(toy.model_config())
    model.init_weights()
    return model


def loader_of(images, **changes):
    return toy.build_loader(toy.merged(toy.loader(images, 'test'), changes))


def one_by_one(model, dataset):
    """Features of the images in the order of the data set, straight from the arrays."""
    model.eval()
    rows = []
    for item in dataset:
        image = item['inputs'][0][[2, 1, 0]].float()[None]
        rows.append(model.embed((image - 127.5) / 127.5).detach())
    return torch.cat(rows)


@pytest.mark.parametrize('batch_size', [5, 12])
def test_features_stand_in_the_order_of_the_data_set(images, model, batch_size):
    loader = loader_of(images, batch_size=batch_size, sampler=dict(shuffle=True))
    order = [index for batch in loader for index in sample_ids(batch['data_samples']).tolist()]
    assert order != sorted(order)
    found = extract_features(model, loader, embed)
    assert found.shape == (12, toy.DIM) and not found.requires_grad
    torch.testing.assert_close(found, one_by_one(model, loader.dataset))


def test_repeated_images_do_no_harm(images, model):
    plain = toy.loader(images, 'test')
    repeated = dict(type='RepeatDataset', times=2, dataset=plain['dataset'])
    loader = toy.build_loader({**plain, 'dataset': repeated})
    assert len(loader.dataset) == 24
    found = extract_features(model, loader, embed)
    torch.testing.assert_close(found, one_by_one(model, loader_of(images).dataset))


def test_a_loader_that_leaves_images_out_is_refused(images, model):
    """Their rows would hold whatever was in memory."""
    loader = loader_of(images, batch_size=5, drop_last=True)
    with pytest.raises(ValueError, match='2 of 12 images.*drop_last'):
        extract_features(model, loader, embed)


def test_every_module_gets_its_mode_back(images, model):
    model.train()
    model.backbone.layer1.eval()  # As with frozen stages.
    before = {name: module.training for name, module in model.named_modules()}
    assert len(set(before.values())) == 2
    seen = set()

    def watch(model, inputs):
        seen.update(module.training for module in model.modules())
        return embed(model, inputs)

    extract_features(model, loader_of(images), watch)
    assert seen == {False}
    assert before == {name: module.training for name, module in model.named_modules()}


def test_modes_come_back_after_a_failure(images, model):
    model.train()
    with pytest.raises(ZeroDivisionError):
        extract_features(model, loader_of(images), lambda *_: 1 / 0)
    assert all(module.training for module in model.modules())


def test_running_statistics_stay(images, model):
    model.train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    extract_features(model, loader_of(images), embed)
    assert all(torch.equal(before[name], value) for name, value in model.named_buffers())


def test_a_wrapper_is_unwrapped(images, model, tmp_path):
    plain = extract_features(model, loader_of(images), embed)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/group', rank=0, world_size=1
    )
    try:
        wrapped = MMDistributedDataParallel(model)
        assert torch.equal(extract_features(wrapped, loader_of(images), embed), plain)
    finally:
        torch.distributed.destroy_process_group()
