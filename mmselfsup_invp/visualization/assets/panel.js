// Lists beside and below the map: walk, selection, groups and the table of all images.

const MARKS = ['●', '▲', '■'];
const SHOWN = 12; // Pictures of a hop before "Show all".
const SELECTED = 60; // Pictures of a selection.
const RETRIEVED = 10;
const TABLE_ROWS = 200;
const TABLE_NEIGHBOURS = 5;
const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children); // Strings become text, never markup.
  return node;
}

function button(text, action, properties = {}) {
  return element('button', { type: 'button', onclick: action, ...properties }, text);
}

function drawTile(context, image, x, y, size) {
  const { side, columns } = data;
  const left = (image % columns) * side;
  const top = Math.floor(image / columns) * side;
  context.drawImage(byId('sheet'), left, top, side, side, x, y, size, size);
}

function tile(image, size = 2 * data.side) {
  const canvas = element('canvas', { width: size, height: size });
  drawTile(canvas.getContext('2d'), image, 0, 0, size);
  return canvas;
}

function tileButton(image, caption, other, action) {
  const node = button('', () => action(image), {
    title: describe(image),
    ariaLabel: `${describe(image)}, ${caption}`,
    className: other ? 'other' : '',
  });
  const name = element('span', { className: 'name' }, element('bdi', {}, data.names[image]));
  node.append(tile(image), caption, name);
  return node;
}

function tiles(steps, anchor, action, shown = SHOWN) {
  const list = element('div', { className: 'tiles' });
  const add = (part) => {
    for (const step of part) {
      const same = sameClass(anchor, step.image);
      const mark = same === null ? '' : same ? ' ✓' : ` ✗ ${groupName('label', data.label[step.image])}`;
      const caption = step.similarity.toFixed(2) + mark;
      list.append(tileButton(step.image, caption, same === false, action));
    }
  };
  add(steps.slice(0, shown));
  if (steps.length <= shown) return [list];
  const more = button(`Show all ${steps.length}`, () => {
    more.remove();
    add(steps.slice(shown));
  });
  return [list, more];
}

function summary(steps, anchor) {
  if (!steps.length) return 'no further image';
  const low = steps[steps.length - 1].similarity.toFixed(2);
  const range = steps.length > 1 ? `${low} to ${steps[0].similarity.toFixed(2)}` : low;
  const share = steps.filter((step) => sameClass(anchor, step.image)).length / steps.length;
  const classes = data.label ? `, ${Math.round(100 * share)} % of its class` : '';
  return `${steps.length} image${steps.length > 1 ? 's' : ''}, similarity ${range}${classes}`;
}

function showWalk(anchor, hops, actions) {
  const name = element('p', {}, element('strong', {}, data.names[anchor]));
  const row = element('div', { className: 'row' });
  if (actions.back) row.append(button('← Back', actions.back));
  row.append(button('Select this walk', actions.selectWalk), button('Random image', actions.random));
  const text = element('div', {}, name, element('p', { className: 'note' }, details(anchor)), row);
  const head = element('div', { className: 'anchor' }, tile(anchor), text);
  const nodes = [head];
  hops.forEach((steps, number) => {
    const kind = Math.min(number, 2);
    const mark = element('span', { className: `hop${kind + 1}`, ariaHidden: 'true' }, MARKS[kind]);
    nodes.push(element('h3', {}, mark, ` Hop ${number + 1}: ${summary(steps, anchor)}`));
    nodes.push(...tiles(steps, anchor, actions.walk));
  });
  const near = nearest(anchor, RETRIEVED);
  nodes.push(element('h3', {}, `Retrieval: the ${near.length} nearest of all images`));
  nodes.push(...tiles(near, anchor, actions.walk));
  byId('walk').replaceChildren(...nodes);
}

function showSelection(images, actions) {
  const box = byId('selection');
  box.hidden = !images.length;
  if (!images.length) return;
  const paths = element('textarea', {
    id: 'paths',
    readOnly: true,
    value: images.map(pathOf).join('\n'),
    ariaLabel: 'Paths of the selected images',
  });
  const list = element('div', { className: 'tiles' });
  for (const image of images.slice(0, SELECTED)) {
    list.append(tileButton(image, '', false, actions.walk));
  }
  const rest = images.length > SELECTED ? [`The first ${SELECTED} are shown.`] : [];
  box.replaceChildren(
    element('h3', {}, `${images.length} images selected`),
    element('div', { className: 'row' }, button('Copy paths', actions.copy, { id: 'copy' }),
      button('Clear', actions.clear)),
    paths, list, ...rest,
  );
}

// Resolves to whether the paths are in the clipboard.
async function copyPaths() {
  const paths = byId('paths');
  try {
    await navigator.clipboard.writeText(paths.value);
    return true;
  } catch {
    paths.select();
    return document.execCommand('copy'); // Where pages from files have no clipboard interface.
  }
}

function showGroups(kind, colourOf, action) {
  byId('groups-title').textContent = kind === 'label' ? 'Classes' : 'Clusters';
  byId('groups').replaceChildren(...groupsOf(kind).map(([group, images]) => {
    const swatch = element('span', { className: 'swatch' });
    swatch.style.background = colourOf(group);
    const name = `${groupName(kind, group)}: ${images.length}`;
    const title = 'Select these images and copy their paths';
    const node = button('', () => action(images), { title });
    node.append(tile(images[0]), swatch, name);
    return node;
  }));
}

function showTable(filter, action) {
  const wanted = filter.toLowerCase();
  const found = data.names.map((_, image) => image)
    .filter((image) => data.names[image].toLowerCase().includes(wanted));
  byId('rows').replaceChildren(...found.slice(0, TABLE_ROWS).map((image) => {
    const link = (other) => button(data.names[other], () => action(other), { className: 'link' });
    const near = neighboursOf(image).slice(0, TABLE_NEIGHBOURS).map((other) =>
      element('div', {}, link(other), ` ${similarity(image, other).toFixed(2)}`));
    const label = data.label ? [element('td', {}, groupName('label', data.label[image]))] : [];
    return element('tr', {}, element('th', { scope: 'row' }, link(image)),
      element('td', {}, String(data.cluster[image] + 1)), ...label, element('td', {}, ...near));
  }));
  const shown = Math.min(found.length, TABLE_ROWS);
  byId('count').textContent = `${shown} of ${found.length} matching images are shown.`;
}
