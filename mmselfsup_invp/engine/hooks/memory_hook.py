import hashlib
import os

import torch
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ...evaluation.checkpoints import check_fit
from ...models.memories import memories_of
from .common import unwrap

# Name of the digest in the meta data of a checkpoint.
ORDER = 'image_order'
# Images that the digest looks at, spread evenly: of a larger data set all would take seconds.
MOST_PATHS = 2**16


class MemoryHook(Hook):
    """Lets a run go on only from a checkpoint of its own model and images.

    MMEngine loads what fits and only logs the rest, so that the checkpoint of another method, or
    of a list in another order, would resume without a word. Base of the hooks that look after a
    memory.
    """

    _order: str | None = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note the order of the images, which is that of the rows."""
        if holds_images(unwrap(runner.model)):
            checkpoint['meta'][ORDER] = self._image_order(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare a checkpoint to resume from.

        Raises:
            ValueError: If it is that of another model, or of images in another order.
        """
        if not runner._resume:
            return
        model = unwrap(runner.model)
        source = runner._load_from or f'The latest checkpoint in {runner.work_dir}'
        check_fit(model, checkpoint['state_dict'], source)
        saved = checkpoint.get('meta', {}).get(ORDER)
        if saved is not None and holds_images(model):
            _compare(saved, self._image_order(runner))

    def _image_order(self, runner: Runner) -> str:
        if self._order is None:
            self._order = image_order(runner.train_dataloader.dataset)
        return self._order


def holds_images(model: nn.Module) -> bool:
    """Whether rows of the model are the images of the data set, in their order."""
    return any(memory.holds_images for memory in memories_of(model))


def image_order(dataset: BaseDataset) -> str:
    """Number of images and a digest of their paths, which does not change when all are moved.

    Looked at are paths below the folder that all share, of 65536 images spread evenly.
    """
    while hasattr(dataset, 'dataset'):  # Repeats by a wrapper.
        dataset = dataset.dataset
    length = len(dataset)
    rows = torch.linspace(0, length - 1, min(length, MOST_PATHS), dtype=torch.float64).long()
    infos = (dataset.get_data_info(row) for row in rows.tolist())
    paths = [str(info.get('img_path', '')) for info in infos]
    shared = os.path.commonprefix([min(paths), max(paths)]).rfind('/') + 1
    digest = hashlib.sha256('\n'.join(path[shared:] for path in paths).encode())
    return f'{length} {digest.hexdigest()[:32]}'


def _compare(saved: str, own: str) -> None:
    # That their number differs the memory says itself.
    if saved != own and saved.split()[0] == own.split()[0]:
        raise ValueError(
            'The run that was to be resumed had other images, or the same in another order: every '
            'row of its memory would belong to another image. Resume with the list of that run; '
            'to start from its network alone, give it to the backbone as init_cfg=dict(type='
            "'Pretrained', checkpoint=..., prefix='backbone.'). Where files were only renamed, "
            f"delete {ORDER!r} from the checkpoint's 'meta'."
        )
