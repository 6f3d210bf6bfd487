"""Which host is used, and what is reported without one."""

import re
from pathlib import Path

import pytest

import mmselfsup_invp
from mmselfsup_invp.compat import versions

ROOT = Path(__file__).resolve().parents[2]
SUPPORTED = versions.HOSTS['mmselfsup']
TESTED = {
    host: {package: tested for package, (_, _, tested) in packages.items()}
    for host, packages in versions.HOSTS.items()
}


def check(host='mmselfsup', **changes):
    return versions.check_versions({**TESTED[host], **changes}.get)


class TestVersions:
    def test_requirements_and_lock_agree(self):
        asked = (ROOT / 'requirements' / 'mim.txt').read_text().splitlines()
        locked = (ROOT / 'requirements' / 'locked.txt').read_text().splitlines()
        for package, (low, end, tested) in SUPPORTED.items():
            name = versions.ALTERNATIVES.get(package, package)
            assert f'{name}=={tested}' in locked
            (line,) = (line for line in asked if re.match(rf'{name}[<>]', line))
            assert line.endswith(f'<{end}')
            if package.startswith('mm'):
                assert line == f'{name}>={low},<{end}'

    def test_installed_and_tested_versions_are_supported(self):
        versions.require_host()
        assert check() is None

    @pytest.mark.parametrize(
        'versions',
        [
            dict(torch='2.0.0'),
            dict(torch='2.11.9+cu130'),
            dict(mmcls='1.0.0'),
            dict(mmengine='0.10.4', numpy='1.24.1', setuptools='60.2.0'),
        ],
    )
    def test_versions_in_the_range_are_supported(self, versions):
        assert check(**versions) is None

    @pytest.mark.parametrize(
        ('package', 'found'),
        [
            ('torch', '1.13.1+cu117'),
            ('torch', '2.12.0+cpu'),
            ('mmengine', '0.9.1'),
            ('mmengine', '1.0.0'),
            ('mmcv', '1.7.2'),
            ('mmcv', '2.1.0'),
            ('mmcls', '1.0.0rc5'),
            ('mmselfsup', '0.11.0'),
            ('mmselfsup', '1.1.0'),
            ('numpy', '2.0.0'),
            ('setuptools', '81.0.0'),
        ],
    )
    def test_other_versions_are_named_with_the_command(self, package, found):
        low, end, tested = SUPPORTED[package]
        message = check(**{package: found})
        assert f'\n    {package} >={low},<{end}, but {found} is installed\n' in message
        assert f'pip install "{package}=={tested}"\n' in message

    def test_missing_packages_are_named_together(self, monkeypatch):
        message = check(mmcv=None, mmselfsup=None)
        assert 'mmcv >=2.0.0,<2.1.0, but it is not installed' in message
        assert 'pip install "mmcv-lite==2.0.1" "mmselfsup==1.0.0"\n' in message
        monkeypatch.setattr(versions, 'host_error', lambda: message)
        with pytest.raises(versions.UnsupportedHost, match='mmselfsup >=1.0.0'):
            mmselfsup_invp.register_all_modules()

    def test_either_distribution_of_mmcv_counts(self, monkeypatch):
        def version(name):
            if name not in installed:
                raise versions.PackageNotFoundError(name)
            return installed[name]

        monkeypatch.setattr(versions, 'version', version)
        for name in ('mmcv', 'mmcv-lite'):
            installed = {name: '2.0.1'}
            assert versions.installed_version('mmcv') == '2.0.1'
        assert versions.installed_version('mmcls') is None


class TestHosts:
    @pytest.mark.parametrize('host', versions.HOSTS)
    def test_the_tested_versions_of_each_are_supported(self, host):
        assert versions.find_host(TESTED[host].get) == host and check(host) is None

    def test_the_first_whose_packages_fit_is_used(self):
        both = {**TESTED['mmpretrain'], **TESTED['mmselfsup']}
        assert versions.find_host(both.get) == 'mmselfsup'
        assert versions.find_host({**both, 'mmcv': '2.1.0'}.get) == 'mmpretrain'

    @pytest.mark.parametrize(
        ('host', 'name'), [(host, host.removeprefix('onedl-')) for host in versions.HOSTS]
    )
    def test_its_name_is_that_of_the_module(self, monkeypatch, host, name):
        monkeypatch.setattr(versions, 'installed_version', TESTED[host].get)
        assert versions.host_name.__wrapped__() == name

    def test_the_message_is_about_the_installed_one(self):
        message = check('mmpretrain', mmpretrain='1.1.0', mmcv=None)
        assert message.startswith('Its components for MMPretrain need\n')
        assert '\n    mmpretrain >=1.2.0,<1.3.0, but 1.1.0 is installed\n' in message
        assert 'pip install "mmcv-lite==2.1.0" "mmpretrain==1.2.0"\n' in message

    @pytest.mark.parametrize(
        ('host', 'mmcv', 'mmdet', 'command'),
        [
            ('mmpretrain', {'mmcv': '2.2.0'}, '3.3.0', 'pip install "mmcv==2.1.0"'),
            ('mmpretrain', {'mmcv': '2.1.0'}, '3.3.0', None),
            ('mmpretrain', {'mmcv': '2.2.0'}, None, None),
            ('onedl-mmpretrain', {}, '3.3.0', 'pip uninstall mmdet'),
            ('onedl-mmpretrain', {}, None, None),
        ],
    )
    def test_a_detector_that_stops_the_import_is_named(self, host, mmcv, mmdet, command):
        """mmdet 3.3.0 raises an AssertionError beside mmcv >= 2.2.0."""
        message = check(host, **mmcv, mmdet=mmdet)
        assert bool(message) == bool(command)
        if command:
            assert 'without mmdet 3.3.0, whose import fails beside mmcv >=2.2.0' in message
            assert command in message

    @pytest.mark.parametrize('host', ['mmpretrain', 'onedl-mmpretrain'])
    def test_requirements_are_the_tested_versions(self, host):
        """Of the packages in which the hosts differ, and of those that all pin."""
        lines = (ROOT / 'requirements' / f'host-{host}.txt').read_text().splitlines()
        for package, tested in TESTED[host].items():
            assert f'{versions.ALTERNATIVES.get(package, package)}=={tested}' in lines
