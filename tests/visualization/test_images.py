import re
from types import SimpleNamespace

import pytest
import torch

from mmselfsup_invp.evaluation import Retrieval
from mmselfsup_invp.ops import propagate
from mmselfsup_invp.visualization import images
from mmselfsup_invp.visualization.blocks import Absent, Gallery
from mmselfsup_invp.visualization.pictures import thumbnail
from mmselfsup_invp.visualization.source import Options, Source


@pytest.fixture
def source(trained):
    return Source(trained[0], Options(anchors=(5, 11)))


def gallery(blocks):
    (found,) = (block for block in blocks if isinstance(block, Gallery))
    return found.groups


def numbers(strip):
    return [int(re.match(r'image (\d+)', picture.alt)[1]) for picture in strip.pictures]


def test_easy_positives_are_more_similar_than_hard_ones(source):
    for anchor, (first, easy, hard) in zip((5, 11), gallery(images.positives(source)), strict=True):
        assert first.label == f'anchor {anchor}' and first.note.startswith(f'class {anchor % 3}, ')
        assert first.pictures[0].uri == thumbnail(source.gallery.path(anchor))
        index, mask = propagate(source.graph[0], torch.tensor([anchor]), hops=2)
        reached = set(index[mask].tolist())
        shown = numbers(easy) + numbers(hard)
        assert len(set(shown)) == len(shown) and set(shown) <= reached
        # Of an odd number the one in the middle is neither.
        assert len(shown) == len(reached) // 2 * 2 > 0
        similarity = (source.embedding[shown] @ source.embedding[anchor]).tolist()
        assert similarity == sorted(similarity, reverse=True)
        captions = [picture.caption for picture in easy.pictures + hard.pictures]
        for number, caption, value in zip(shown, captions, similarity, strict=True):
            mark = '✓' if number % 3 == anchor % 3 else f'✗ {number % 3}'
            assert caption == f'{value:.2f} {mark}'


def test_hops_together_are_the_positives(source):
    for anchor, (_, *strips) in zip((5, 11), gallery(images.hops(source)), strict=True):
        index, mask = propagate(source.graph[0], torch.tensor([anchor]), hops=2)
        assert [strip.label for strip in strips] == ['hop 1', 'hop 2']
        assert set(numbers(strips[0])) == set(source.graph[0][anchor].tolist())
        assert sorted(numbers(strips[0]) + numbers(strips[1])) == index[mask].tolist()


def test_failures_of_the_retrieval_are_marked(source):
    blocks = images.retrieval(source)
    groups = gallery(blocks)
    assert len(groups) >= images.NUM_RIGHT
    for query, nearest in groups:
        row = int(query.label.removeprefix('query '))
        similarity = source.backbone @ source.query_backbone[row]
        assert numbers(nearest)[0] == similarity.argmax()
        marks = [picture.mark for picture in nearest.pictures]
        assert marks == ['same' if n % 3 == row % 3 else 'other' for n in numbers(nearest)]
        assert query.note == f'class {row % 3}: {marks.count("same")} of 10 right'


def test_the_worst_queries_are_shown_once():
    failed = torch.zeros(12, 5, dtype=torch.bool)
    failed[3, :4], failed[8, :2], failed[10, 0] = True, True, True
    found = Retrieval(torch.zeros(12, 5).long(), torch.zeros(12, 5), failed)
    for seed in range(10):
        rows = images._draw_rows(SimpleNamespace(options=Options(seed=seed)), found)
        worst = [row for row in (3, 8, 10) if row not in rows[: images.NUM_RIGHT]]
        assert len(set(rows)) == len(rows) and rows[images.NUM_RIGHT :] == worst


def test_what_the_text_says_of_similarities(source):
    chart, text = images.similarities(source)
    same, other = re.search(r'Means .thin lines.: (\S+) and (\S+)\.', text.text).groups()
    assert -1 <= float(other) <= 1 and -1 <= float(same) <= 1
    assert text.text.startswith('24 training images') and chart.uri


def test_sizes_count_empty_clusters_and_all_heads():
    memory = SimpleNamespace(num_classes=4)
    labels = torch.tensor([[0, 1], [0, 2], [0, 3], [1, 3]])
    source = SimpleNamespace(memories={'memory': (memory, {'labels': labels})})
    _, text = images.sizes(source)
    # Sizes 3, 1, 0, 0 of the first head and 0, 1, 1, 2 of the second.
    assert '0 to 3 images, mean 1.0' in text.text and 'standard deviation 1.0' in text.text


@pytest.mark.parametrize('labels', [None, torch.full((4,), -1), torch.empty(0).long()])
def test_without_labels_there_are_no_sizes(labels):
    buffers = {} if labels is None else {'labels': labels}
    source = SimpleNamespace(memories={'memory': (SimpleNamespace(num_clusters=2), buffers)})
    with pytest.raises(Absent, match='no memory in the checkpoint holds labels'):
        images.sizes(source)


def test_values_at_even_distances():
    assert images._evenly([1, 2, 3], 3) == [1, 2, 3]
    assert images._evenly(list(range(11)), 3) == [0, 5, 10]
