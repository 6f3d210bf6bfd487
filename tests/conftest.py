import os
import random
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

# Small tensors gain nothing from threads. The libraries read this when they are imported, here and
# in the processes that tests start.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import torch  # noqa: E402

torch.set_num_threads(1)
# Without a GPU the kernels are interpreted. Triton reads this on import, which MMEngine triggers.
if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of detection where mmcv has no compiled operations."""
    marked = [item for item in items if item.get_closest_marker('detection')]
    if marked and find_spec('mmcv._ext') is None:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason='needs mmcv.ops: make detection'))


@pytest.fixture(autouse=True, scope='session')
def default_signals() -> Iterator[None]:
    """Heed Ctrl-C and SIGHUP, which a shell ignores in the background and ``nohup`` everywhere."""
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Seed the global generators."""
    random.seed(0)
    torch.manual_seed(0)
    if 'numpy' in sys.modules:
        sys.modules['numpy'].random.seed(0)


@pytest.fixture(autouse=True)
def clean_host() -> Iterator[None]:
    """Remove the scopes, loggers, hubs and visualizers that a runner has created."""
    if 'mmengine' not in sys.modules:  # tests/ops
        yield
        return
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer

    kinds = (DefaultScope, MMLogger, MessageHub, Visualizer)
    before = [dict(kind._instance_dict) for kind in kinds]
    yield
    for kind, kept in zip(kinds, before, strict=True):
        for name in set(kind._instance_dict) - set(kept):
            instance = kind._instance_dict.pop(name)
            for handler in getattr(instance, 'handlers', []):
                handler.close()


@pytest.fixture(autouse=True)
def brief_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runners neither search for compilers nor format their config."""
    if 'mmengine' in sys.modules:
        from mmengine.config import config
        from mmengine.runner import runner

        monkeypatch.setattr(runner, 'collect_env', dict)
        # onedl-mmengine imports the function where it is used.
        owner = config if hasattr(config, 'FormatCode') else import_module('yapf.yapflib.yapf_api')
        monkeypatch.setattr(owner, 'FormatCode', lambda text, **_: (text, False))


@pytest.fixture(scope='session')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 training and 12 test images in 3 classes."""
    from . import toy

    return toy.image_folder(tmp_path_factory.mktemp('toy') / 'images')
