"""Importing the package in environments with other packages than this one."""

import os
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mmselfsup_invp.compat import installed_version

ROOT = Path(__file__).resolve().parent.parent
USE_CORE = """
import sys, torch, mmselfsup_invp
from mmselfsup_invp import ops
from mmselfsup_invp.memory import Clusters, FeatureBank, KNNGraph

rows = torch.eye(4)
nearest = ops.top_m(rows, rows, 3)
loss = ops.instance_loss(rows, rows, torch.arange(4), nearest, ops.HardSampling(0.5))
assert loss.isfinite().all()
bank, graph = FeatureBank(feat_dim=4, length=12), KNNGraph(num_neighbours=2, length=12)
bank.update(torch.arange(3), rows[:3])
graph.rebuild(bank.bank)
clusters = Clusters(num_clusters=3, feat_dim=4, length=12)
clusters.cluster(bank.bank)
assert clusters.clustered and (graph.neighbours >= 0).all()
assert not {'mmengine', 'mmcv', 'mmdet', 'scipy', 'sklearn', 'faiss'} & set(sys.modules)
"""
USE_MODELS = """
import mmselfsup_invp
for use in (mmselfsup_invp.register_all_modules, lambda: mmselfsup_invp.models):
    try:
        use()
    except mmselfsup_invp.compat.UnsupportedHost as error:
        print(error)
"""
CONFIG = "custom_imports = dict(imports=['mmselfsup_invp'])\nmodel = dict(type='InvP')\n"
USE_CONFIG = f"""
from mmengine.config import Config
from mmengine.registry import MODELS
MODELS.build(Config.fromstring({CONFIG!r}, '.py').model)
"""


def requirements(name: str, found: set[str]) -> set[str]:
    """Names of installed distributions: this one and all that it requires."""
    name = name.lower().replace('_', '-')
    try:
        required = distribution(name).requires or []
    except PackageNotFoundError:  # For another platform or Python.
        return found
    if name not in found:
        found.add(name)
        for each in map(Requirement, required):
            if each.marker is None or each.marker.evaluate({'extra': ''}):
                requirements(each.name, found)
    return found


@cache
def paths(name: str) -> dict[str, Path]:
    """Files and folders of an installed distribution by name."""
    found = distribution(name)
    names = {file.parts[0] for file in found.files} - {'..', '__pycache__'}
    return {each: Path(found.locate_file(each)) for each in names}


@pytest.fixture(scope='module')
def environments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with some of the installed packages and what these require, by name."""
    mmcv = 'mmcv-lite' if installed_version('mmcv-lite') else 'mmcv'
    contents = {
        'torch': ['torch'],
        'mmengine': ['torch', 'mmengine', 'setuptools'],
        'mmdet': ['torch', 'mmengine', 'setuptools', 'torchvision', mmcv, 'mmdet'],
    }
    folders = {name: tmp_path_factory.mktemp(name) for name in contents}
    for name, folder in folders.items():
        for each in set().union(*(requirements(one, set()) for one in contents[name])):
            for top, path in paths(each).items():
                if not (folder / top).exists():
                    (folder / top).symlink_to(path)
    return folders


def run(folder: Path, code: str) -> subprocess.CompletedProcess:
    """Run code with the packages of a folder and this tree alone."""
    path = os.pathsep.join([str(ROOT), str(folder)])
    return subprocess.run(
        [sys.executable, '-S', '-c', code],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize('name', ['torch', 'mmengine', 'mmdet'])
def test_ops_and_memory_need_torch_alone(environments, name):
    done = run(environments[name], USE_CORE)
    assert done.returncode == 0, done.stderr
    assert not done.stdout and 'mmselfsup_invp' not in done.stderr


def test_parts_that_need_the_host_report_all_missing_packages(environments):
    done = run(environments['mmdet'], USE_MODELS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('mmselfsup >=1.0.0,<1.1.0, but it is not installed') == 2
    assert 'pip install "mmcls==1.0.0rc6" "mmselfsup==1.0.0"\n' in done.stdout
    assert done.stderr == ''


def test_a_config_beside_an_unsupported_host_is_explained(environments):
    done = run(environments['mmdet'], USE_CONFIG)
    assert done.returncode == 1
    assert 'mmselfsup_invp registered no components' in done.stderr
    assert 'mmselfsup >=1.0.0,<1.1.0, but it is not installed' in done.stderr
