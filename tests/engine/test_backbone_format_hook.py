"""Other layouts and compiled backbones: the same names, the same run."""

import pytest
import torch
from torch import nn

from mmselfsup_invp.engine.hooks import BackboneFormatHook

from .. import toy
from .recording import Watch

MODELS = {
    'InvP': toy.model_config,
    'MomentumInvP': lambda: toy.model_config('MomentumInvP', memory=dict(length=20)),
    'SeLa': toy.sela_config,
}


def run(images, work_dir, name='InvP', epochs=1, layouts=None, hook=None, **changes):
    """Train with the hook, or without any if there are no options for it."""
    method = dict(type='SelfLabelHook', num_events=2)
    if name != 'SeLa':
        method = dict(type='PropagationMemoryHook', ramp='constant')
    hooks = [dict(type='EpochSeedHook'), method]
    if hook:
        hooks.append(dict(type='BackboneFormatHook', **hook))
    views = 2 if name.startswith('Momentum') else 1
    runner = toy.build_runner(
        images,
        work_dir,
        epochs,
        model=MODELS[name](),
        train_dataloader=toy.loader(images, views=toy.VIEWS, num_views=views),
        custom_hooks=hooks,
        default_hooks=dict(checkpoint=dict(interval=1)),
        **changes,
    )
    if layouts is not None:

        def watch(runner):
            for key, module in runner.model.named_modules():
                if key.endswith('layer2'):
                    module.register_forward_hook(
                        lambda module, inputs, out, key=key: layouts.append(
                            (key, out.is_contiguous(memory_format=torch.channels_last))
                        )
                    )

        runner.register_hook(Watch('before_train', watch))
    runner.train()
    return runner


def assert_close(one, other):
    first, second = one.model.state_dict(), other.model.state_dict()
    assert first.keys() == second.keys()
    for name, value in first.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, second[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize('name', MODELS)
def test_channels_last_is_another_layout_of_the_same_run(images, tmp_path, name):
    layouts = []
    plain = run(images, tmp_path / 'plain', name)
    changed = run(
        images, tmp_path / 'changed', name, layouts=layouts, hook=dict(channels_last=True)
    )
    assert layouts and all(last for _, last in layouts)
    assert len({key for key, _ in layouts}) == (2 if name.startswith('Momentum') else 1)
    assert_close(plain, changed)


@pytest.mark.parametrize('name', MODELS)
def test_a_compiled_backbone_runs_as_the_other(images, tmp_path, name):
    seen = []

    def backend(graph, inputs):
        seen.append(graph)
        return graph.forward

    plain = run(images, tmp_path / 'plain', name)
    compiled = run(images, tmp_path / 'compiled', name, hook=dict(compile=dict(backend='eager')))
    assert compiled.model.backbone._compiled_call_impl is not None
    assert_close(plain, compiled)
    if name == 'InvP':  # It is the backbone that is compiled, in one graph.
        torch._dynamo.reset()
        compiled.model.backbone.compile(backend=backend)
        compiled.model.backbone(torch.rand(2, 3, 16, 16))
        assert len(seen) == 1
        assert sum(node.op == 'call_function' for node in seen[0].graph.nodes) > 10


@pytest.mark.parametrize('hook', [dict(channels_last=True), dict(compile=dict(backend='eager'))])
def test_a_run_resumes_with_and_without(images, tmp_path, hook):
    straight = run(images, tmp_path / 'straight', epochs=2, hook=hook)
    run(images, tmp_path / 'resumed', epochs=1, hook=hook)
    resumed = run(images, tmp_path / 'resumed', epochs=2, hook=hook, resume=True)
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    run(images, tmp_path / 'without', epochs=1, hook=hook)
    without = run(images, tmp_path / 'without', epochs=2, resume=True)
    assert_close(straight, without)


def test_an_old_torch_is_named(monkeypatch):
    monkeypatch.delattr(nn.Module, 'compile')
    BackboneFormatHook(channels_last=True)
    with pytest.raises(RuntimeError, match='cannot compile a module in place. Use 2.2'):
        BackboneFormatHook(compile=True)


def test_mixed_precision_trains(images, tmp_path, monkeypatch):
    """What ``--amp`` sets; MMEngine refuses it on a CPU, on whose autocast it runs here."""
    monkeypatch.setattr(
        'mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True
    )
    seen = dict(backbone=set(), neck=set(), loss=set())

    def watch(runner):
        model = runner.model
        model.backbone.register_forward_hook(
            lambda module, inputs, out: seen['backbone'].add(out[0].dtype)
        )
        model.neck.register_forward_hook(lambda module, inputs, out: seen['neck'].add(out[0].dtype))
        model.head.register_forward_hook(
            lambda module, inputs, out: seen['loss'].update(one.dtype for one in out.values())
        )

    optimizer = toy.runner_config(images, tmp_path).optim_wrapper.optimizer
    wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16', optimizer=optimizer)
    runner = toy.build_runner(images, tmp_path, 2, optim_wrapper=wrapper)
    runner.register_hook(Watch('before_train', watch))
    before = runner.model.backbone.conv1.weight.detach().clone()
    runner.train()
    assert seen == dict(backbone={torch.bfloat16}, neck={torch.float32}, loss={torch.float32})
    after = runner.model.backbone.conv1.weight
    assert after.dtype == torch.float32 and after.isfinite().all()
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(runner.model.memory.bank.norm(dim=1), torch.ones(24))
