// The canvas: it draws the images and turns the pointer and the keys into calls of `actions`.

const REACH = { mouse: 12, pen: 16, touch: 24 }; // Pixels between the pointer and an image it hits.
const MARGIN = 14; // Pixels around the map.
const DRAG = 5; // Pixels after which a press is a drag.

class ImageMap {
  // state: anchor, hops (steps), selection (Set), colour (of an image), tiles and lasso (bool).
  constructor(canvas, tip, state, actions) {
    Object.assign(this, { canvas, tip, state, actions, hovered: null, drag: null });
    this.view = { x: 0.5, y: 0.5, zoom: 1 };
    this.probe = document.body.appendChild(element('span', { hidden: true }));
    canvas.addEventListener('pointerdown', (event) => this.press(event));
    canvas.addEventListener('pointermove', (event) => this.move(event));
    canvas.addEventListener('pointerup', (event) => this.release(event));
    canvas.addEventListener('pointercancel', () => { this.drag = null; this.draw(); });
    canvas.addEventListener('pointerleave', () => this.hover(null));
    canvas.addEventListener('blur', () => this.hover(null));
    canvas.addEventListener('keydown', (event) => this.key(event));
    canvas.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  get size() { return this.canvas.clientWidth; }

  place(image) {
    const scale = (this.size - 2 * MARGIN) * this.view.zoom;
    return [
      (data.position[2 * image] / 65535 - this.view.x) * scale + this.size / 2,
      (data.position[2 * image + 1] / 65535 - this.view.y) * scale + this.size / 2,
    ];
  }

  zoom(factor) {
    this.view.zoom = Math.min(Math.max(this.view.zoom * factor, 1), 40);
    if (this.view.zoom === 1) Object.assign(this.view, { x: 0.5, y: 0.5 });
    this.draw();
  }

  // Colours of the theme; custom properties are resolved by an element that uses them.
  colour(name) {
    this.probe.style.color = `var(--${name})`;
    return getComputedStyle(this.probe).color;
  }

  draw() {
    const { canvas, state, size } = this;
    if (!size) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = canvas.height = Math.round(size * ratio);
    const context = canvas.getContext('2d');
    context.scale(ratio, ratio);
    const steps = state.hops.flat();
    const dimmed = steps.length > 0 || state.selection.size > 0;
    const bright = new Set([state.anchor, ...steps.map((step) => step.image), ...state.selection]);
    for (let image = 0; image < data.count; image++) {
      context.globalAlpha = dimmed && !bright.has(image) ? 0.25 : 1;
      this.drawImage(context, image);
    }
    context.globalAlpha = 1;
    this.drawWalk(context, steps);
    if (this.hovered !== null) this.ring(context, this.hovered, 9, this.colour('text'), 2);
    if (this.drag?.lasso) this.drawLasso(context);
  }

  tileSize() {
    const even = this.size / Math.sqrt(data.count);
    return Math.min(Math.max(even * this.view.zoom, 14), 56);
  }

  drawImage(context, image) {
    const [x, y] = this.place(image);
    const size = this.state.tiles ? this.tileSize() : 4 * Math.min(this.view.zoom, 2);
    if (x < -size || y < -size || x > this.size + size || y > this.size + size) return;
    context.fillStyle = this.state.colour(image);
    if (this.state.tiles) {
      context.fillRect(x - size / 2 - 1, y - size / 2 - 1, size + 2, size + 2);
      drawTile(context, image, x - size / 2, y - size / 2, size);
    } else {
      context.beginPath();
      context.arc(x, y, data.count > 1500 ? size / 2 : size * 0.8, 0, 7);
      context.fill();
    }
  }

  ring(context, image, radius, colour, width) {
    context.beginPath();
    context.arc(...this.place(image), radius, 0, 7);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
  }

  drawWalk(context, steps) {
    if (this.state.anchor === null) return;
    const colours = [1, 2, 3].map((hop) => this.colour(`hop${hop}`));
    const page = this.colour('page');
    context.lineWidth = 1.2;
    for (const { image, parent, hop } of [...steps].reverse()) {
      context.strokeStyle = colours[Math.min(hop, 3) - 1];
      context.beginPath();
      context.moveTo(...this.place(parent));
      context.lineTo(...this.place(image));
      context.stroke();
    }
    for (const { image, hop } of [...steps].reverse()) {
      this.mark(context, image, Math.min(hop, 3), colours[Math.min(hop, 3) - 1], page);
    }
    const [x, y] = this.place(this.state.anchor);
    context.fillStyle = page;
    context.fillRect(x - 17, y - 17, 34, 34);
    drawTile(context, this.state.anchor, x - 15, y - 15, 30);
    context.strokeStyle = this.colour('text');
    context.lineWidth = 2.5;
    context.strokeRect(x - 16, y - 16, 32, 32);
  }

  // A circle for hop 1, a triangle for hop 2, a square for hop 3.
  mark(context, image, hop, colour, edge) {
    const [x, y] = this.place(image);
    context.beginPath();
    if (hop === 1) context.arc(x, y, 7, 0, 7);
    else if (hop === 2) {
      context.moveTo(x, y - 7);
      context.lineTo(x + 6.5, y + 5);
      context.lineTo(x - 6.5, y + 5);
    } else context.rect(x - 4.5, y - 4.5, 9, 9);
    context.closePath();
    context.fillStyle = colour;
    context.strokeStyle = edge;
    context.lineWidth = 1.5;
    context.fill();
    context.stroke();
  }

  drawLasso(context) {
    context.beginPath();
    for (const point of this.drag.lasso) context.lineTo(...point);
    context.closePath();
    context.strokeStyle = this.colour('link');
    context.lineWidth = 1.5;
    context.setLineDash([5, 4]);
    context.stroke();
    context.setLineDash([]);
  }

  hit(x, y, reach) {
    let best = null;
    let least = reach * reach;
    for (let image = 0; image < data.count; image++) {
      const [left, top] = this.place(image);
      const distance = (left - x) ** 2 + (top - y) ** 2;
      if (distance <= least) [best, least] = [image, distance];
    }
    return best;
  }

  hover(image) {
    if (image !== this.hovered) {
      this.hovered = image;
      this.draw();
    }
    this.tip.hidden = image === null;
    if (image === null) return;
    this.tip.replaceChildren(tile(image, 160), describe(image));
    const [x, y] = this.place(image);
    const clamp = (value, most) => `${Math.max(0, Math.min(value, most))}px`;
    const below = y < this.size - this.tip.offsetHeight - 16;
    this.tip.style.left = clamp(x + 14, this.size - this.tip.offsetWidth);
    this.tip.style.top = clamp(below ? y + 14 : y - 14 - this.tip.offsetHeight, this.size);
  }

  press(event) {
    if (event.button) return;
    this.canvas.setPointerCapture(event.pointerId);
    const start = [event.offsetX, event.offsetY];
    this.drag = { start, last: start, lasso: null, moved: false };
  }

  move(event) {
    const point = [event.offsetX, event.offsetY];
    const { drag } = this;
    if (!drag) return this.hover(this.hit(...point, REACH[event.pointerType] ?? 12));
    drag.moved ||= Math.hypot(point[0] - drag.start[0], point[1] - drag.start[1]) > DRAG;
    if (!drag.moved) return undefined;
    this.hover(null);
    if (this.state.lasso) (drag.lasso ??= [drag.start]).push(point);
    else {
      const scale = (this.size - 2 * MARGIN) * this.view.zoom;
      this.view.x -= (point[0] - drag.last[0]) / scale;
      this.view.y -= (point[1] - drag.last[1]) / scale;
    }
    drag.last = point;
    return this.draw();
  }

  release(event) {
    const { drag } = this;
    this.drag = null;
    if (!drag) return;
    if (drag.lasso) {
      this.actions.select(this.inside(drag.lasso));
    } else if (!drag.moved) {
      const image = this.hit(...drag.start, REACH[event.pointerType] ?? 12);
      if (image !== null) this.actions.walk(image);
    }
    this.draw();
  }

  inside(polygon) {
    const images = [];
    for (let image = 0; image < data.count; image++) {
      const [x, y] = this.place(image);
      let within = false;
      polygon.forEach(([ax, ay], number) => {
        const [bx, by] = polygon[(number + 1) % polygon.length];
        if ((ay > y) !== (by > y) && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
      });
      if (within) images.push(image);
    }
    return images;
  }

  wheel(event) {
    if (document.activeElement !== this.canvas) return; // Otherwise the page scrolls.
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / 400));
  }

  key(event) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const focus = this.hovered ?? this.state.anchor ?? 0;
    if (event.key in arrows) this.point(this.towards(focus, arrows[event.key]));
    else if (event.key === 'Enter' || event.key === ' ') this.actions.walk(focus);
    else if (event.key === '+' || event.key === '=') this.zoom(1.5);
    else if (event.key === '-') this.zoom(1 / 1.5);
    else if (event.key === 'Escape') this.actions.clear();
    else return;
    event.preventDefault();
  }

  point(image) {
    this.hover(image);
    this.actions.announce(describe(image));
  }

  // The nearest image in a direction; sideways distance counts twice.
  towards(image, [dx, dy]) {
    const [x, y] = this.place(image);
    let best = image;
    let least = Infinity;
    for (let other = 0; other < data.count; other++) {
      const [left, top] = this.place(other);
      const ahead = (left - x) * dx + (top - y) * dy;
      const aside = Math.abs((left - x) * dy) + Math.abs((top - y) * dx);
      if (ahead > 0 && aside <= ahead && ahead + 2 * aside < least) {
        [best, least] = [other, ahead + 2 * aside];
      }
    }
    return best;
  }
}
