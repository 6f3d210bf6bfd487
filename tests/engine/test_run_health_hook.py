import math

import pytest
import torch
from mmengine.hooks import Hook

from mmselfsup_invp.engine.hooks import RunHealthHook, run_health_hook

from .. import toy
from .recording import log_text


def train(images, work_dir, epochs=3, hooks=(), **changes):
    runner = toy.build_runner(images, work_dir, epochs, **changes)
    for hook in (RunHealthHook(), *hooks):
        runner.register_hook(hook)
    runner.train()
    return log_text(work_dir)


class Loss(Hook):
    """Replaces the logged instance loss by a share of its chance level."""

    priority = 'HIGHEST'

    def __init__(self, *shares):
        self.shares = shares

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        outputs['loss_ins'] = torch.tensor(self.shares[runner.epoch] * math.log(11))


def test_a_plateau_is_reported_from_the_second_epoch_on(images, tmp_path):
    text = train(images, tmp_path, hooks=[Loss(1.0, 0.99, 0.9)])
    (line,) = [line for line in text.splitlines() if 'does not distinguish' in line]
    assert 'loss_ins is 2.37 in epoch 2, its chance level 2.40' in line
    assert 'try, in this order: a linear neck (model.neck.hid_channels=None)' in line


def test_a_long_run_is_judged_ten_times(images, tmp_path):
    text = train(images, tmp_path, 20, [Loss(*[0.99] * 20)])
    epochs = [
        line.split(' in epoch ')[1].split(',')[0] for line in text.splitlines() if 'not dis' in line
    ]
    assert [int(epoch) for epoch in epochs] == [*range(2, 21, 2)]


def test_the_memory_is_logged_and_must_suffice(images, tmp_path, monkeypatch):
    text = train(images, tmp_path / 'fits')
    assert 'Memory: bank 0.0 MiB + graph 0.0 MiB + search' in text
    monkeypatch.setattr(run_health_hook, 'available_memory', lambda device: 1000)
    with pytest.raises(
        ValueError, match='but 0.0 MiB are free. Try, in this order: a smaller back'
    ):
        train(images, tmp_path / 'does not')


def test_skipped_images_are_reported_once(tmp_path):
    root = toy.image_folder(tmp_path / 'images')
    (root / 'train' / '005.png').write_bytes(b'broken')
    loader = toy.loader(root, views=toy.VIEWS)
    options = dict(data_root=str(root), data_prefix='train', pipeline=loader['dataset']['pipeline'])
    loader['dataset'] = dict(type='ImageFiles', broken='skip', **options)
    text = train(root, tmp_path / 'work', train_dataloader=loader)
    lines = [line for line in text.splitlines() if 'were skipped' in line]
    assert len(lines) == 1 and '1 of 24 images cannot be read' in lines[0]
    assert '/005.png' in lines[0]


@pytest.mark.parametrize(('end', 'warned'), [(2, True), (3, False)])
def test_a_schedule_that_ends_before_the_run_is_reported(images, tmp_path, end, warned):
    schedule = [dict(type='CosineAnnealingLR', T_max=end, by_epoch=True, begin=0, end=end)]
    text = train(images, tmp_path, 3, param_scheduler=schedule)
    assert ('schedule of the learning rate ends with epoch 2 of 3' in text) == warned


def test_a_loader_without_a_batch_is_refused(images, tmp_path):
    loader = dict(batch_size=100, drop_last=True)
    with pytest.raises(ValueError, match='24 images gives no batch of 100: lower train_dataloa'):
        train(images, tmp_path, train_dataloader=loader)
