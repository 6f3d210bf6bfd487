"""Export of the backbone of a checkpoint."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation import PretrainedBackbone, read_backbone
from ..version import __version__
from .network import Network, build_network
from .targets import TARGETS, Verification


@dataclass(frozen=True)
class Export:
    """An exported backbone.

    Attributes:
        path (Path): The file.
        tensors (int): Number of tensors.
        values (int): Number of values in all tensors.
        verified (Verification): How the file was verified.
        meta (dict): Metadata in the file; see :func:`export_backbone`.
        usage (str): Code that loads the file.
    """

    path: Path
    tensors: int
    values: int
    verified: Verification
    meta: dict[str, Any]
    usage: str


def export_backbone(
    checkpoint: str | Path, to: str, out: str | Path | None = None, force: bool = False
) -> Export:
    """Export the backbone of a pre-training checkpoint to another library.

    The file is written to a temporary name, read again and compared with the network of the
    checkpoint, and then renamed. Its metadata are ``checkpoint``, ``experiment``, ``epochs``,
    ``network``, ``channel_order`` and, if the run normalised images, ``mean`` and ``std`` of pixel
    values from 0 to 255.

    Args:
        checkpoint (str | Path): ``epoch_*.pth`` of a pre-training run.
        to (str): ``'torchvision'``, ``'timm'``, ``'detectron2'`` or ``'mmdet'``, for ResNets;
            ``'mmselfsup'``, for any network.
        out (str | Path, optional): File to write. Defaults to None: a file beside the checkpoint
            with the name of the library.
        force (bool): Whether to replace an existing file. Defaults to False.

    Returns:
        Export: The file and how it was verified.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        FileExistsError: If the file exists and ``force`` is not set.
        ModuleNotFoundError: If the library that verifies the file is not installed.
        ValueError: If the checkpoint cannot be read, its weights do not fit its network, the
            library does not support the network, or the verification fails.

    Example:
        >>> export = export_backbone('epoch_800.pth', 'torchvision')  # doctest: +SKIP
        >>> model = torchvision.models.resnet50()  # doctest: +SKIP
        >>> model.load_state_dict(torch.load(export.path), strict=False)  # doctest: +SKIP
    """
    if to not in TARGETS:
        raise ValueError(f'There is no target {to!r}. Valid are {", ".join(TARGETS)}.')
    target = TARGETS[to]
    backbone = read_backbone(checkpoint)
    path = _free_path(backbone.path, to, out, force)
    network = build_network(backbone)
    _require_supported(network, to)
    meta = _metadata(backbone, network)
    weights = {target.rename(name): value for name, value in network.module.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        target.save(weights, meta, part)
        verified = target.verify(part, network)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    values = sum(value.numel() for value in weights.values())
    return Export(path, len(weights), values, verified, meta, target.usage(path, network, meta))


def _free_path(checkpoint: Path, to: str, out: str | Path | None, force: bool) -> Path:
    suffix = TARGETS[to].suffix
    path = Path(out) if out else checkpoint.with_name(f'{checkpoint.stem}_{to}{suffix}')
    if path.suffix != suffix:
        raise ValueError(f'The file to write, {path}, must end in {suffix} for {to}.')
    if path.resolve() == checkpoint.resolve():
        raise ValueError(f'The file to write, {path}, is the checkpoint itself. Give another name.')
    if path.exists() and not force:
        raise FileExistsError(
            f'{path} exists. Give another name, or replace it by --force (force=True).'
        )
    return path


def _require_supported(network: Network, to: str) -> None:
    unsupported = TARGETS[to].unsupported(network)
    if not unsupported:
        return
    known = {name: valid for name, valid in unsupported.items() if name in network.settings}
    found = ', '.join(f'{name} = {network.settings[name]!r}' for name in known)
    valid = '; '.join(f'{name} {" or ".join(map(str, valid))}' for name, valid in known.items())
    others = [name for name, target in TARGETS.items() if not target.unsupported(network)]
    raise ValueError(
        f'{to} does not support the network of this checkpoint: {network}. Found {found}; '
        f'supported: {valid}. Use --to {" or --to ".join(others)}.'
    )


def _metadata(backbone: PretrainedBackbone, network: Network) -> dict[str, Any]:
    pixels = backbone.preprocessor
    meta = dict(
        writer=f'mmselfsup_invp {__version__}',
        checkpoint=backbone.path.name,
        experiment=backbone.experiment,
        epochs=backbone.epoch,
        network=str(network),
        channel_order='RGB' if pixels.get('bgr_to_rgb') else 'BGR',
    )
    normalisation = {name: pixels.get(name) for name in ('mean', 'std')}
    if None not in normalisation.values():
        meta |= {name: [float(value) for value in each] for name, each in normalisation.items()}
    return meta
