"""Command lines: what is merged into a config, and what is refused."""

from argparse import ArgumentParser

import pytest
from mmengine.config import Config

from mmselfsup_invp.cli.arguments import add_run_arguments
from mmselfsup_invp.config import merge_options, read_config


@pytest.fixture
def cfg():
    return Config(
        dict(
            model=dict(type='InvP'),
            data_root='data/',
            default_hooks=dict(memory=dict(type='PropagationMemoryHook', ramp_epochs=30)),
        )
    )


class TestMergeOptions:
    @pytest.mark.parametrize(
        ('key', 'value'),
        [
            ('default_hooks.memory.ramp_epochs', 0),
            ('model.head', None),
            ('data_root', 'elsewhere/'),
            # Not in the file, but a runner reads them.
            ('load_from', 'epoch_1.pth'),
            ('val_cfg', None),
            ('randomness.deterministic', True),
            ('env_cfg.cudnn_benchmark', True),
            ('compile', True),
            ('custom_imports.imports', ['mine']),
        ],
    )
    def test_what_is_known_is_set(self, cfg, key, value):
        merge_options(cfg, {key: value})
        found = cfg
        for part in key.split('.'):
            found = found[part]
        assert found == value

    def test_nothing_to_merge(self, cfg):
        merge_options(cfg, None)
        assert cfg.data_root == 'data/'

    @pytest.mark.parametrize(
        ('key', 'message'),
        [
            (
                'default_hook.memory.ramp_epochs',
                "has no 'default_hook'. Did you mean default_hooks.* Its names: data_root, ",
            ),
            ('modle.head.hops', "has no 'modle'. Did you mean model"),
            ('zzz', r"has no 'zzz'\. Its names: data_root, default_hooks, model\."),
            (
                'default_hooks.memroy.ramp_epochs',
                'default_hooks.memroy: the config has no hook of that name. Did you mean memory',
            ),
            ('default_hooks.knn.k', r'Its hooks: memory\. To add one, give default_hooks.knn.type'),
        ],
    )
    def test_what_means_nothing_is_refused(self, cfg, key, message):
        with pytest.raises(ValueError, match=message):
            merge_options(cfg, {key: 1})

    def test_a_hook_may_be_added_with_its_type(self, cfg):
        merge_options(cfg, {'default_hooks.knn.k': 5, 'default_hooks.knn.type': 'KNNEvalHook'})
        assert cfg.default_hooks.knn == dict(type='KNNEvalHook', k=5)


class TestReadConfig:
    def test_a_path_and_a_name_in_a_package(self, tmp_path):
        (tmp_path / 'mine.py').write_text('number = 1\n')
        assert read_config(tmp_path / 'mine.py').number == 1
        assert read_config('mmselfsup::selfsup/_base_/default_runtime.py').default_scope

    def test_a_missing_config_names_those_like_it(self, tmp_path):
        (tmp_path / 'mine.py').touch()
        with pytest.raises(FileNotFoundError, match='no config .*mime.py. Did you mean mine.py'):
            read_config(tmp_path / 'mime.py')
        with pytest.raises(FileNotFoundError, match='Nor is there that folder'):
            read_config(tmp_path / 'nowhere' / 'mine.py')

    def test_a_missing_package_is_not_installed(self, monkeypatch):
        monkeypatch.setattr('mmengine.hub.hub.install_package', None)
        with pytest.raises(ValueError, match="the package 'mmselfsub' is not installed"):
            read_config('mmselfsub::selfsup/mine.py')


class TestOptions:
    @pytest.fixture
    def parser(self):
        parser = ArgumentParser()
        add_run_arguments(parser)
        return parser

    def test_values(self, parser):
        args = parser.parse_args(['--cfg-options', 'a.b=[1,2]', 'c=', 'd=x=y'])
        assert args.cfg_options == {'a.b': [1, 2], 'c': '', 'd': 'x=y'}
        assert args.launcher == 'none' and not args.debug

    @pytest.mark.parametrize(
        ('word', 'message'),
        [
            ('word', "'word' is not of the form KEY=VALUE"),
            ('=1', "'=1' is not"),
            ('a=[1,2', 'brackets'),
        ],
    )
    def test_a_word_that_is_none_is_named(self, parser, capsys, word, message):
        with pytest.raises(SystemExit):
            parser.parse_args(['--cfg-options', 'a=1', word])
        assert message in capsys.readouterr().err
