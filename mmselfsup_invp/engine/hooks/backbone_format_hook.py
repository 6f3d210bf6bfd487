from collections.abc import Iterator

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from ...compat.host import HOOKS
from ...models.algorithms.momentum_encoder import MomentumEncoder
from ...options import checked
from .common import unwrap


@HOOKS.register_module()
@checked
class BackboneFormatHook(Hook):
    """Converts the backbone, and that of a momentum encoder, to a faster format in place.

    Names and values of the weights do not change, so checkpoints load with and without the hook.
    MMEngine's ``compile`` option compiles the whole training step, whose search and memory updates
    break the graph in many places; the backbone has no graph breaks and takes most of the time.

    Args:
        channels_last (bool): Whether weights and feature maps use the channels-last memory format,
            for which the convolutions of recent GPUs are optimised, above all in mixed precision.
            Defaults to False.
        compile (bool | dict): Whether to use ``torch.compile``; a dict contains its options, such
            as ``dict(mode='max-autotune')``. Another batch size, as in the last batch of an
            epoch, and the switch between training and evaluation recompile. Defaults to False.

    Raises:
        RuntimeError: If ``compile`` is set and this PyTorch cannot compile a module in place.

    Example:
        >>> default_hooks = dict(format=dict(type='BackboneFormatHook', channels_last=True))
    """

    def __init__(self, channels_last: bool = False, compile: bool | dict = False) -> None:
        if compile is not False and not hasattr(nn.Module, 'compile'):
            raise RuntimeError(
                f'PyTorch {torch.__version__} cannot compile a module in place. Use 2.2 or newer, '
                'or compile=False.'
            )
        self.channels_last = channels_last
        self.compile = compile

    def before_train(self, runner: Runner) -> None:
        """Convert the backbones after their weights were initialised or loaded."""
        for backbone in backbones(unwrap(runner.model)):
            if self.channels_last:
                backbone.to(memory_format=torch.channels_last)
            if self.compile is not False:
                backbone.compile(**({} if self.compile is True else self.compile))


def backbones(model: BaseModel) -> Iterator[nn.Module]:
    """Yield the backbone of a model and those of its momentum encoders."""
    yield model.backbone
    for part in model.modules():
        if isinstance(part, MomentumEncoder):
            yield part.module[0]
