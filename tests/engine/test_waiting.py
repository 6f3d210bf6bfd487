"""No step makes the host wait for the device, but those that log.

On a GPU a look at a value (``.item()``, ``bool(tensor)``), a copy to the host, or an operation
whose result has as many entries as its input has non-zeros, stops the host until the device has
come so far. Two tests look for them:

- A whole run on the CPU, hooks and MMEngine's loop included, is watched for such calls. What they
  are called from is known by the stack. Left out, by name, are the loader, which works on the host,
  and the optimiser of PyTorch, whose step counts are tensors on the host.
- The forward pass of a step and its update of the memories run on tensors without data that claim
  to be on a GPU (``FakeTensorMode``), where such calls, and tensors of the host among those of the
  device, are errors.
"""

import traceback

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode

from mmselfsup_invp.models import InvPHead
from mmselfsup_invp.ops import devices
from mmselfsup_invp.structures import SampleBatch

from .. import toy
from .recording import Watch

aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense.default,
    aten.is_nonzero.default,
    aten.item.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
# Methods that copy to the host without an operation that a mode would see on a CPU. Not numpy(),
# which is an error on a device.
METHODS = ('tolist', 'cpu')
HOST = ('torch/utils/data/', 'mmengine/dataset/', 'torch/optim/')


class Waits(TorchDispatchMode):
    """Collects the places, innermost last, of calls that would make the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in WAITING or (func in INDEXING and _by_flags(args[1])):
            self.note(str(func))
        return func(*args, **(kwargs or {}))

    def note(self, name: str) -> None:
        stack = traceback.extract_stack()[:-2]
        if not any(part in frame.filename for frame in stack for part in HOST):
            frames = [f'{frame.filename}:{frame.lineno} {frame.name}' for frame in stack[-12:]]
            self.places.append('\n'.join([name, *frames]))


def _by_flags(index) -> bool:
    return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in index)


@pytest.fixture
def waits(monkeypatch):
    mode = Waits()

    def watched(name, method):
        def call(self, *args, **kwargs):
            mode.note(name)
            return method(self, *args, **kwargs)

        return call

    for name in METHODS:
        monkeypatch.setattr(torch.Tensor, name, watched(name, getattr(torch.Tensor, name)))
    return mode


def test_the_watch_sees_every_way_to_wait(waits):
    tensor, flags = torch.arange(3.0), torch.tensor([True, False, True])
    ways = [
        lambda: tensor[0].item(),
        lambda: bool(flags[0]),
        lambda: float(tensor[1]),
        lambda: tensor[flags],
        lambda: tensor.nonzero(),
        lambda: tensor.unique(),
        lambda: tensor.tolist(),
        lambda: tensor.cpu(),
        lambda: torch.equal(tensor, tensor),
    ]
    for way in ways:
        before = len(waits.places)
        with waits:
            way()
        assert len(waits.places) > before
    before = len(waits.places)
    with waits:
        tensor[torch.tensor([2, 0])] + torch.where(flags, tensor, 0.0).sum()
    assert len(waits.places) == before


def sela_hooks():
    return [dict(type='EpochSeedHook'), dict(type='SelfLabelHook', num_events=2)]


def cluster_hooks(images):
    # Repairs and looks for NaN wait, which is why they have an interval.
    hook = dict(
        type='OnlineClusterHook',
        extract_dataloader=toy.loader(images),
        repair_interval=100,
        centroid_interval=1,
    )
    return [dict(type='EpochSeedHook'), hook]


def run_of(name, images, work_dir, runtime_info='DeferredInfoHook'):
    """A runner of each method; it logs every third of its six iterations."""
    views = 2 if name.startswith('Momentum') else 1
    changes = dict(
        train_dataloader=toy.loader(images, views=toy.VIEWS, num_views=views, batch_size=4),
        default_hooks=dict(
            runtime_info=dict(type=runtime_info), logger=dict(type='LoggerHook', interval=3)
        ),
    )
    if name == 'SeLa':
        changes.update(model=toy.sela_config(), custom_hooks=sela_hooks())
    elif name.endswith('InterCLR'):
        changes.update(model=toy.interclr_config(name), custom_hooks=cluster_hooks(images))
    else:
        changes.update(model=toy.model_config(name))
    return toy.build_runner(images, work_dir, 2, **changes)


NAMES = ['InvP', 'MomentumInvP', 'InterCLR', 'MomentumInterCLR', 'SeLa']


def watched_steps(runner, waits):
    """Places by iteration of the second epoch, from its first hook to its last."""
    found: dict[int, list[str]] = {}

    def start(runner, batch_idx, **_):
        if runner.epoch == 1:
            waits.places.clear()
            waits.__enter__()

    def end(runner, batch_idx, **_):
        if runner.epoch == 1:
            waits.__exit__(None, None, None)
            found[batch_idx] = list(waits.places)

    runner.register_hook(Watch('before_train_iter', start, priority='HIGHEST'))
    runner.register_hook(Watch('after_train_iter', end, priority='LOWEST'))
    runner.train()
    return found


@pytest.mark.parametrize('name', NAMES)
def test_steps_between_two_logs_do_not_wait(name, images, tmp_path, waits):
    found = watched_steps(run_of(name, images, tmp_path), waits)
    assert sorted(found) == [0, 1, 2, 3, 4, 5]
    quiet = [place for step in (0, 1, 3, 4) for place in found[step]]
    assert not quiet, '\n\n'.join(quiet)
    assert found[2]  # The log is made of numbers.


def test_with_the_hook_of_mmengine_every_step_waits(images, tmp_path, waits):
    """Else the test above would prove nothing."""
    found = watched_steps(run_of('InvP', images, tmp_path, 'RuntimeInfoHook'), waits)
    assert all('runtime_info_hook' in ''.join(found[step]) for step in range(6))


@pytest.fixture
def no_kernels(monkeypatch):
    """No GPU is there to compile the Triton kernels for; tests of the operations watch those."""
    monkeypatch.setattr(devices, 'fused_obstacle', lambda bank: 'there is no GPU behind it')


def fake_step(name, **memory):
    """Losses of a step, and its update of the memories, on tensors that claim to be on a GPU.

    Without backward, for whose streams PyTorch asks a real one.
    """
    memory['length'] = 40
    if name == 'SeLa':
        model = toy.build_model(toy.sela_config(memory=memory))
    elif name.endswith('InterCLR'):
        model = toy.build_model(toy.interclr_config(name, branch=dict(memory=memory)))
    else:
        model = toy.build_model(toy.model_config(name, memory=memory))
    if hasattr(model, 'key_encoder'):
        model.key_encoder._initialised = True  # All steps but the first.
    samples = SampleBatch(toy.samples(*range(6)))
    with FakeTensorMode() as mode:
        for module in model.modules():
            for key, weight in module.named_parameters(recurse=False):
                module.register_parameter(key, torch.nn.Parameter(on_gpu(weight)))
            for key, buffer in module.named_buffers(recurse=False):
                setattr(module, key, on_gpu(buffer))
        samples.ids = mode.from_tensor(samples.ids)
        views = [torch.empty(6, 3, 16, 16, device='cuda') for _ in range(2)]
        losses = model.loss(views, samples)
        for part in (getattr(model, 'memory', None), getattr(model, 'queue', None)):
            if hasattr(part, 'commit'):
                part.commit()
            if hasattr(part, 'update_centroids'):
                part.update_centroids()
    return losses


def on_gpu(tensor):
    return torch.empty(tensor.shape, dtype=tensor.dtype, device='cuda')


@pytest.mark.usefixtures('no_kernels')
@pytest.mark.parametrize('name', NAMES)
def test_a_step_on_a_gpu_needs_no_value(name):
    assert {value.device.type for value in fake_step(name).values()} == {'cuda'}


@pytest.mark.usefixtures('no_kernels')
@pytest.mark.parametrize('name', ['InvP', 'MomentumInvP', 'InterCLR'])
def test_nor_with_a_bank_of_16_bits(name):
    assert {value.dtype for value in fake_step(name, dtype='float16').values()} == {torch.float32}


@pytest.mark.usefixtures('no_kernels')
@pytest.mark.parametrize('look', [lambda loss: loss.item(), lambda loss: loss[loss > 0]])
def test_a_look_at_a_value_would_be_an_error_there(look, monkeypatch):
    forward = InvPHead.forward

    def looking(self, *inputs):
        losses = forward(self, *inputs)
        look(losses['loss_ins'])
        return losses

    monkeypatch.setattr(InvPHead, 'forward', looking)
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        fake_step('InvP')
