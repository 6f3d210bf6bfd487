from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...compat.host import HOOKS
from ...export import export_backbone
from ...options import checked


@HOOKS.register_module()
@checked
class BackboneFileHook(Hook):
    """Writes the backbone to a file of its own at the end of the training.

    The file holds tensors and plain metadata. Its weights have the prefix ``backbone.``, with which
    the benchmark configs and scripts of MMSelfSup, MMPretrain and MMDetection read them. The last
    checkpoint holds other objects too, such as logs, which ``torch.load`` refuses in those scripts
    since PyTorch 2.6. The file is written from that checkpoint, into its folder, and verified by
    :func:`~mmselfsup_invp.export.export_backbone`. If that fails, the run ends with a warning.

    Args:
        filename (str): Name of the file. Defaults to ``'backbone.pth'``.

    Example:
        >>> default_hooks = dict(backbone_file=dict(type='BackboneFileHook'))
    """

    def __init__(self, filename: str = 'backbone.pth') -> None:
        self.filename = filename

    def after_train(self, runner: Runner) -> None:
        """Write the file, if there is a checkpoint on a local disk."""
        recorded = Path(runner.message_hub.runtime_info.get('last_ckpt') or '')
        # A run that was copied or moved, and had nothing left to train, has the path of the former.
        copied = Path(runner.work_dir, recorded.name)
        checkpoint = copied if copied.is_file() else recorded
        if not is_main_process() or not checkpoint.is_file():
            return
        path = checkpoint.with_name(self.filename)
        try:
            export_backbone(checkpoint, 'mmselfsup', path, force=True)
        except (OSError, ValueError) as error:
            runner.logger.warning(f'The backbone was not written to {path}: {error}')
        else:
            runner.logger.info(f"The backbone was written to {path} (prefix='backbone.').")
