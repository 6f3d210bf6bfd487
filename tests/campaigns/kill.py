"""Kill training runs at random, resume them and compare them with runs that were never killed.

Every run trains a method for four epochs on toy data, in a process that is forked from this one
and killed by SIGKILL or SIGTERM at a random time, or while a checkpoint is written. It is resumed,
perhaps killed again, and must end with the weights, memories and optimiser state of an
uninterrupted run, bit for bit::

    python tests/campaigns/kill.py --runs 100 --seed 0
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402

import mmselfsup_invp  # noqa: E402, F401  (registers)
from mmselfsup_invp.checkpoint_files import latest_checkpoint  # noqa: E402
from mmselfsup_invp.cli.errors import plain_errors  # noqa: E402
from mmselfsup_invp.cli.training import train  # noqa: E402
from tests import toy  # noqa: E402
from tests.campaigns.forked import run_and_exit  # noqa: E402
from tests.engine.methods import MODELS, changes  # noqa: E402

EPOCHS = 4
LIMIT = 120  # Seconds after which a process counts as hung.
# At the end of every epoch of three iterations, and every two iterations.
INTERVALS = (dict(interval=1, max_keep_ckpts=1), dict(by_epoch=False, interval=2, max_keep_ckpts=1))
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)
MOMENTS = ('at any time', 'in a write')
COLUMNS = ('SIGKILL', 'SIGTERM', *MOMENTS, 'ignored', 'lost')


class Lost(Exception):
    """A run that could not be resumed, or that ended differently."""


@dataclass(frozen=True)
class Reference:
    """The end of an uninterrupted run, and the seconds that it took."""

    state: dict[str, Any]
    seconds: float


class Campaign:
    """Runs of all methods in one folder.

    Args:
        folder (Path): An empty folder.
        seed (int): Seed of the draws. The times at which a process is killed depend on the machine.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.draw = random.Random(seed)
        self.images = toy.image_folder(folder / 'images')
        self.references: dict[str, Reference] = {}

    def run(self, method: str, number: int) -> list[tuple[str, ...]]:
        """Train a method, killing it up to three times.

        Returns:
            list[tuple[str, ...]]: Signal and moment of every kill, and ``'ignored'`` if the process
            finished the run nevertheless.

        Raises:
            Lost: If the run cannot be resumed or ends differently.
        """
        reference = self.reference(method)
        work = self.folder / f'{method}_{number}'
        start = partial(self.start, method, work, self.draw.choice(INTERVALS))
        kills = []
        for _ in range(self.draw.randint(1, 3)):
            moment, sent = self.draw.choice(MOMENTS), self.draw.choice(SIGNALS)
            pid = start()
            if not self.wait_for(moment, pid, work, reference.seconds):
                break  # It ended before.
            os.kill(pid, sent)
            finished = check_end(pid, work, sent) == 0
            if finished and sent == signal.SIGKILL:
                break  # It ended before the signal.
            kills.append((sent.name, moment, *(['ignored'] if finished else [])))
        check_end(start(), work)
        differences = list(differing(reference.state, final_state(work)))
        if differences:
            raise Lost(f'{work.name} after {kills} differs in {differences[:3]}')
        return kills

    def reference(self, method: str) -> Reference:
        """The uninterrupted run of a method, which is trained once."""
        if method not in self.references:
            work = self.folder / method
            began = time.monotonic()
            check_end(self.start(method, work, INTERVALS[0]), work)
            seconds = time.monotonic() - began
            self.references[method] = Reference(final_state(work), seconds)
        return self.references[method]

    def start(self, method: str, work: Path, checkpoint: dict) -> int:
        """Start or resume a run in a forked process; returns its id."""
        options = changes(method, self.images)
        if method == 'ODC':
            options['custom_hooks'].append(dict(type='ODCReweightHook', interval=4))
        hooks = dict(checkpoint=checkpoint)
        cfg = toy.runner_config(self.images, work, EPOCHS, default_hooks=hooks, **options)
        cfg.resume = True
        work.mkdir(exist_ok=True)
        pid = os.fork()
        if not pid:
            run_and_exit(partial(_train, cfg), work / 'log.txt')
        return pid

    def wait_for(self, moment: str, pid: int, work: Path, seconds: float) -> bool:
        """Wait for the moment to kill a process; False if it has ended before."""
        end = time.monotonic() + self.draw.uniform(0, seconds)
        writes = self.draw.randint(1, 3)
        writing = False
        while True:
            if has_ended(pid):
                return False
            if moment == 'at any time':
                if time.monotonic() >= end:
                    return True
                time.sleep(0.002)
                continue
            before, writing = writing, any(work.glob('*.tmp'))
            writes -= writing and not before
            if not writes:
                time.sleep(self.draw.uniform(0, 0.003))
                return not has_ended(pid)
            time.sleep(0.0002)


def has_ended(pid: int) -> bool:
    """Whether a child process has ended; its exit status stays available."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, pid, options) is not None


def check_end(pid: int, work: Path, number: int = 0) -> int:
    """Wait for a process; return its exit code, or raise :class:`Lost` if it is a wrong one."""
    end = time.monotonic() + LIMIT
    while not has_ended(pid):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise Lost(f'{work.name} hung after signal {number}')
        time.sleep(0.002)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    log = (work / 'log.txt').read_text(errors='replace') if (work / 'log.txt').exists() else ''
    # The handler is not yet set, or not any more; or the run has ended between check and signal.
    expected = {signal.SIGKILL: (-9, 0), signal.SIGTERM: (143, -15, 0)}.get(number, (0,))
    if code not in expected:
        raise Lost(f'{work.name} ended with {code} after signal {number}: {log[-600:]}')
    if code == 143 and not ('To resume' in log or 'no checkpoint yet' in log):
        raise Lost(f'{work.name} does not print how to resume: {log[-600:]}')
    return code


def _train(cfg: Config) -> None:
    with plain_errors():
        train(cfg)


def final_state(work: Path) -> dict[str, Any]:
    """Weights, memories and optimiser state in the latest checkpoint of a run."""
    checkpoint = torch.load(latest_checkpoint(work))
    optimizer = checkpoint['optimizer']['state']
    return {
        'iteration': checkpoint['meta']['iter'],
        **checkpoint['state_dict'],
        **{f'optimizer.{index}': state for index, state in optimizer.items()},
    }


def differing(one: Any, other: Any, name: str = '') -> list[str]:
    """Names of the values that are not equal bit for bit, at any depth of dicts."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() | other.keys()
        return [
            found
            for key in names
            for found in differing(one.get(key), other.get(key), f'{name}.{key}'.strip('.'))
        ]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [name]
    return [] if one == other else [name]


def campaign(kills: int, seed: int, verbose: bool = False) -> tuple[dict[str, Counter], list[str]]:
    """Kill so many processes, each method in turn.

    Returns:
        tuple[dict[str, Counter], list[str]]: For every method the number of kills by signal and by
        moment, and what was lost.
    """
    counts = {method: Counter() for method in MODELS}
    lost: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        runs = Campaign(Path(name), seed)
        number = 0
        while sum(count['SIGKILL'] + count['SIGTERM'] for count in counts.values()) < kills:
            method = list(MODELS)[number % len(MODELS)]
            number += 1
            try:
                for kill in runs.run(method, number):
                    counts[method].update(kill)
            except Lost as error:
                counts[method]['lost'] += 1
                lost.append(str(error))
                if verbose:
                    print(lost[-1], flush=True)
    return counts, lost


def main() -> None:
    """Print the table; the exit code is 1 if a run was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--runs', type=int, default=100, help='kills, at least')
    parser.add_argument('--seed', type=int, default=0, help='seed of the draws')
    args = parser.parse_args()
    counts, lost = campaign(args.runs, args.seed, verbose=True)
    counts['all'] = sum(counts.values(), Counter())
    print(f'{"method":18}' + ''.join(f'{column:>13}' for column in COLUMNS))
    for method, count in counts.items():
        print(f'{method:18}' + ''.join(f'{count[column]:13}' for column in COLUMNS))
    sys.exit(bool(lost))


if __name__ == '__main__':
    main()
