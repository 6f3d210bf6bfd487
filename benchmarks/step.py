"""Time a whole training step of InvP with its objective and without.

Example:
    python benchmarks/step.py configs/invp/invp_resnet50_1xb128-coslr-200e_in1k.py \
        --num 1281167 --device cuda --precision bfloat16

A step preprocesses a batch of random images that is on the device already, computes the loss and
its gradient, lets the optimiser update the weights, and writes the batch into the bank and the
graph. Without the objective the loss is the mean of the embeddings and there is nothing to write.
The bank is random, and so is the graph, so that every image has positives.
"""

import argparse
import functools
import sys
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import Tensor

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT.parent)]

import common  # noqa: E402

from mmselfsup_invp.compat.host import MODELS, make_sample  # noqa: E402
from mmselfsup_invp.models import InvP  # noqa: E402
from mmselfsup_invp.structures import SampleBatch  # noqa: E402


def make_batch(args: argparse.Namespace) -> dict:
    """Draw images, uint8, ``(B, 3, S, S)``, and the rows that they have in the bank."""
    generator = torch.Generator().manual_seed(0)
    shape = (args.batch, 3, args.size, args.size)
    image = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    rows = torch.randperm(args.num, generator=generator)[: args.batch]
    samples = SampleBatch(make_sample(row.reshape(1), metainfo={}) for row in rows)
    return dict(inputs=[image.to(args.device)], data_samples=samples)


def make_model(config: Config, args: argparse.Namespace) -> tuple[InvP, OptimWrapper]:
    """Build the model with a bank of ``--num`` rows and a random graph, and its optimiser."""
    torch.manual_seed(0)
    model = MODELS.build(config.model).to(args.device)
    model.memory.fit(args.num)
    model.memory.graph.neighbours.random_(args.num)
    options = dict(config.optim_wrapper)
    if args.precision != 'float32':
        options.update(type='AmpOptimWrapper', dtype=args.precision)
    return model, build_optim_wrapper(model, options)


def take_step(model: InvP, optimiser: OptimWrapper, batch: dict) -> dict[str, Tensor]:
    """Train on a batch."""
    losses = model.train_step(batch, optimiser)
    model.memory.commit()
    return losses


def mean_embedding(model: InvP, views: list[Tensor], sample_idx: Tensor) -> dict[str, Tensor]:
    """A loss that costs nothing."""
    return dict(loss=model.embed(views[0]).mean())


def steps(args: argparse.Namespace) -> dict[str, common.Step]:
    config = Config.fromfile(args.config)
    config.merge_from_dict(args.cfg_options or {})
    batch = make_batch(args)
    whole, plain = (make_model(config, args) for _ in range(2))
    plain[0].losses = functools.partial(mean_embedding, plain[0])
    return {
        'with the objective': functools.partial(take_step, *whole, batch),
        'without': functools.partial(take_step, *plain, batch),
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of a config of InvP')
    parser.add_argument('--num', type=int, default=50000, help='rows of the bank')
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--size', type=int, default=224, help='pixels of an edge of the images')
    parser.add_argument(
        '--precision', default='float32', choices=('float32', 'bfloat16', 'float16'),
        help='of the network; others than float32 need a GPU',
    )  # fmt: skip
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='as in tools/train.py')
    return common.parse(parser, lambda args: dict(batch=args.num))


def main() -> None:
    args = parse_args()
    title = (
        f'{Path(args.config).stem}, {args.precision}, N = {args.num}, B = {args.batch}, '
        f'{args.size} x {args.size} pixels'
    )
    common.run(steps, args, title)


if __name__ == '__main__':
    main()
