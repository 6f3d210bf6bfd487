from torch import Tensor

from ...compat.host import MODELS
from ...options import checked
from .embedding_model import EmbeddingModel


@MODELS.register_module()
@checked
class SeLa(EmbeddingModel):
    """Self-labelling: classify images by labels that the network gave itself.

    `Self-labelling via simultaneous clustering and representation learning
    <https://arxiv.org/abs/1911.05371>`_. Training alternates between gradient steps on the labels
    and new labels, which divide the images equally among the classes. Needs ``SelfLabelHook``, and
    ``sample_idx`` with every sample.

    Args:
        memory (dict): Config of the labels, :class:`SelfLabelMemory`; ``num_classes`` and
            ``num_heads`` are those of the head.
        **kwargs: See :class:`EmbeddingModel`; the head is :class:`SelfLabelHead`.

    Raises:
        ValueError: If head and memory differ in classes or heads.
    """

    def __init__(self, *, memory: dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.memory = MODELS.build(memory)
        for name in ('num_classes', 'num_heads'):
            ours, theirs = getattr(self.head, name), getattr(self.memory, name)
            if ours != theirs:
                raise ValueError(
                    f'head.{name} = {ours} and memory.{name} = {theirs} must be equal.'
                )

    def embed(self, image: Tensor) -> Tensor:
        """Features that the heads classify, not normalised, shape ``(B, D)``."""
        return self.project(image)

    def losses(self, views: list[Tensor], sample_idx: Tensor) -> dict[str, Tensor]:
        """See :meth:`SelfLabelHead.forward`."""
        self.memory.require_rows()
        feature = self.embed(views[0])
        self.memory.monitor.watch(sample_idx, feature)
        return self.head(feature, self.memory.labels[sample_idx])
