"""The page in a browser: the map, its lists and file names that contain markup."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from mmselfsup_invp.evaluation import neighbours_by_hop
from mmselfsup_invp.ops import knn_graph
from mmselfsup_invp.visualization import ReportOptions
from mmselfsup_invp.visualization.blocks import Section, Verdict
from mmselfsup_invp.visualization.image_map import explore
from mmselfsup_invp.visualization.images import ImageSet
from mmselfsup_invp.visualization.report import render

pytestmark = pytest.mark.slow

HOSTILE = [
    '</script><script>window.attacked = 1</script>.png',
    '<img src=x onerror="window.attacked = 2">.png',
    '"><b onmouseover=alert(1)>.png',
    'größe 日本 \u202e.png',
    "it's & {{ 7 * 7 }}.png",
]
COUNT, HOPS = 60, 3
ATTACKED = 'typeof window.attacked !== "undefined"'


@pytest.fixture(scope='module')
def browser():
    driver = pytest.importorskip('playwright.sync_api', reason='needs playwright (pip install)')
    names = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip('needs Chromium: apt-get install chromium')
    with driver.sync_playwright() as play:
        started = play.chromium.launch(executable_path=path, args=['--no-sandbox'])
        yield started
        started.close()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """What the map shows of a run; the first images have names that contain markup."""
    folder = tmp_path_factory.mktemp('images')
    random = np.random.default_rng(0)
    names = HOSTILE + [f'cat/{number:03d}.png' for number in range(len(HOSTILE), COUNT)]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / name)
    dataset = SimpleNamespace(
        get_data_info=lambda row: dict(img_path=str(folder / names[row])),
        data_prefix=dict(img_path=str(folder)),
    )
    classes = ('<i>cat</i>', 'dog')
    label, index = torch.arange(COUNT) % 2, torch.arange(COUNT)
    gallery = ImageSet(SimpleNamespace(dataset=dataset), index, COUNT, label, classes)
    features = F.normalize(torch.randn(COUNT, 16, generator=torch.Generator().manual_seed(0)))
    return SimpleNamespace(
        gallery=gallery,
        embedding=features,
        graph=(knn_graph(features, 4), 'the graph'),
        hops=HOPS,
        anchors=[7, 20],
        options=ReportOptions(),
        space='embeddings',
        folder=folder,
        names=names,
    )


@pytest.fixture(scope='module')
def file(data, tmp_path_factory):
    """The page as a file."""
    card = Verdict('good', 'Learning', '<script>window.attacked = 3</script>', [('loss', '4.1')])
    sections = [Section('verdict', 'Verdict', [card]), Section('map', 'Map', explore(data))]
    out = tmp_path_factory.mktemp('page') / 'report.html'
    out.write_text(render('Run', sections, []), encoding='utf-8')
    return out


@pytest.fixture
def open_page(browser, file):
    """Opens the page; afterwards, nothing may have failed or been requested from elsewhere."""
    contexts, faults = [], []

    def opened(width=1280, scheme='light', expected=None, **options):
        context = browser.new_context(
            viewport=dict(width=width, height=800),
            color_scheme=scheme,
            permissions=['clipboard-read', 'clipboard-write'],
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.on('pageerror', lambda error: faults.append(str(error)))
        page.on(
            'console',
            lambda message: expected and expected in message.text or faults.append(message.text),
        )
        page.on('dialog', lambda dialog: faults.append(dialog.message))
        page.on('request', lambda request: faults.append(request.url) if
                not request.url.startswith(('file:', 'data:')) else None)  # fmt: skip
        page.goto(file.as_uri())
        page.wait_for_selector('#walk .anchor')
        return page

    yield opened
    for context in contexts:
        assert not any(page.evaluate(ATTACKED) for page in context.pages)
        context.close()
    assert not faults


def place(page, image):
    """Where an image is on the screen."""
    page.locator('#canvas').scroll_into_view_if_needed()
    box = page.locator('#canvas').bounding_box()
    x, y = page.evaluate(
        'i => [data.position[2 * i] / 65535, data.position[2 * i + 1] / 65535]', image
    )
    scale = box['width'] - 2 - 28  # Without the border and the margin.
    middle = box['width'] / 2
    return box['x'] + middle + (x - 0.5) * scale, box['y'] + middle + (y - 0.5) * scale


@pytest.mark.parametrize('width', [1280, 390])
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_nothing_is_cut_off(open_page, width, scheme):
    page = open_page(width, scheme)
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    outside = """[...document.querySelectorAll('body *')].filter((node) =>
        node.getBoundingClientRect().right > innerWidth + 1 && !node.closest('.scroll, pre'))"""
    assert page.evaluate(f'{outside}.length') == 0
    assert page.locator('#canvas').bounding_box()['width'] > 0.4 * min(width, 800)


def test_a_walk_is_that_of_the_graph(open_page, data):
    page = open_page()
    for anchor in (7, 20, 0):
        found = page.evaluate('([anchor, hops]) => walkFrom(anchor, hops)', [anchor, HOPS])
        expected = neighbours_by_hop(data.graph[0], anchor, HOPS)
        assert [sorted(step['image'] for step in hop) for hop in found] == [
            hop.tolist() for hop in expected
        ]
        for step in sum(found, []):
            exact = float(data.embedding[step['image']] @ data.embedding[anchor])
            assert step['similarity'] == pytest.approx(exact, abs=0.02)
    near = page.evaluate('nearest(7, 5)')
    similarity = data.embedding @ data.embedding[7]
    assert near[0]['image'] == similarity.argsort(descending=True)[1]


def test_hovering_shows_the_picture_and_a_click_walks_from_it(open_page, data):
    page = open_page()
    image = 33
    page.mouse.move(*place(page, image))
    tip = page.locator('#tip')
    assert data.names[image] in tip.inner_text() and 'image 33' in tip.inner_text()
    pixels = tip.locator('canvas').evaluate(
        'node => new Set(node.getContext("2d").getImageData(0, 0, 160, 160).data).size'
    )
    assert pixels > 50  # A picture, not an empty canvas.
    page.mouse.click(*place(page, image))
    assert data.names[image] in page.locator('#walk .anchor').inner_text()
    titles = page.locator('#walk h3').all_inner_texts()
    hop = neighbours_by_hop(data.graph[0], image, HOPS)
    for number, reached in enumerate(hop, start=1):
        assert titles[number - 1].startswith('●▲■'[number - 1] + f' Hop {number}: {len(reached)} ')
    # On to the first neighbour, and back.
    page.locator('#walk .tiles button').first.click()
    assert data.names[image] not in page.locator('#walk .anchor').inner_text()
    page.get_by_text('← Back').click()
    assert data.names[image] in page.locator('#walk .anchor').inner_text()


def test_a_lasso_copies_the_paths(open_page, data):
    page = open_page()
    places = torch.tensor([place(page, image) for image in range(COUNT)])
    chosen = int((places - places.mean(dim=0)).norm(dim=1).argmin())  # Far from the frame.
    x, y = place(page, chosen)
    page.mouse.move(x - 40, y - 40)
    page.mouse.down()
    for dx, dy in ((40, -40), (40, 40), (-40, 40)):
        page.mouse.move(x + dx, y + dy, steps=3)
    page.mouse.up()
    page.locator('#status', has_text='copied to the clipboard').wait_for()
    copied = page.evaluate('navigator.clipboard.readText()').splitlines()
    distance = (places - torch.tensor([x, y])).abs().amax(dim=1)
    inside = (distance < 39).nonzero().flatten().tolist()
    assert {str(data.folder / data.names[n]) for n in inside} <= set(copied)
    assert str(data.folder / data.names[chosen]) in copied and len(copied) < COUNT
    assert page.locator('#paths').input_value().splitlines() == copied
    page.get_by_role('button', name='Clear').click()
    assert page.locator('#selection').is_hidden()


def test_the_map_works_by_keys(open_page, data):
    page = open_page()
    page.locator('#canvas').focus()
    left = page.evaluate('data.position[2 * 7] < 32768')  # Of image 7, where the walk starts.
    page.keyboard.press('ArrowRight' if left else 'ArrowLeft')
    focused = page.locator('#status').inner_text()
    assert '.png' in focused and data.names[7] not in focused
    page.keyboard.press('Enter')
    name = focused.partition(' (image')[0]
    assert name in page.locator('#walk .anchor').inner_text()
    page.get_by_role('button', name='Select this walk').press('Enter')
    count = 1 + page.evaluate('i => walkFrom(i, 3).flat().length', data.names.index(name))
    assert page.locator('#selection h3').inner_text() == f'{count} images selected'
    page.locator('#canvas').press('Escape')
    assert page.locator('#selection').is_hidden()


def test_file_names_are_text(open_page, data):
    page = open_page()
    page.locator('#all summary').click()
    page.locator('#rows tr').last.wait_for()
    assert page.locator('#rows tr').count() == COUNT
    for name in HOSTILE:
        page.locator('#filter').fill(name)
        row = page.locator('#rows tr')
        assert row.count() == 1 and row.locator('th').text_content() == name
        row.locator('th button').click()
        assert name in page.locator('#walk .anchor').text_content()
    page.locator('#colour').select_option('label')
    assert '<i>cat</i>: 30' in page.locator('#groups').inner_text()
    assert page.locator('#groups i').count() == 0


def test_the_policy_stops_an_injected_script(open_page):
    """If a file name ever became markup, the browser would still not run it."""
    page = open_page(expected='Content Security Policy')
    page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'window.attacked = 4';
        document.body.append(script);
    }""")
    assert not page.evaluate(ATTACKED)


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_the_theme_can_be_changed(open_page, scheme):
    page = open_page(scheme=scheme)
    brightness = """() => getComputedStyle(document.body).backgroundColor
        .match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0)"""
    before = page.evaluate(brightness)
    page.locator('#theme').click()
    after = page.evaluate(brightness)
    dark, light = (before, after) if scheme == 'dark' else (after, before)
    assert dark < 150 and light > 700


def test_a_finger_walks_and_scrolls(open_page, data):
    page = open_page(390, has_touch=True, is_mobile=True)
    assert not page.locator('#lasso').is_checked()
    page.touchscreen.tap(*place(page, 33))
    assert data.names[33] in page.locator('#walk .anchor').inner_text()
