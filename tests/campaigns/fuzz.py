"""Train with wrong options and count how each is refused.

Every case changes one option of a config to a value that is certainly not valid, or misspells a
name, and runs one epoch of three iterations in a process of its own::

    python tests/campaigns/fuzz.py --cases 1000 --seed 0
"""

import argparse
import copy
import inspect
import math
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mmengine.config import Config  # noqa: E402
from mmengine.runner import EpochBasedTrainLoop  # noqa: E402

import mmselfsup_invp  # noqa: E402, F401  (registers)
from mmselfsup_invp.cli.errors import plain_errors  # noqa: E402
from mmselfsup_invp.cli.training import train  # noqa: E402
from mmselfsup_invp.compat.host import HOOKS, MODELS  # noqa: E402
from mmselfsup_invp.config import RUNNER_KEYS  # noqa: E402
from mmselfsup_invp.options import options_of  # noqa: E402
from tests import toy  # noqa: E402
from tests.campaigns.forked import TRACEBACK, run_and_exit  # noqa: E402

DIGITS = sorted((ROOT / 'configs').glob('*/*_digits.py'))
# Sizes that fit the 24 images of the toy data set.
SMALL = dict(
    num_workers=0, persistent_workers=False, batch_size=8, max_epochs=1, k=3, num_neighbours=2,
    num_clusters=4, num_negatives=6, num_classes=4, num_heads=2, num_events=2,
)  # fmt: skip
# Options of which every number within their range is valid, also where the config has an integer.
REAL = {
    'brightness', 'contrast', 'decay_mult', 'degrees', 'dropout', 'eps', 'eta_min', 'hue',
    'intra_weight', 'lambd', 'lambda_inv', 'lr', 'margin', 'mean', 'momentum', 'p', 'power',
    'ramp_epochs', 'saturation', 'schedule_epochs', 'std', 'weight_decay',
}  # fmt: skip
# Texts that are no choice among names, and keys whose values are never checked by anyone.
FREE = {'ann_file', 'data_prefix', 'data_root', 'experiment_name', 'name', 'prefix', 'work_dir'}
SKIPPED = {'_scope_', 'imports', 'init_cfg', 'metainfo', 'type', 'custom_cfg', 'visualizer'}
SKIPPED |= {'env_cfg', 'vis_backends', 'log_processor', 'img_path', 'pretrained', 'experiment_name'}
NUMBERS = [math.nan, math.inf, -math.inf, True, 'some', []]
# How a run can end. The first is the goal, the last four are faults.
OUTCOMES = ('named', 'vague', 'late', 'traceback', 'silent', 'crash')
COUNTER = 'iterations'


@dataclass
class Case:
    """One wrong option: where it stands in which config, and what it is."""

    config: str
    path: tuple[str | int, ...]
    name: str
    value: Any

    def apply(self, cfg: Config) -> Config:
        """A copy of the config with the wrong option."""
        changed = copy.deepcopy(cfg)
        part = changed._cfg_dict
        for key in self.path[:-1]:
            part = part[key]
        if self.name != self.path[-1]:
            del part[self.path[-1]]
        part[self.name] = self.value
        return changed

    def __str__(self) -> str:
        place = '.'.join(map(str, (*self.path[:-1], self.name)))
        return f'{self.config}: {place} = {str(self.value)[:60]!r}'


def configs(folder: Path) -> dict[str, Config]:
    """Digits configs and those of the toy models, at sizes that train in a second."""
    images = toy.image_folder(folder / 'images')
    found = {path.stem: Config.fromfile(path) for path in DIGITS if 'batchaug' not in path.stem}
    models = dict(momentum_invp=toy.model_config('MomentumInvP'))
    models['momentum_interclr'] = toy.interclr_config('MomentumInterCLR')
    for name, model in models.items():
        cfg = toy.runner_config(images, folder, 1, model=model)
        if name == 'momentum_interclr':
            still = toy.loader(images)
            cfg.custom_hooks[1] = dict(type='OnlineClusterHook', extract_dataloader=still)
        cfg.train_dataloader.dataset.pipeline[1].num_views = 2
        found[name] = cfg
    for cfg in found.values():
        _shrink(cfg._cfg_dict, str(images))
    return found


def _shrink(part: Any, data_root: str) -> None:
    if isinstance(part, (list, tuple)):
        for entry in part:
            _shrink(entry, data_root)
    if not isinstance(part, dict):
        return
    for key, value in part.items():
        if key == 'data_root':
            part[key] = data_root
        elif key in SMALL and type(value) is type(SMALL[key]):
            part[key] = SMALL[key]
        else:
            _shrink(value, data_root)


def options(cfg: Config) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Place and value of every option that something reads, and of those left at their default."""
    for key in sorted(RUNNER_KEYS & set(cfg)):
        yield from _options((key,), cfg[key])


def _options(path: tuple[str | int, ...], value: Any) -> Iterator[tuple[tuple, Any]]:
    key = path[-1]
    if key in SKIPPED:
        return
    if not isinstance(key, int):
        yield path, value
    if isinstance(value, dict):
        defaults = _defaults(value)
        for name, child in {**defaults, **value}.items():
            yield from _options((*path, name), child)
    elif isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
        for number, entry in enumerate(value):
            yield from _options((*path, number), entry)


def _defaults(part: dict) -> dict[str, Any]:
    """Options of a component of this package that the config does not set."""
    for group in (MODELS, HOOKS):
        component = group.module_dict.get(part.get('type'))
        if component is not None and component.__module__.startswith('mmselfsup_invp'):
            return {
                name: option.default
                for name, option in options_of(component).items()
                if option.default is not inspect.Parameter.empty and option.default is not None
            }
    return {}


def wrong_values(name: str, value: Any) -> list[Any]:
    """Values of an option that are certainly not valid."""
    if isinstance(value, bool):
        return ['no', 'False', 2, 0.5, math.nan, []]
    if isinstance(value, int):
        return [*NUMBERS, 10**30, -(10**30), *([] if name in REAL else [2.5])]
    if isinstance(value, float):
        return [*NUMBERS, 1e30, -1e30]
    if isinstance(value, str):
        return [5, math.nan, [3], *([] if name in FREE else [value + 'x'])]
    if isinstance(value, dict):
        return [5, math.nan, *([] if name in FREE else ['some'])]
    if isinstance(value, (list, tuple)):
        return [math.nan, {'some': 1}, [*value, object]] if name != 'custom_hooks' else ['some']
    return []


def misspelt(name: str, draw: random.Random) -> str:
    """The name without a letter or with two letters exchanged."""
    at = draw.randrange(1, len(name) - 1)
    swapped = name[:at] + name[at + 1] + name[at] + name[at + 2 :]
    return draw.choice([name[:at] + name[at + 1 :], swapped])


def draw_cases(cfgs: dict[str, Config], count: int, seed: int) -> list[Case]:
    """Draw wrong options, a fifth of them misspelt names."""
    draw = random.Random(seed)
    places = {name: list(options(cfg)) for name, cfg in cfgs.items()}
    cases: list[Case] = []
    while len(cases) < count:
        config = draw.choice(list(cfgs))
        path, value = draw.choice(places[config])
        name = str(path[-1])
        # Names of hooks are free, and the defaults are not in the config to be renamed.
        free = path[-2:-1] == ('default_hooks',) or len(name) < 5
        if draw.random() < 0.2 and not free:
            wrong = misspelt(name, draw)
            if wrong != name and _is_set(cfgs[config], path):
                cases.append(Case(config, path, wrong, value))
        elif values := wrong_values(name, value):
            cases.append(Case(config, path, name, draw.choice(values)))
    return cases


def _is_set(cfg: Config, path: tuple[str | int, ...]) -> bool:
    part = cfg
    for key in path[:-1]:
        part = part[key]
    return path[-1] in part


def run(case: Case, cfg: Config, folder: Path, limit: int = 120) -> tuple[str, str]:
    """Train in a forked process; return the outcome and what it printed."""
    log = folder / 'log.txt'
    counter = folder / COUNTER
    counter.unlink(missing_ok=True)
    pid = os.fork()
    if not pid:
        run_and_exit(partial(_train, case, cfg, folder), log)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.alarm(limit)
    _, status = os.waitpid(pid, 0)
    signal.alarm(0)
    text = log.read_text(errors='replace')
    if os.WIFSIGNALED(status):
        return 'crash', text
    code = os.WEXITSTATUS(status)
    if code == 0:
        return 'silent', text
    if counter.exists():
        return 'late', text
    if code == TRACEBACK:
        return 'traceback', text
    message = text[text.rfind('error: ') :]
    return ('named' if _names(case, message) else 'vague'), text


def _names(case: Case, message: str) -> bool:
    value = repr(case.value.to_dict() if hasattr(case.value, 'to_dict') else case.value)
    return case.name in message and value[:20] in message


def _train(case: Case, cfg: Config, folder: Path) -> None:
    _count_iterations(folder / COUNTER)
    changed = case.apply(cfg)
    changed._cfg_dict.setdefault('work_dir', tempfile.mkdtemp(dir=folder))
    with plain_errors():
        train(changed)


def _count_iterations(file: Path) -> None:
    run_iter = EpochBasedTrainLoop.run_iter

    def counted(self: EpochBasedTrainLoop, *args: Any) -> None:
        run_iter(self, *args)
        file.touch()

    EpochBasedTrainLoop.run_iter = counted


def campaign(count: int, seed: int, verbose: bool = False) -> tuple[Counter, list[str]]:
    """Run the cases; return how many ended in each outcome, and those that were not named."""
    outcomes: Counter = Counter()
    rest: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cfgs = configs(folder)
        for case in draw_cases(cfgs, count, seed):
            outcome, text = run(case, cfgs[case.config], folder)
            outcomes[outcome] += 1
            if outcome != 'named':
                rest.append(f'{outcome:9} {case}')
                if verbose:
                    print(rest[-1], '|', text.strip()[-300:].replace('\n', ' / '), flush=True)
    return outcomes, rest


def main() -> None:
    """Print the table, and the cases that were not refused by name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cases', type=int, default=1000, help='wrong options to try')
    parser.add_argument('--seed', type=int, default=0, help='seed of the draws')
    args = parser.parse_args()
    outcomes, _ = campaign(args.cases, args.seed, verbose=True)
    for outcome in OUTCOMES:
        print(f'{outcome:9} {outcomes[outcome]:6} {outcomes[outcome] / args.cases:7.1%}')


if __name__ == '__main__':
    main()
