"""Invariance Propagation in Lightning (`pip install lightning`), on one device.

    python tools/convert_dataset.py digits data/digits
    python examples/lightning_invp.py data/digits/train

Bank and graph are buffers of the module, so that Lightning moves and saves them. They are updated
after the optimiser step, because backward reads the bank.
"""

import argparse

import lightning
import torch
import torch.nn.functional as F
from pytorch_invp import IndexedImages, augmentation, knn_accuracy
from torch.utils.data import DataLoader
from torchvision import models

from mmselfsup_invp.memory import FeatureBank, KNNGraph
from mmselfsup_invp.ops import HardSampling, invp_step


class InvP(lightning.LightningModule):
    """InvP on ``num_images`` images; the propagation loss begins in epoch ``ramp_epochs``."""

    def __init__(self, num_images: int, ramp_epochs: int) -> None:
        super().__init__()
        self.ramp_epochs = ramp_epochs
        self.model = models.resnet18(num_classes=128)
        self.bank = FeatureBank(feat_dim=128, length=num_images)
        self.graph = KNNGraph(num_neighbours=4, length=num_images)
        self.sampling = HardSampling(temperature=0.07, num_background=512)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> dict[str, torch.Tensor]:
        image, index = batch
        query = F.normalize(self.model(image), dim=1)
        positive = self.graph.propagate(index, hops=3)
        step = invp_step(query, self.bank.bank, index, positive, self.sampling)
        self.log_dict(dict(instance=step.instance, propagation=step.propagation), prog_bar=True)
        weight = 0.6 if self.current_epoch >= self.ramp_epochs else 0.0
        loss = step.instance + weight * step.propagation
        return dict(loss=loss, query=query.detach(), neighbours=step.neighbours)

    def on_train_batch_end(self, outputs: dict, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.bank.update(batch[1], outputs['query'])
        self.graph.link(batch[1], outputs['neighbours'])

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.03, momentum=0.9, weight_decay=5e-4)
        epochs = self.trainer.max_epochs
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        return dict(optimizer=optimizer, lr_scheduler=schedule)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('folder', help='folder of images')
    parser.add_argument('--epochs', type=int, default=20)
    args = parser.parse_args()
    lightning.seed_everything(0)

    dataset = IndexedImages(args.folder, augmentation(size=32))
    loader = DataLoader(dataset, batch_size=32, shuffle=True)
    module = InvP(len(dataset), ramp_epochs=args.epochs // 3)
    trainer = lightning.Trainer(max_epochs=args.epochs, devices=1, logger=False)
    trainer.fit(module, loader)
    print(f'kNN {knn_accuracy(module.bank.bank, dataset.targets):.1f} %')


if __name__ == '__main__':
    main()
