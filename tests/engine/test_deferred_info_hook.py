"""What is logged is what MMEngine's own hook has logged; the values are read less often."""

import pytest

from .. import toy
from .recording import Watch, log_text


def run(images, work_dir, kind, interval, epochs=2, **changes):
    hooks = dict(
        runtime_info=dict(type=kind),
        logger=dict(type='LoggerHook', interval=interval),
        checkpoint=dict(type='CheckpointHook', interval=1),
    )
    runner = toy.build_runner(images, work_dir, epochs, default_hooks=hooks, **changes)
    runner.train()
    return runner


def history(runner):
    """All values of the losses in order."""
    scalars = runner.message_hub.log_scalars
    names = sorted(name for name in scalars if 'loss' in name or 'num_positives' in name)
    return {name: scalars[name].data[0].tolist() for name in names}


def logged(work_dir):
    """What the lines of the log say of them."""
    lines = log_text(work_dir).splitlines()
    return [line.partition('loss: ')[2] for line in lines if 'loss: ' in line]


@pytest.mark.parametrize('interval', [1, 2, 50])
def test_the_log_is_that_of_mmengine(images, tmp_path, interval):
    kinds = ('DeferredInfoHook', 'RuntimeInfoHook')
    ours, theirs = (run(images, tmp_path / kind, kind, interval) for kind in kinds)
    values = history(ours)
    assert len(values['train/loss']) == 6  # Two epochs of three iterations.
    assert values == history(theirs)
    lines, expected = (logged(tmp_path / kind) for kind in kinds)
    assert lines and lines == expected


def test_a_resumed_run_goes_on_with_the_history(images, tmp_path):
    straight = run(images, tmp_path / 'straight', 'DeferredInfoHook', 2)
    run(images, tmp_path / 'resumed', 'DeferredInfoHook', 2, epochs=1)
    resumed = run(images, tmp_path / 'resumed', 'DeferredInfoHook', 2, resume=True)
    assert history(resumed) == history(straight)


def test_values_are_read_where_a_logger_needs_them(images, tmp_path):
    hooks = dict(
        runtime_info=dict(type='DeferredInfoHook'), logger=dict(type='LoggerHook', interval=2)
    )
    runner = toy.build_runner(images, tmp_path, 1, default_hooks=hooks)
    counts, kept = [], []

    def look(runner, **_):
        losses = runner.message_hub.log_scalars.get('train/loss')
        counts.append(len(losses.data[0]) if losses else 0)
        hook = next(one for one in runner.hooks if type(one).__name__ == 'DeferredInfoHook')
        kept.extend(value for values in hook._pending for value in values.values())

    runner.register_hook(Watch('after_train_iter', look))
    runner.train()
    assert counts == [0, 2, 3]  # The last ends the epoch.
    # What waits keeps no graph alive.
    assert len(kept) == 4 and not any(value.requires_grad for value in kept)
