"""The config of a command line."""

from argparse import Namespace

import pytest

from mmselfsup_invp.cli.options import parse_values, read_run_config


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('0.1', 0.1),
        ('true', True),
        ('None', None),
        ('', ''),
        ('x=y', 'x=y'),
        ('[1,2]', [1, 2]),
        ('[(a,b),(c,d)]', [('a', 'b'), ('c', 'd')]),
        ('1,2', [1, 2]),
        ('/data/my photos', '/data/my photos'),
        ("'/data/my photos'", '/data/my photos'),
        ("['/data/my photos', 'b']", ['/data/my photos', 'b']),
        ('[a, b]', ['a', 'b']),
    ],
)
def test_values_are_parsed(text, value):
    assert parse_values({'key': text}) == {'key': value}


def test_brackets_that_do_not_match_are_named():
    with pytest.raises(ValueError, match=r'--cfg-options lr=\[1,2: Imbalanced brackets'):
        parse_values({'lr': '[1,2'})


def test_loaders_without_workers_need_no_further_option(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(
        'loader = dict(num_workers=4, persistent_workers=True, prefetch_factor=2)\n'
        'train_dataloader = loader\n'
        "default_hooks = dict(knn=dict(type='KNNEvalHook', query_dataloader=[loader]))\n"
    )
    options = {
        'train_dataloader.num_workers': '0',
        'default_hooks.knn.query_dataloader.0.num_workers': '0',
    }
    cfg = read_run_config(Namespace(config=path, cfg_options=options, launcher='pytorch'))
    expected = dict(num_workers=0, persistent_workers=False)
    assert cfg.train_dataloader == cfg.default_hooks.knn.query_dataloader[0] == expected
    assert cfg.launcher == 'pytorch' and cfg.loader.persistent_workers
