"""Invariance Propagation (https://arxiv.org/abs/2010.11694) in an ordinary PyTorch loop.

    python tools/convert_dataset.py digits data/digits
    python examples/pytorch_invp.py data/digits/train

Any folder of images will do. Training uses no labels. If the images are in one subfolder per class,
the kNN accuracy is measured: images whose nearest others in the bank mostly have their class.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

from mmselfsup_invp.memory import FeatureBank, KNNGraph
from mmselfsup_invp.ops import HardSampling, invp_step, knn_graph


class IndexedImages(datasets.ImageFolder):
    """Augmented images of a folder with their indices, which are their rows of the bank."""

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        names = sorted(entry.name for entry in Path(directory).iterdir() if entry.is_dir()) or ['']
        return names, {name: label for label, name in enumerate(names)}

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return super().__getitem__(index)[0], index


def augmentation(size: int) -> transforms.Compose:
    views = [transforms.RandomResizedCrop(size, (0.4, 1)), transforms.ColorJitter(0.4, 0.4, 0.4)]
    return transforms.Compose([*views, transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])


def knn_accuracy(bank: torch.Tensor, labels: list[int], k: int = 20) -> float:
    """Percentage of the rows whose k nearest others mostly have their label."""
    label = torch.tensor(labels, device=bank.device)
    return 100 * (label[knn_graph(bank, k)].mode(dim=1).values == label).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('folder', help='folder of images')
    parser.add_argument('--epochs', type=int, default=20)
    parser.add_argument('--size', type=int, default=32, help='of the views, in pixels')
    args = parser.parse_args()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.manual_seed(0)

    dataset = IndexedImages(args.folder, augmentation(args.size))
    loader = DataLoader(dataset, batch_size=32, shuffle=True)
    model = models.resnet18(num_classes=128).to(device)  # fc is the linear neck of the paper
    bank = FeatureBank(feat_dim=128, length=len(dataset)).to(device)
    graph = KNNGraph(num_neighbours=4, length=len(dataset)).to(device)
    sampling = HardSampling(temperature=0.07, num_background=512)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)

    for epoch in range(args.epochs):
        # Neighbours are alike only after the network has learnt to discriminate the images.
        weight = 0.6 if epoch >= args.epochs // 3 else 0.0
        for image, index in loader:
            image, index = image.to(device), index.to(device)
            query = F.normalize(model(image), dim=1)
            step = invp_step(query, bank.bank, index, graph.propagate(index, hops=3), sampling)
            optimizer.zero_grad()
            (step.instance + weight * step.propagation).backward()
            optimizer.step()
            bank.update(index, query.detach())
            graph.link(index, step.neighbours)
        schedule.step()
        losses = f'instance {step.instance:.3f} propagation {step.propagation:.3f}'
        print(f'epoch {epoch + 1} {losses} kNN {knn_accuracy(bank.bank, dataset.targets):.1f} %')


if __name__ == '__main__':
    main()
