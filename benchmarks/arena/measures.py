"""What a trained network is worth: kNN, linear probe and purity of its graph."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import Runner
from sklearn.cluster import KMeans
from torch import Tensor, nn

from mmselfsup_invp.datasets import image_labels
from mmselfsup_invp.engine.hooks.knn_eval_hook import GALLERIES
from mmselfsup_invp.evaluation import (
    cluster_agreement,
    extract_features,
    few_shot_accuracy,
    knn_accuracy,
    neighbour_purity,
)
from mmselfsup_invp.models.memories import ClusterMemory, PropagationMemory
from mmselfsup_invp.ops import knn_graph

NEIGHBOURS = 50
TEMPERATURE = 0.07
# Of the graph whose purity is measured: those of InvP.
DEGREE, HOPS = 4, 3


@torch.no_grad()
def measure(model: nn.Module, config: Config, data: Path, split: str) -> dict[str, float]:
    """Measure a network; the gallery is the training set.

    Args:
        model (nn.Module): The model.
        config (Config): Config of its run, for the loader.
        data (Path): Folder of the splits.
        split (str): Split that the queries are from.

    Returns:
        dict[str, float]: Percent. ``backbone`` and ``bank``: weighted kNN accuracy; ``probe``:
        accuracy of a linear classifier on the backbone's features; ``labels_1`` and ``labels_5``:
        mean accuracy of the nearest class mean with so many labelled images of each class;
        ``nmi``: agreement of as many clusters as classes with the classes; ``purity_hop*``: share
        of the training images within so many hops on the exact 4-NN graph of the backbone's
        features that have the class of the image in question.
    """
    loaders = {name: _loader(config, data / f'{name}.npz') for name in ('train', split)}
    labels = {name: image_labels(loader.dataset) for name, loader in loaders.items()}
    feature = {
        name: extract_features(model, loader, GALLERIES['backbone'], device='cpu')
        for name, loader in loaders.items()
    }
    queries = feature[split], labels[split], feature['train'], labels['train']
    vote = dict(k=NEIGHBOURS, temperature=TEMPERATURE)
    figures = dict(
        backbone=knn_accuracy(*queries, **vote),
        probe=linear_probe(feature['train'], labels['train'], feature[split], labels[split]),
    )
    figures |= {f'labels_{num}': few_shot_accuracy(*queries, num) for num in (1, 5)}
    figures['nmi'] = cluster_nmi(feature['train'], labels['train'])
    memory = getattr(model, 'memory', None)
    if isinstance(memory, (PropagationMemory, ClusterMemory)):
        query = extract_features(model, loaders[split], GALLERIES['bank'], device='cpu')
        bank = memory.bank.cpu()
        figures['bank'] = knn_accuracy(query, labels[split], bank, labels['train'], **vote)
    graph = knn_graph(feature['train'], DEGREE)
    anchor = torch.arange(0, len(graph), 10)
    figures |= neighbour_purity(graph, labels['train'], HOPS, anchor)
    return {name: round(value, 3) for name, value in figures.items()}


def _loader(config: Config, path: Path) -> torch.utils.data.DataLoader:
    options = config.default_hooks.knn.gallery_dataloader.to_dict()
    options['dataset'] = dict(type='ImageArray', path=str(path))
    return Runner.build_dataloader(options, seed=0)


def cluster_nmi(feature: Tensor, label: Tensor, num_starts: int = 10) -> float:
    """NMI, in percent, of scikit-learn's k-means with the classes, as many clusters as classes.

    Args:
        feature (Tensor): float32, unit rows, shape ``(N, D)``.
        label (Tensor): int64, shape ``(N,)``, classes from 0.
        num_starts (int): Starts of k-means, of which the best counts. Defaults to 10.
    """
    kmeans = KMeans(int(label.max()) + 1, n_init=num_starts, random_state=0)
    clusters = kmeans.fit_predict(feature.numpy()).astype(np.int64)
    return cluster_agreement(torch.from_numpy(clusters), label)['nmi']


@torch.enable_grad()
def linear_probe(
    feature: Tensor, label: Tensor, query: Tensor, query_label: Tensor, decay: float = 1e-3
) -> float:
    """Accuracy, in percent, of a softmax classifier on standardised features, fitted by L-BFGS.

    Args:
        feature (Tensor): float32, shape ``(N, D)``, to fit to.
        label (Tensor): int64, shape ``(N,)``, classes from 0.
        query (Tensor): float32, shape ``(Q, D)``, to classify.
        query_label (Tensor): int64, shape ``(Q,)``.
        decay (float): Weight of half the squared norm of the weights. Defaults to 1e-3.
    """
    std, mean = torch.std_mean(feature, dim=0)
    scale = std.clamp(min=1e-6)
    feature, query = (feature - mean) / scale, (query - mean) / scale
    classifier = nn.Linear(feature.size(1), int(label.max()) + 1)
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    optimiser = torch.optim.LBFGS(
        classifier.parameters(), max_iter=200, line_search_fn='strong_wolfe'
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(classifier(feature), label)
        loss = loss + decay / 2 * classifier.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        predicted = classifier(query).argmax(dim=1)
    return (predicted == query_label).float().mean().item() * 100
