"""A detector starts from the weights of its checkpoint, or not at all."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmselfsup.registry import HOOKS

from ...evaluation import check_loaded, read_backbone
from ...evaluation.checkpoints import PREFIX
from .common import unwrap


@HOOKS.register_module()
class CheckBackboneHook(Hook):
    """Check before training that a detector's backbone holds all of its checkpoint's weights.

    The checkpoint is that of the backbone's ``init_cfg``, if it is one of pre-training; a resumed
    run is not checked. :func:`~mmselfsup_invp.evaluation.check_loaded` says what is checked.

    Example:
        >>> default_hooks = dict(backbone=dict(type='mmselfsup.CheckBackboneHook'))
    """

    def before_train(self, runner: Runner) -> None:
        """Compare, unless the run goes on from an earlier one."""
        weights = runner.cfg.model.backbone.get('init_cfg') or {}
        if runner.iter == 0 and weights.get('prefix') == PREFIX:
            check_loaded(unwrap(runner.model), read_backbone(weights['checkpoint']))
