import pytest

from mmselfsup_invp.datasets import FewLabels


def draw(folder, sizes, **options):
    """Paths and labels that are drawn from classes of these sizes."""
    images = [(label, number) for label, size in enumerate(sizes) for number in range(size)]
    lines = [f'{label}_{number}.png {label}\n' for label, number in images]
    (folder / 'all.txt').write_text(''.join(lines))
    few = FewLabels(data_root=str(folder), ann_file='all.txt', **options)
    infos = [few.get_data_info(row) for row in range(len(few))]
    return [info['img_path'] for info in infos], [info['gt_label'] for info in infos]


@pytest.mark.parametrize(('fraction', 'drawn'), [(0.01, [8, 13]), (0.1, [74, 130])])
def test_the_share_of_a_class_is_rounded_up(tmp_path, fraction, drawn):
    """Golden values: the smallest class of ImageNet, and the largest."""
    _, labels = draw(tmp_path, [732, 1300], fraction=fraction)
    assert [labels.count(0), labels.count(1)] == drawn


def test_the_seed_draws_the_images_of_each_class(tmp_path):
    drawn = [draw(tmp_path, [12] * 3, fraction=0.26, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][1] == sorted([0, 1, 2] * 4)


def test_an_empty_share_is_refused(tmp_path):
    with pytest.raises(ValueError, match='fraction = 0 is not valid'):
        draw(tmp_path, [1], fraction=0)
