"""The line of the log about the progress of training."""

from datetime import timedelta

from mmengine.dist import get_world_size
from mmengine.registry import LOG_PROCESSORS
from mmengine.runner import LogProcessor, Runner

from .hooks.run_health_hook import chance_of

# Scalars with a place of their own in the line.
PLACED = ('base_lr', 'data_time', 'epoch', 'iter', 'lr', 'memory', 'time')


@LOG_PROCESSORS.register_module()
class ProgressLogProcessor(LogProcessor):
    """Logs losses beside their chance levels, images per second and the remaining time.

    ::

        Epoch 3/200 [10/31]  loss_soft 6.12 (chance 6.91)  walked 0  lr 0.015  31 images/s \
(loading 2%)  ETA 1:44:05

    ``images_per_second``, over all processes, is also written to the visualization backends. What
    is not training by epochs is logged as by MMEngine.

    Args:
        **kwargs: Those of ``mmengine.runner.LogProcessor``.

    Example:
        >>> log_processor = dict(type='ProgressLogProcessor', window_size=10)
    """

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """Return the scalars and the line."""
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != 'train' or not self.by_epoch or 'time' not in tag:
            return tag, line
        batch = runner.train_dataloader.batch_sampler.batch_size * get_world_size()
        tag['images_per_second'] = batch / tag['time']
        place = f'[{batch_idx + 1}/{len(runner.train_dataloader)}]'
        return tag, '  '.join(
            [f'Epoch {tag["epoch"]}/{runner.max_epochs} {place}', *self._scalars(runner, tag)]
        )

    def _scalars(self, runner: Runner, tag: dict) -> list[str]:
        chance = chance_of(runner)
        losses = [name for name in tag if name.startswith('loss_')]
        hidden = {*PLACED, 'images_per_second', *(['loss'] if len(losses) == 1 else [])}
        parts = [
            f'{name} {value:.4g}' + (f' (chance {chance[name]:.3g})' if name in chance else '')
            for name, value in tag.items()
            if name not in hidden
        ]
        loading = tag['data_time'] / tag['time']
        parts += [
            f'lr {tag.get("lr", 0):.3g}',
            f'{tag["images_per_second"]:.3g} images/s (loading {loading:.0%})',
        ]
        if 'memory' in tag:
            parts.append(f'GPU memory {tag["memory"]:,} MB')
        seconds = runner.message_hub.runtime_info.get('eta', 0)
        return [*parts, f'ETA {timedelta(seconds=int(seconds))}']
