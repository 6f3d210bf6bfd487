"""The projection of benchmarks/scale.py, and its model against two processes."""

from dataclasses import replace

import pytest


@pytest.fixture
def scale(benchmark_module):
    return benchmark_module('scale')


@pytest.fixture
def runs(benchmark_module):
    return benchmark_module('scale_runs')


@pytest.fixture
def machine(scale):
    """A device of 10 GiB, with as much host memory."""
    return scale.Machine(1e12, 1e9, 1e10, 0.0, 1e10, 10 * 2**30, 10 * 2**30, 0.1)


def test_rows_are_split_where_a_copy_does_not_fit_and_offloaded_where_a_share_does_not(
    scale, machine
):
    small, medium, large, huge = (
        scale.Sizes(num, devices=8) for num in (10**6, 10**8, 3 * 10**8, 10**10)
    )
    copy, shard, offload = scale.LAYOUTS
    # 1e8 rows of 128 float16 values take 23.8 GiB, an eighth 3 GiB; of 3e8 rows 8.9 GiB, with a
    # graph of 1.1 GiB beside it.
    chosen = [scale.choose(s, machine) for s in (small, medium, large, huge)]
    assert chosen == [copy, shard, offload, None]


def test_a_step_takes_the_products_of_its_queries_however_the_rows_are_split(scale, machine):
    s = scale.Sizes(10**8, devices=64)
    copy, shard, offload = (layout.seconds(s, machine) for layout in scale.LAYOUTS)
    assert copy['search'] == shard['search'] == offload['search'] == 128 * 1e8 * 128 / 1e12
    assert copy['bus'] == shard['bus'] == 0 < offload['bus']
    assert scale.LAYOUTS[1].traffic(s) > scale.LAYOUTS[0].traffic(s)
    alone = replace(s, devices=1)
    assert all(layout.traffic(alone) == 0 for layout in scale.LAYOUTS)


def test_the_table_has_a_row_for_all_images_and_devices(scale, machine):
    table = scale.project(machine, scale.Sizes(0))
    assert table.row_count == len(scale.IMAGES) * len(scale.DEVICES) == 12
    slowest = list(table.columns[-2].cells)
    assert set(slowest) <= {*scale.REMEDIES, 'memory'} and len(set(slowest)) > 1


@pytest.mark.slow  # Two processes are started.
@pytest.mark.parametrize(('bytes', 'hops'), [(4, 2), (2, 1)])
def test_bytes_sent_and_held_are_those_of_the_model(scale, runs, bytes, hops):
    s = scale.Sizes(60, devices=2, batch=4, dim=8, m=16, k=3, hops=hops, bytes=bytes)
    found = runs.run_processes(s, repeats=1)
    shard = scale.LAYOUTS[1]
    assert found['sent'] == shard.traffic(s)
    assert found['held'] == shard.bank_bytes(s) + s.rows * s.k * 8
