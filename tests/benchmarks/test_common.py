"""Medians, their table and their record."""

import json

import pytest
import torch


@pytest.fixture
def common(benchmark_module):
    return benchmark_module('common')


def test_the_fastest_is_first_and_the_reference_last(common):
    seconds = dict(slow=[(9, 1), (3, 5), (4, 2)], fast=[(2, 2)] * 3, reference=[(1, 4)] * 3)
    median = common.medians(seconds)
    assert median == dict(fast=(2, 2), slow=(4, 2), reference=(1, 4))
    assert list(median) == ['fast', 'slow', 'reference']


@pytest.mark.parametrize(('reference', 'share'), [(4 * 2**20, '0.500'), (0, '-')])
def test_the_table_compares_with_the_last(common, reference, share):
    median = dict(ours=(0.002, 0.002), reference=(0.001, 0.004))
    table = common.table(median, dict(ours=2 * 2**20, reference=reference))
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows[0] == ('ours', '2.0 ms', '0.50 x', '2.0 ms', '2.00 x', '2.0 MiB', share)
    assert len(common.table(median, {}).columns) == 5


def test_records_are_appended(common, tmp_path):
    path = tmp_path / 'records'
    for number in range(2):
        common.append_json(path, dict(number=number))
    common.append_json(None, dict(number=2))
    lines = path.read_text().splitlines()
    assert [json.loads(line)['number'] for line in lines] == [0, 1]


def test_operations_of_a_step(common):
    text = common.profile(lambda: torch.ones(8) @ torch.ones(8), 'cpu')
    assert 'aten::dot' in text and 'Self CPU time total' in text
