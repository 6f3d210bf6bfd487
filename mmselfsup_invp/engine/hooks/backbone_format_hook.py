from collections.abc import Iterator

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmselfsup.registry import HOOKS
from torch import nn

from .common import unwrap


@HOOKS.register_module()
class BackboneFormatHook(Hook):
    """Lay out or compile the backbone for speed, that of a momentum encoder too.

    Both are done in place: names and values of the weights stay, so that checkpoints load with
    and without. MMEngine's own ``compile`` option of a run compiles the whole training step,
    whose search and bookkeeping break the graph in many places; the backbone is most of the work
    and has none.

    Args:
        channels_last (bool): Whether weights and feature maps are laid out with the channels
            last, for which convolutions on recent GPUs are made, above all in mixed precision.
            Defaults to False.
        compile (bool | dict): Whether ``torch.compile`` is used; a dict holds its options, such
            as ``dict(mode='max-autotune')``. Another size of batch, the last one of an epoch, and
            the change between training and evaluation are compiled again. Defaults to False.

    Raises:
        RuntimeError: If ``compile`` is asked for and PyTorch cannot compile a module in place.
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
        """Change the backbones, whose weights were drawn or loaded before."""
        for backbone in backbones(unwrap(runner.model)):
            if self.channels_last:
                backbone.to(memory_format=torch.channels_last)
            if self.compile is not False:
                backbone.compile(**({} if self.compile is True else self.compile))


def backbones(model: BaseModel) -> Iterator[nn.Module]:
    """The backbone, and its slow copy where there is a momentum encoder."""
    yield model.backbone
    if hasattr(model, 'key_encoder'):
        yield model.key_encoder.module[0]
