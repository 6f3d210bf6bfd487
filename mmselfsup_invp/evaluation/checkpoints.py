"""The backbone of a checkpoint: its weights, and the config that it was built from."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..config import parse_config, require_registered
from ..datasets.files import listed

PREFIX = 'backbone.'
DIGEST_LENGTH = 16  # Hexadecimal digits; the hashes only tell a few files apart.
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class PretrainedBackbone:
    """The backbone of a pre-training run.

    Attributes:
        path (Path): The checkpoint.
        state (dict[str, Tensor]): Weights, named as in the backbone itself (``conv1.weight``).
        config (dict): Config of the backbone, without ``init_cfg``.
        preprocessor (dict): Arguments of the run's data preprocessor: ``mean``, ``std`` (0 to 255,
            in RGB order if ``bgr_to_rgb``) and others.
        epoch (int): Epochs trained; 0 if the checkpoint does not say.
        experiment (str): Name of the run's config.
        run (Config): The whole config of the run.
    """

    path: Path
    state: dict[str, Tensor]
    config: dict[str, Any]
    preprocessor: dict[str, Any]
    epoch: int
    experiment: str
    run: Config

    def build_config(self, random_init: bool = False) -> dict[str, Any]:
        """Config that builds the backbone with these weights, or with its initial ones."""
        if random_init:
            return dict(self.config)
        weights = dict(type='Pretrained', checkpoint=str(self.path), prefix=PREFIX)
        return dict(self.config, init_cfg=weights)

    def preprocessor_config(self) -> dict[str, Any]:
        """Config of a classifier's preprocessor with the normalisation of pre-training."""
        own = self.preprocessor
        return dict(
            type='mmcls.ClsDataPreprocessor',
            mean=own.get('mean'),
            std=own.get('std'),
            to_rgb=own.get('bgr_to_rgb', own.get('to_rgb', False)),
        )

    def fingerprint(self, random_init: bool = False) -> str:
        """Hash of the network, its pixels and, unless ``random_init``, its weights; 16 digits.

        It does not depend on the name of the file or on what else the file holds.
        """
        found = hashlib.sha256(digest([self.config, self.preprocessor]).encode())
        for name in [] if random_init else sorted(self.state):
            value = self.state[name].cpu().contiguous()
            found.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
            found.update(value.flatten().view(torch.uint8).numpy())
        return found.hexdigest()[:DIGEST_LENGTH]

    def require_finite(self) -> None:
        """Raise ``ValueError`` if a weight is NaN or infinite."""
        nonfinite = [name for name, value in self.state.items() if not value.isfinite().all()]
        if nonfinite:
            raise ValueError(
                f'{self.path} has NaN or infinite values in {listed(nonfinite, 8)}. Use an earlier '
                'checkpoint of the run.'
            )

    def check_loaded(self, state: State) -> None:
        """Raise ``ValueError`` unless a network has all of these weights and no others.

        ``state`` are its weights after its initialisation, named as in the backbone itself.
        MMEngine's ``Pretrained`` loads what fits and only logs the rest.
        """
        different = {
            name
            for name in state.keys() & self.state.keys()
            if not _equal(state[name], self.state[name])
        }
        found = _differences('network', state, self.state, ('different', different))
        if found:
            raise ValueError(
                f'The backbone is not that of {self.path} ({self.experiment}). Weights {found}. '
                'The config must build the same network, and load it with '
                "init_cfg = dict(type='Pretrained', checkpoint=..., prefix='backbone.') in the "
                'backbone and, if it is a detector that has one, in roi_head.shared_head.'
            )


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.cpu(), other.cpu())


def _differences(what: str, own: State, saved: State, changed: tuple[str, set[str]]) -> str:
    """In words how the weights ``own`` of a ``what`` and those of a checkpoint differ, or empty."""
    groups = [
        ('not in the checkpoint', own.keys() - saved.keys()),
        (f'not in the {what}', saved.keys() - own.keys()),
        changed,
    ]
    return '; '.join(f'{name}: {listed(sorted(names))}' for name, names in groups if names)


def digest(content: Any) -> str:
    """Hash of plain content, 16 digits; the order of the keys of a dict does not matter."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def read_backbone(path: str | Path) -> PretrainedBackbone:
    """Read the backbone of a checkpoint of a pre-training run.

    Nothing in the file is executed: tensors are read without pickled code, the config is parsed as
    data, and its components must be registered ones.

    Args:
        path (str | Path): File ``epoch_*.pth`` or ``iter_*.pth`` that MMEngine's runner wrote,
            of any method.

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
    weights = _weights(path, checkpoint['state_dict'])
    config, meta = run_config(path, checkpoint), checkpoint['meta']
    model = config.get('model')
    if not isinstance(model, dict) or not isinstance(model.get('backbone'), dict):
        raise ValueError(f'The config in {path} has no model.backbone. Give another checkpoint.')
    preprocessor = dict(model.get('data_preprocessor') or config.get('data_preprocessor') or {})
    preprocessor.pop('type', None)
    backbone = model.backbone.to_dict()
    backbone.pop('init_cfg', None)
    try:
        require_registered(backbone)
    except ValueError as error:
        raise ValueError(f'The backbone of {path} is not built: {error}') from error
    name = str(meta.get('experiment_name', ''))  # MMEngine appends date and time.
    experiment = name.rsplit('_', 2)[0] if name.count('_') > 1 else name or model.get('type', '')
    return PretrainedBackbone(
        path, weights, backbone, preprocessor, meta.get('epoch', 0), experiment, config
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint of MMEngine's runner on the CPU, without executing anything in it.

    It has ``state_dict`` and ``meta``, both dicts. A file without ``state_dict`` raises
    ``ValueError``.
    """
    checkpoint = CheckpointLoader.load_checkpoint(str(path), 'cpu', logger='silent')
    if 'state_dict' not in checkpoint:
        raise ValueError(
            f'{path} has no "state_dict": it is no checkpoint of MMEngine. Give the epoch_*.pth of '
            'a pre-training run.'
        )
    meta = checkpoint.get('meta')
    return {**checkpoint, 'meta': meta if isinstance(meta, dict) else {}}


def check_fit(model: nn.Module, state: State, source: str, prefix: str = '') -> None:
    """Raise ``ValueError`` unless a checkpoint has the weights of this model.

    MMEngine loads what fits and only logs the rest. ``source`` is the name of the checkpoint in the
    message; only weights whose names begin with ``prefix`` are compared.
    """
    saved = {name.removeprefix('module.'): value for name, value in state.items()}
    saved = {name: value for name, value in saved.items() if name.startswith(prefix)}
    own = {name: value for name, value in model.state_dict().items() if name.startswith(prefix)}
    # Buffers of memories take their size from the checkpoint and check it themselves.
    parameters = {name for name, _ in model.named_parameters()} & own.keys() & saved.keys()
    reshaped = {name for name in parameters if own[name].shape != saved[name].shape}
    found = _differences('model', own, saved, ('of another shape', reshaped))
    if found:
        raise ValueError(
            f'{source} is not a checkpoint of this {type(model).__name__}. Weights {found}. '
            'Config and checkpoint must be of the same run.'
        )


def _weights(path: Path, state: State) -> dict[str, Tensor]:
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


def run_config(path: Path, checkpoint: dict[str, Any]) -> Config:
    """The config of the run that wrote a checkpoint, parsed as data; ``ValueError`` without one."""
    text = checkpoint['meta'].get('cfg')
    if not text:
        raise ValueError(
            f"{path} does not hold the config of its run (meta['cfg']), which MMEngine's runner "
            'writes. Without it the network cannot be built.'
        )
    try:
        return parse_config(text)
    except ValueError as error:
        raise ValueError(f"The config in {path} (meta['cfg']) is refused: {error}") from error
