"""Steps of every method on a GPU, and under autocast there or on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmselfsup_invp.models.memories import memories_of
from mmselfsup_invp.structures import SampleBatch

from .. import toy
from ..engine.methods import MODELS, SOFT_INVP
from ..ops.tools import DEVICE

LENGTH, BATCH = 40, 6
METHODS = {name: config for name, config in MODELS.items() if name != 'ODC'}
METHODS['SoftInvP'] = SOFT_INVP
# The others draw their negatives, and the generators of a GPU and of the CPU differ.
WITHOUT_DRAWS = ['InvP', 'MomentumInvP', 'MultiViewInvP', 'SoftInvP', 'SeLa']
# Their losses begin with embeddings in float32; that of SeLa with a layer, which autocast changes.
FROM_EMBEDDINGS = [name for name in METHODS if name != 'SeLa']
needs_gpu = pytest.mark.skipif(DEVICE == 'cpu', reason='no GPU')


def build(name: str, device: str) -> nn.Module:
    """A model with full memories; the graph has random edges, so that images have positives."""
    torch.manual_seed(0)
    model = toy.build_model(METHODS[name])
    random = torch.Generator().manual_seed(1)
    for memory in memories_of(model):
        memory.fit(LENGTH)
        for key, buffer in memory.named_buffers():
            if key.endswith(('neighbours', 'labels')):
                limit = len(memory) if key.endswith('neighbours') else 3
                buffer.copy_(torch.randint(limit, buffer.shape, generator=random))
    return model.to(device)


def batch(device: str) -> dict:
    """Two views of some images, as the loader and the preprocessor give them."""
    generator = torch.Generator().manual_seed(2)
    views = torch.randint(256, (2, BATCH, 3, 16, 16), generator=generator, dtype=torch.uint8)
    return dict(inputs=[*views.to(device)], data_samples=SampleBatch(toy.samples(*range(BATCH))))


def take_step(model: nn.Module, optimiser: OptimWrapper, data: dict) -> dict[str, Tensor]:
    """Train on a batch and write it into the memories."""
    losses = model.train_step(data, optimiser)
    for memory in memories_of(model):
        memory.commit()
    return {key: torch.as_tensor(value).detach() for key, value in losses.items()}


def wrapper(model: nn.Module) -> OptimWrapper:
    return OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))


@needs_gpu
@pytest.mark.parametrize('name', WITHOUT_DRAWS)
def test_two_steps_are_those_of_the_cpu(name, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    found = {}
    for device in ('cpu', DEVICE):
        model = build(name, device)
        optimiser = wrapper(model)
        losses = [take_step(model, optimiser, batch(device)) for _ in range(2)]
        found[device] = losses, model.state_dict()
    torch.testing.assert_close(
        found[DEVICE], found['cpu'], rtol=1e-3, atol=1e-4, check_device=False
    )


@contextmanager
def autocast(name: str | None) -> Iterator[None]:
    dtype = getattr(torch, name) if name else None
    with torch.autocast(DEVICE, dtype=dtype, enabled=name is not None):
        yield


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
@pytest.mark.parametrize('name', FROM_EMBEDDINGS)
def test_autocast_does_not_change_the_losses(name, dtype):
    """Of given embeddings, nor their gradient, nor what enters the memories."""
    query, momentum = (F.normalize(torch.randn(BATCH, toy.DIM)).to(DEVICE) for _ in range(2))
    images = torch.empty(BATCH)
    found = []
    for mode in (None, dtype):
        model, leaf = build(name, DEVICE), query.clone().requires_grad_()
        model.embed = lambda image, leaf=leaf: leaf.repeat(len(image) // BATCH, 1)
        if hasattr(model, 'key_encoder'):
            model.key_encoder.embed = lambda views, encoder: momentum
        torch.manual_seed(3)
        with autocast(mode):
            losses = model.losses([images, images], torch.arange(BATCH, device=DEVICE))
            total = sum(value for key, value in losses.items() if key.startswith('loss'))
        grad = torch.autograd.grad(total, leaf)[0]
        for memory in memories_of(model):
            memory.commit()
        memories = [dict(memory.named_buffers()) for memory in memories_of(model)]
        found.append((losses, grad, memories))
    assert found[0][1].abs().max() > 0
    torch.testing.assert_close(found[1], found[0])


@needs_gpu
@pytest.mark.parametrize('name', METHODS)
def test_a_training_step_does_not_synchronise(name):
    model = build(name, DEVICE)
    optimiser, data = wrapper(model), batch(DEVICE)
    data['data_samples'].ids = data['data_samples'].ids.pin_memory()
    views, samples = model.data_preprocessor(data, True)
    for mode in ('default', 'default', 'error'):  # The first steps compile and test the kernels.
        torch.cuda.set_sync_debug_mode(mode)
        try:
            losses = model(views, samples, mode='loss')
            optimiser.update_params(sum(losses[key].mean() for key in losses if 'loss' in key))
            for memory in memories_of(model):
                memory.commit()
        finally:
            torch.cuda.set_sync_debug_mode('default')
