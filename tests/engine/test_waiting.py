"""No training step synchronises with the device, except for those that log.

On a GPU the host waits for the device when it reads a value (``.item()``, ``bool(tensor)``), copies
to the host, or calls an operation whose output size depends on values. Two kinds of tests detect
this:

- A whole run on the CPU, with all hooks, is observed for such calls. The stack tells
  where they come from. Exempt are the loader, which works on the host, and PyTorch's optimiser,
  whose step counts are tensors on the host.
- The forward pass of a step and its memory updates run on tensors without data that claim to be on
  a GPU (``FakeTensorMode``). Such calls, and mixing tensors of host and device, raise there.
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
from mmselfsup_invp.ops import negatives
from mmselfsup_invp.ops.search import self_test
from mmselfsup_invp.structures import SampleBatch

from .. import toy
from .methods import SOFT_INVP, changes
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
# Methods that copy to the host without an operation that a dispatch mode sees on a CPU. numpy() is
# not among them, because it raises for a tensor on a device.
METHODS = ('tolist', 'cpu')
HOST = ('torch/utils/data/', 'mmengine/dataset/', 'torch/optim/')


class Waits(TorchDispatchMode):
    """Collects the stacks, innermost frame last, of calls that would synchronise."""

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


class HostIndices(TorchDispatchMode):
    """Refuses to index a tensor of a GPU by one of the host, whose copy is waited for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in INDEXING and args[0].device.type == 'cuda':
            hosts = [one for one in args[1] if one is not None and one.device.type == 'cpu']
            assert not hosts, f'{func}: an index of shape {tuple(hosts[0].shape)} is on the host'
        return func(*args, **(kwargs or {}))


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


def test_every_synchronising_call_is_detected(waits):
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


def run_of(name, images, work_dir, runtime_info='DeferredInfoHook'):
    """A runner of each method; it logs every third of its six iterations."""
    # Repairs and checks for NaN synchronise, which is why they have an interval.
    rare = dict(repair_interval=100, centroid_interval=1) if name.endswith('InterCLR') else {}
    config = changes(name, images, loader=dict(batch_size=4), **rare)
    config['default_hooks'] = dict(
        runtime_info=dict(type=runtime_info), logger=dict(type='LoggerHook', interval=3)
    )
    return toy.build_runner(images, work_dir, 2, **config)


NAMES = [
    'InvP',
    'MomentumInvP',
    'MultiViewInvP',
    'SoftInvP',
    'InterCLR',
    'MomentumInterCLR',
    'SeLa',
]


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
def test_steps_between_two_logs_do_not_synchronise(name, images, tmp_path, waits, monkeypatch):
    monkeypatch.setattr(negatives, '_sorts_members_alone', lambda device: False)  # As on a GPU.
    found = watched_steps(run_of(name, images, tmp_path), waits)
    assert sorted(found) == [0, 1, 2, 3, 4, 5]
    quiet = [place for step in (0, 1, 3, 4) for place in found[step]]
    assert not quiet, '\n\n'.join(quiet)
    assert found[2]  # Logging reads the values.


def test_every_step_synchronises_with_the_hook_of_mmengine(images, tmp_path, waits):
    """The test above detects the hook of MMEngine."""
    found = watched_steps(run_of('InvP', images, tmp_path, 'RuntimeInfoHook'), waits)
    assert all('runtime_info_hook' in ''.join(found[step]) for step in range(6))


@pytest.fixture
def no_kernels(monkeypatch):
    """Disable the Triton kernels, which cannot be compiled without a GPU."""
    monkeypatch.setattr(self_test, 'unsupported_reason', lambda bank: 'there is no GPU')


def fake_step(name, **memory):
    """Compute the losses of a step and update the memories, on tensors that claim to be on a GPU.

    Backward is left out, because its streams need a real GPU.
    """
    memory['length'] = 40
    if name == 'SeLa':
        model = toy.build_model(toy.sela_config(memory=memory))
    elif name == 'SoftInvP':
        model = toy.build_model(toy.merged(SOFT_INVP, dict(memory=memory)))
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
        with HostIndices():
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
def test_a_step_with_a_float16_bank_needs_no_value(name):
    assert {value.dtype for value in fake_step(name, dtype='float16').values()} == {torch.float32}


@pytest.mark.usefixtures('no_kernels')
def test_an_index_on_the_host_is_refused_there(monkeypatch):
    forward = InvPHead.forward

    def indexing(self, query, *inputs):
        return forward(self, query[torch.randperm(6)], *inputs)

    monkeypatch.setattr(InvPHead, 'forward', indexing)
    with pytest.raises(AssertionError, match='is on the host'):
        fake_step('InvP')


@pytest.mark.usefixtures('no_kernels')
@pytest.mark.parametrize('read', [lambda loss: loss.item(), lambda loss: loss[loss > 0]])
def test_reading_a_value_raises_there(read, monkeypatch):
    forward = InvPHead.forward

    def reading(self, *inputs):
        losses = forward(self, *inputs)
        read(losses['loss_ins'])
        return losses

    monkeypatch.setattr(InvPHead, 'forward', reading)
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        fake_step('InvP')
