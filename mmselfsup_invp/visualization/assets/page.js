// Start of the page: the theme, and the state of the map with the actions that change it.

const darkness = matchMedia('(prefers-color-scheme: dark)');
let redraw = () => {};

function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === 'dark' : darkness.matches;
}

function startTheme() {
  const toggle = byId('theme');
  const update = () => {
    toggle.textContent = isDark() ? 'Light' : 'Dark';
    redraw();
  };
  toggle.hidden = false;
  toggle.onclick = () => {
    document.documentElement.dataset.theme = isDark() ? 'light' : 'dark';
    update();
  };
  darkness.addEventListener('change', update);
  update();
}

// Hues at the golden angle, so that neighbouring numbers differ; two levels of lightness.
function groupColour(group) {
  const lightness = (isDark() ? 66 : 42) + (group % 2 ? 8 : -4);
  return `hsl(${(group * 137.5) % 360} 62% ${lightness}%)`;
}

function startMap() {
  const state = { anchor: null, hops: [], selection: new Set(), tiles: false };
  const trail = [];
  const kind = () => byId('colour').value;
  const announce = (text) => { byId('status').textContent = text; };
  state.colour = (image) => groupColour(data[kind()][image]);

  function setAnchor(image) {
    state.anchor = image;
    state.hops = walkFrom(image, Number(byId('hops').value));
    const back = trail.length ? () => setAnchor(trail.pop()) : null;
    showWalk(image, state.hops, { ...actions, back });
    map.draw();
  }

  const actions = {
    announce,
    walk(image) {
      if (state.anchor !== null && state.anchor !== image) trail.push(state.anchor);
      actions.clear();
      setAnchor(image);
      const counts = state.hops.map((steps, hop) => `${steps.length} images at hop ${hop + 1}`);
      announce(`${describe(image)}: ${counts.join(', ')}.`);
    },
    random() {
      actions.walk(Math.floor(Math.random() * data.count));
    },
    selectWalk() {
      actions.select([state.anchor, ...state.hops.flat().map((step) => step.image)]);
    },
    async select(images) {
      state.selection = new Set(images);
      showSelection(images, actions);
      map.draw();
      if (images.length) await actions.copy();
      else announce('No image is inside.');
    },
    async copy() {
      const copied = await copyPaths();
      const count = `${state.selection.size} path${state.selection.size > 1 ? 's' : ''}`;
      announce(copied ? `${count} copied to the clipboard.`
        : `The browser does not allow copying. Copy the ${count} from the list.`);
    },
    clear() {
      state.selection = new Set();
      showSelection([], actions);
      map.draw();
    },
  };

  const map = new ImageMap(byId('canvas'), byId('tip'), state, actions);
  const regroup = () => {
    showGroups(kind(), groupColour, actions.select);
    map.draw();
  };
  redraw = regroup;
  const dragging = () => {
    state.lasso = byId('lasso').checked;
    document.querySelector('.frame').classList.toggle('lasso', state.lasso);
  };
  byId('colour').onchange = regroup;
  byId('hops').onchange = () => setAnchor(state.anchor);
  byId('tiles').onchange = () => { state.tiles = byId('tiles').checked; map.draw(); };
  byId('lasso').checked = !matchMedia('(pointer: coarse)').matches; // A finger scrolls the page.
  byId('lasso').onchange = dragging;
  byId('zoom-in').onclick = () => map.zoom(1.5);
  byId('zoom-out').onclick = () => map.zoom(1 / 1.5);
  byId('zoom-reset').onclick = () => map.zoom(0);
  const walkAndShow = (image) => {
    actions.walk(image);
    byId('explorer').scrollIntoView();
  };
  byId('filter').oninput = () => showTable(byId('filter').value, walkAndShow);
  byId('all').addEventListener('toggle', () => showTable(byId('filter').value, walkAndShow));
  byId('explorer').hidden = false;
  dragging();
  regroup();
  setAnchor(data.anchors[0]);
}

startTheme();
if (data) byId('sheet').decode().then(startMap);
