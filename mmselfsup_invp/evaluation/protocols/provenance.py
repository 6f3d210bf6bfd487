"""What a result was made with, so that it is never given out as that of something else."""

import json
import shutil
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...datasets.files import write_whole
from ..checkpoints import digest
from .data import data_roots, lists_digest
from .job import Job
from .results import changes_text, read_results

NOTE = 'provenance.json'
WORDS = dict(
    checkpoint='another checkpoint',
    config='another config',
    data='other data',
    lists='other lists of images',
    metric='another metric',
)
# How fast a result comes, not which; and the data's folder, which is compared on its own.
NO_MATTER = ('data_root', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')
# Of the `benchmark` entry; the other keys only name things.
RECIPE = ('kind', 'backbone', 'options')


def provenance(job: Job) -> dict[str, Any]:
    """What decides about the result of a job, besides its seed, which is in the file's name.

    Args:
        job (Job): The data's lists have to be there; see :func:`~.data.check_data`.

    Returns:
        dict: Hashes ``checkpoint``, ``config`` and ``lists`` (of the images), the folders ``data``,
        and ``changes``, the settings of the command line that the benchmark's config has otherwise.
    """
    config = job.config.to_dict()
    config['benchmark'] = {key: config['benchmark'].get(key) for key in RECIPE}
    return dict(
        checkpoint=job.backbone.fingerprint(job.random_init),
        config=digest(_that_matters(config)),
        data=', '.join(data_roots(job.config)),
        lists=lists_digest(job.config),
        changes={
            key: value
            for key, value in job.changes.items()
            if key.rpartition('.')[2] not in NO_MATTER
        },
    )


def effective(config: Config, changes: dict[str, Any]) -> dict[str, Any]:
    """Those of some settings that a config does not have already.

    Args:
        config (Config): Without the settings; left as it is.
        changes (dict): Settings by their dotted names.
    """
    before = config.to_dict()
    found = {}
    for key, value in changes.items():
        changed = Config(config.to_dict())
        changed.merge_from_dict({key: value})
        if changed.to_dict() != before:
            found[key] = value
    return found


def _that_matters(config: Any) -> Any:
    if isinstance(config, dict):
        items = config.items()
        return {key: _that_matters(value) for key, value in items if key not in NO_MATTER}
    return list(map(_that_matters, config)) if isinstance(config, (list, tuple)) else config


def finished(job: Job) -> dict[str, Any] | None:
    """The result of an earlier call, if there is one.

    Args:
        job (Job): What is asked for now. Its work folder, and the result beside it, are looked at.

    Returns:
        dict | None: What :func:`~.write_outcome` wrote.

    Raises:
        ValueError: If the result, or what lies in the work folder, was made with something else, or
            does not say with what. The message names the difference and what to do.

    Example:
        >>> finished(job)['value']  # doctest: +SKIP
        98.3
    """
    now, entry = provenance(job), None
    if job.result.is_file():
        found = read_results(job.result)[0]
        entry = found[0] if found else {}
        former = {**(entry.get('provenance') or {}), 'metric': entry.get('metric')}
        _require_same(job, job.result, former, dict(now, metric=job.benchmark.metric))
    if job.work_dir.is_dir() and any(job.work_dir.iterdir()):
        note = job.work_dir / NOTE
        _require_same(
            job, job.work_dir, json.loads(note.read_text()) if note.is_file() else {}, now
        )
    return entry


def begin(job: Job) -> dict[str, Any]:
    """Note in the work folder what is made there, before anything else is in it.

    Returns:
        dict: What :func:`provenance` gave, for the result.
    """
    origin = provenance(job)
    write_whole(job.work_dir / NOTE, json.dumps(origin, indent=1, default=str) + '\n')
    return origin


def discard(job: Job) -> None:
    """Remove the result and the work folder of an earlier call."""
    job.result.unlink(missing_ok=True)
    if job.work_dir.is_dir():
        shutil.rmtree(job.work_dir)


def _require_same(job: Job, place: Path, former: dict[str, Any], now: dict[str, Any]) -> None:
    parts = [name for name in now if name != 'changes' and former.get(name) != now[name]]
    if not parts:
        return
    if 'checkpoint' not in former:
        what = 'does not say what it was made with'
    else:
        others = '; '.join(f'{WORDS[name]} ({_both(name, former, now)})' for name in parts)
        what = f'was made with {others}'
    raise ValueError(
        f'{job.benchmark.name}: {place} {what}. Repeat it by --force, which removes that result '
        'and its folder, or keep it and name another folder by --out.'
    )


def _both(name: str, former: dict[str, Any], now: dict[str, Any]) -> str:
    if name != 'config':
        return f'{former.get(name)}, now {now[name]}'
    changes = [changes_text(each.get('changes')) or 'nothing' for each in (former, now)]
    return (
        f'{former[name]}, now {now[name]}; changed by --cfg-options: {changes[0]}, now {changes[1]}'
    )
