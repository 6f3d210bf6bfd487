"""The backbone of a checkpoint: its weights, and the config that it was built from."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

PREFIX = 'backbone.'
DIGITS = 16  # Of a hash that only has to tell some files from each other.


@dataclass(frozen=True)
class PretrainedBackbone:
    """What a pre-training run leaves for those who use its network.

    Attributes:
        path (Path): The checkpoint.
        state (dict[str, Tensor]): Weights, named as in the backbone itself (``conv1.weight``).
        config (dict): Config of the backbone, without ``init_cfg``.
        preprocessor (dict): ``mean``, ``std`` (0 to 255, in RGB order where ``bgr_to_rgb``) and
            what else the run's data preprocessor was given, without its type.
        epoch (int): Epochs trained; 0 where the checkpoint does not say.
        experiment (str): Name of the run's config.
    """

    path: Path
    state: dict[str, Tensor]
    config: dict[str, Any]
    preprocessor: dict[str, Any]
    epoch: int
    experiment: str

    def build_config(self, random_init: bool = False) -> dict[str, Any]:
        """Config that builds the backbone with these weights, or as it is initialised."""
        if random_init:
            return dict(self.config)
        weights = dict(type='Pretrained', checkpoint=str(self.path), prefix=PREFIX)
        return dict(self.config, init_cfg=weights)

    def fingerprint(self, random_init: bool = False) -> str:
        """Tell this backbone from others, whatever their files are called.

        Args:
            random_init (bool): Whether the weights do not count, as they are not loaded. Defaults
                to False.

        Returns:
            str: 16 digits, the same for the same network, pixels and weights.
        """
        found = hashlib.sha256(digest([self.config, self.preprocessor]).encode())
        for name in [] if random_init else sorted(self.state):
            value = self.state[name].cpu().contiguous()
            found.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
            found.update(value.flatten().view(torch.uint8).numpy())
        return found.hexdigest()[:DIGITS]

    def check_loaded(self, state: Mapping[str, Tensor]) -> None:
        """Make sure that every weight has arrived.

        MMEngine's ``Pretrained`` loads what fits and only logs the rest.

        Args:
            state (Mapping[str, Tensor]): Weights of a network that was to be initialised so, named
                as in the backbone itself.

        Raises:
            ValueError: Names weights that are missing, unused or different.
        """
        both = state.keys() & self.state.keys()
        faults = {
            'not in the checkpoint': state.keys() - both,
            'not in the network': self.state.keys() - both,
            'different': {name for name in both if not _equal(state[name], self.state[name])},
        }
        found = [f'{what}: {listed(sorted(names))}' for what, names in faults.items() if names]
        if found:
            raise ValueError(
                f'The backbone is not that of {self.path} ({self.experiment}). Weights '
                f'{"; ".join(found)}. The config must build the same network, and load it with '
                "init_cfg = dict(type='Pretrained', checkpoint=..., prefix='backbone.') in the "
                'backbone and, if it is a detector that has one, in roi_head.shared_head.'
            )


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.cpu(), other.cpu())


def listed(names: Sequence[str], most: int = 4) -> str:
    """The first of some names, and how many more there are.

    Example:
        >>> listed(['a', 'b', 'c'], most=1)
        'a and 2 more'
    """
    rest = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + rest


def digest(content: Any) -> str:
    """Hash of plain content, 16 digits; the order of the keys of a dict does not matter."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def read_backbone(path: str | Path) -> PretrainedBackbone:
    """Read the backbone of a checkpoint that MMEngine's runner wrote.

    Args:
        path (str | Path): File ``epoch_*.pth`` or ``iter_*.pth`` of a pre-training run of any
            method; its config lies in the file.

    Returns:
        PretrainedBackbone: Weights and config, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no such checkpoint, or holds no backbone.

    Example:
        >>> backbone = read_backbone('work_dirs/invp/epoch_800.pth')  # doctest: +SKIP
        >>> backbone.config['type'], backbone.config['depth']  # doctest: +SKIP
        ('ResNet', 50)
    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    weights = _weights(path, checkpoint)
    config = run_config(path, checkpoint)
    model = config.model
    preprocessor = dict(model.get('data_preprocessor') or config.get('data_preprocessor') or {})
    preprocessor.pop('type', None)
    backbone = model.backbone.to_dict()
    backbone.pop('init_cfg', None)
    meta = checkpoint['meta']
    return PretrainedBackbone(
        path, weights, backbone, preprocessor, meta.get('epoch', 0), _experiment(meta, config)
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint of MMEngine's runner on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no such checkpoint.
    """
    if not path.is_file():
        raise FileNotFoundError(no_checkpoint(path))
    try:
        checkpoint = CheckpointLoader.load_checkpoint(str(path), 'cpu', logger='silent')
    except Exception as error:  # Damaged files make the unpickler fail in any way.
        raise ValueError(
            f'{path} cannot be read: it is no checkpoint of PyTorch, or not whole. Give the '
            'epoch_*.pth of a pre-training run.'
        ) from error
    state = checkpoint.get('state_dict') if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise ValueError(
            f'{path} has no "state_dict": it is no checkpoint of MMEngine. Give the epoch_*.pth of '
            'a pre-training run.'
        )
    return checkpoint


def no_checkpoint(path: Path) -> str:
    """Say that a checkpoint is missing, and which lie beside its place."""
    found = ', '.join(sorted(file.name for file in path.parent.glob('*.pth')))
    return f'There is no checkpoint {path}.{f" In that folder: {found}." if found else ""}'


def check_fit(model: nn.Module, state: Mapping[str, Tensor], source: str, prefix: str = '') -> None:
    """Make sure that a checkpoint is one of this model.

    MMEngine loads what fits and only logs the rest.

    Args:
        model (nn.Module): The model, without a distributed wrapper.
        state (Mapping[str, Tensor]): ``state_dict`` of the checkpoint.
        source (str): What the message calls the checkpoint.
        prefix (str): What the names of the weights that count begin with. Defaults to ``''``: all.

    Raises:
        ValueError: Names weights that are missing, unused or of another shape.
    """
    saved = {name.removeprefix('module.'): value for name, value in state.items()}
    saved = {name: value for name, value in saved.items() if name.startswith(prefix)}
    own = {name: value for name, value in model.state_dict().items() if name.startswith(prefix)}
    # A memory takes the size of its rows from a checkpoint, and says itself where it cannot.
    sized = {name for name, _ in model.named_parameters()} & own.keys() & saved.keys()
    faults = {
        'not in the checkpoint': own.keys() - saved.keys(),
        'not in the model': saved.keys() - own.keys(),
        'of another shape': {name for name in sized if own[name].shape != saved[name].shape},
    }
    found = [f'{what}: {listed(sorted(names))}' for what, names in faults.items() if names]
    if found:
        raise ValueError(
            f'{source} is not a checkpoint of this {type(model).__name__}. Weights '
            f'{"; ".join(found)}. Config and checkpoint must be of the same run.'
        )


def _weights(path: Path, checkpoint: dict) -> dict[str, Tensor]:
    state = checkpoint['state_dict']
    weights = {
        name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)
    }
    if not weights:
        parts = Counter(name.partition('.')[0] for name in state)
        found = ', '.join(f'{name} ({count})' for name, count in parts.most_common(8))
        raise ValueError(
            f'{path} holds no weights named "{PREFIX}...". Found (tensors): {found or "none"}. '
            'Give a checkpoint of pre-training, not an exported or a detection model.'
        )
    return weights


def run_config(path: Path, checkpoint: dict) -> Config:
    """The config of the run that wrote the checkpoint.

    Raises:
        ValueError: If it does not lie in the file.
    """
    text = checkpoint.get('meta', {}).get('cfg')
    if not text:
        raise ValueError(
            f"{path} does not hold the config of its run (meta['cfg']), which MMEngine's runner "
            'writes. Without it the network cannot be built.'
        )
    return Config.fromstring(text, '.py')


def _experiment(meta: dict, config: Config) -> str:
    """The name that MMEngine gives a run, without the time that it appends."""
    name = meta.get('experiment_name', '')
    return name.rsplit('_', 2)[0] if name.count('_') > 1 else name or config.model.type
