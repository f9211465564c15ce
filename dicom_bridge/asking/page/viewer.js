// The image on a canvas: slices, window, size, masks, and what is pointed at.
import { LatestPicture } from "./picture.js";

const LARGEST = 40;
const SMALLEST = 0.2;
const STEP = 1.25;
const POINTING = ["inside", "outside", "box"];

const within = (value, low, high) => Math.min(Math.max(value, low), high);

export class Viewer {
  tool = "move";

  /**
   * @param canvas where it is shown
   * @param events {onSlice, onWindow, onPoint(kind, place), onError}
   * @param hintsOn gives what is pointed at in a slice
   */
  constructor(canvas, events, hintsOn) {
    this.canvas = canvas;
    this.events = events;
    this.hintsOn = hintsOn;
    this.image = null;
    this.basis = null;
    this.masks = null;
    this.base = new LatestPicture((picture) => { this.basis = picture; this.draw(); }, events.onError);
    this.overlay = new LatestPicture((picture) => { this.masks = picture; this.draw(); }, events.onError);
    this.answer = null;
    this.shown = [];
    this.cursor = null;
    this.corner = null;
    this.dragged = null;
    this.fingers = new Map();
    new ResizeObserver(() => this.draw()).observe(canvas);
    this.#listen();
  }

  get slices() {
    return this.plane.slices;
  }

  /** Whether a place in this plane is one that the weights can be pointed to. */
  get isPointing() {
    return POINTING.includes(this.tool) && this.plane?.axis === 0;
  }

  open(image) {
    this.image = image;
    this.window = image.content.window;
    this.answer = null;
    this.shown = [];
    this.showPlane(image.content.planes[0]);
  }

  showPlane(plane, index = Math.floor(plane.slices / 2)) {
    this.plane = plane;
    this.basis = this.masks = this.cursor = null;
    this.base.forget();
    this.overlay.forget();
    this.fit();
    this.go(index);
  }

  go(index) {
    this.index = within(index, 0, this.slices - 1);
    this.corner = null;
    this.refresh();
    this.events.onSlice(this.index);
  }

  setWindow(window) {
    this.window = window;
    this.refresh();
    this.events.onWindow(window);
  }

  /** Paint these findings of an answer. */
  showAnswer(answer, shown) {
    this.answer = answer;
    this.shown = shown;
    this.refresh();
  }

  refresh() {
    this.base.want(this.image.sliceUrl(this.plane, this.index, this.window));
    const hasMasks = this.answer !== null && this.shown.length > 0;
    this.overlay.want(hasMasks ? this.image.overlayUrl(this.plane, this.index, this.answer, this.shown) : null);
    this.draw();
  }

  fit() {
    this.size = 1;
    this.shift = [0, 0];
    this.draw();
  }

  /** Change the size around a place of the canvas, by default its middle. */
  resize(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const before = this.size;
    this.size = within(before * factor, SMALLEST, LARGEST);
    const middle = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
    const grown = this.size / before;
    this.shift = [x, y].map((place, axis) => place - middle[axis] - (place - middle[axis] - this.shift[axis]) * grown);
    this.draw();
  }

  /** Left, top, and the width and height of a pixel, on the canvas. */
  #placed() {
    const { rows, columns, spacing } = this.plane;
    const [high, wide] = spacing.map((length) => length / Math.min(...spacing));
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const scale = Math.min(width / (columns * wide), height / (rows * high)) * this.size;
    const left = (width - columns * wide * scale) / 2 + this.shift[0];
    const top = (height - rows * high * scale) / 2 + this.shift[1];
    return { left, top, wide: wide * scale, high: high * scale };
  }

  /** (row, column) at a place of the window, inside the slice or null. */
  #pixel(event) {
    const { left, top, wide, high } = this.#placed();
    const bounds = this.canvas.getBoundingClientRect();
    const row = (event.clientY - bounds.top - top) / high - 0.5;
    const column = (event.clientX - bounds.left - left) / wide - 0.5;
    const { rows, columns } = this.plane;
    return row < -0.5 || column < -0.5 || row > rows - 0.5 || column > columns - 0.5 ? null : [row, column];
  }

  draw() {
    const { canvas } = this;
    const dense = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * dense), Math.round(canvas.clientHeight * dense)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const brush = canvas.getContext("2d");
    brush.setTransform(1, 0, 0, 1, 0, 0);
    brush.clearRect(0, 0, width, height);
    if (!this.plane) return;
    brush.setTransform(dense, 0, 0, dense, 0, 0);
    const { left, top, wide, high } = this.#placed();
    const [broad, tall] = [this.plane.columns * wide, this.plane.rows * high];
    // A slice that is still on its way is shown without masks: those of another would lie on it.
    const isCurrent = (picture, kind) => picture?.url.includes(`/${kind}/${this.plane.axis}/${this.index}.png`);
    const areCurrent = isCurrent(this.basis, "slices") && isCurrent(this.masks, "overlays");
    for (const picture of areCurrent ? [this.basis, this.masks] : [this.basis]) {
      if (!picture) continue;
      const { bitmap } = picture;
      brush.imageSmoothingEnabled = broad < bitmap.width * 4;
      brush.imageSmoothingQuality = "high";
      brush.drawImage(bitmap, left, top, broad, tall);
    }
    const at = ([row, column]) => [left + (column + 0.5) * wide, top + (row + 0.5) * high];
    if (this.plane.axis === 0) this.#drawHints(brush, at);
    if (this.cursor) {
      const [x, y] = at(this.cursor);
      line(brush, "#ffe100", [[x - 14, y], [x + 14, y]], [[x, y - 14], [x, y + 14]]);
    }
  }

  #drawHints(brush, at) {
    const { inside, outside, box } = this.hintsOn(this.index);
    for (const [places, colour] of [[inside, "#00d45a"], [outside, "#ff4040"]]) {
      for (const place of places) {
        brush.beginPath();
        brush.arc(...at(place), 5, 0, 2 * Math.PI);
        brush.fillStyle = colour;
        brush.fill();
        brush.lineWidth = 2;
        brush.strokeStyle = "#fff";
        brush.stroke();
      }
    }
    const drawn = this.corner && this.tool === "box" ? boxOf(this.corner, this.cursor ?? this.last ?? this.corner) : box;
    if (!drawn) return;
    const [first, last] = [at([drawn[0] - 0.5, drawn[1] - 0.5]), at([drawn[2] + 0.5, drawn[3] + 0.5])];
    brush.setLineDash([6, 4]);
    brush.lineWidth = 2;
    brush.strokeStyle = "#ffe100";
    brush.strokeRect(first[0], first[1], last[0] - first[0], last[1] - first[1]);
    brush.setLineDash([]);
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", () => {
      this.dragged = this.corner = null;
      this.fingers.clear();
      this.draw();
    });
    canvas.addEventListener("keydown", (event) => { if (this.plane && this.#key(event)) event.preventDefault(); });
    canvas.addEventListener("blur", () => { this.cursor = this.corner = null; this.draw(); });
  }

  #wheel(event) {
    event.preventDefault();
    if (this.slices > 1 && !event.ctrlKey) return this.go(this.index + Math.sign(event.deltaY));
    const bounds = this.canvas.getBoundingClientRect();
    return this.resize(event.deltaY < 0 ? STEP : 1 / STEP, event.clientX - bounds.left, event.clientY - bounds.top);
  }

  #down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.focus({ preventScroll: true });
    this.cursor = null;
    this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
    this.dragged = { x: event.clientX, y: event.clientY, moved: 0, shift: this.shift, window: this.window };
    if (this.tool === "box" && this.isPointing) this.corner = this.last = this.#pixel(event);
  }

  #move(event) {
    if (!this.dragged) return;
    if (this.fingers.size > 1) return void this.#pinch(event);
    const [x, y] = [event.clientX - this.dragged.x, event.clientY - this.dragged.y];
    this.dragged.moved = Math.max(this.dragged.moved, Math.hypot(x, y));
    if (this.corner) {
      this.last = this.#pixel(event) ?? this.last;
      return void this.draw();
    }
    if (this.tool === "window" && this.window && !event.shiftKey) {
      const [centre, width] = this.dragged.window;
      return void this.setWindow([centre + (y * width) / 300, width * Math.exp(x / 200)]);
    }
    if (this.tool === "move" || this.tool === "window" || event.shiftKey) {
      this.shift = [this.dragged.shift[0] + x, this.dragged.shift[1] + y];
      this.draw();
    }
  }

  #pinch(event) {
    const apart = ([first, second]) => Math.hypot(first[0] - second[0], first[1] - second[1]);
    const before = apart([...this.fingers.values()]);
    this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
    this.dragged.moved = Infinity;
    this.corner = null;
    this.resize(apart([...this.fingers.values()]) / Math.max(before, 1));
  }

  #up(event) {
    const { corner } = this;
    const moved = this.dragged?.moved ?? Infinity;
    const place = this.#pixel(event);
    this.fingers.delete(event.pointerId);
    this.dragged = this.fingers.size ? this.dragged : null;
    this.corner = null;
    if (!this.isPointing) return;
    if (this.tool === "box") {
      if (corner && moved > 4) this.events.onPoint("box", boxOf(corner, place ?? this.last ?? corner));
    } else if (place && moved <= 4) {
      this.events.onPoint(this.tool, place);
    }
    this.draw();
  }

  /** Whether a key means something here. */
  #key({ key, shiftKey }) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (key === "PageUp" || (key === "ArrowUp" && !this.isPointing)) this.go(this.index - 1);
    else if (key === "PageDown" || (key === "ArrowDown" && !this.isPointing)) this.go(this.index + 1);
    else if (key === "Home") this.go(0);
    else if (key === "End") this.go(this.slices - 1);
    else if (key === "+" || key === "=") this.resize(STEP);
    else if (key === "-") this.resize(1 / STEP);
    else if (key === "0") this.fit();
    else if (key === "Escape") { this.cursor = this.corner = null; this.draw(); }
    else if (key in steps && this.isPointing) this.#moveCursor(steps[key], shiftKey);
    else if (key === "Enter" && this.isPointing && this.cursor) this.#point();
    else return false;
    return true;
  }

  #moveCursor([down, right], isFine) {
    const { rows, columns } = this.plane;
    const step = isFine ? 1 : Math.max(1, Math.round(Math.max(rows, columns) / 64));
    const [row, column] = this.cursor ?? [Math.floor(rows / 2) - down * step, Math.floor(columns / 2) - right * step];
    this.cursor = [within(row + down * step, 0, rows - 1), within(column + right * step, 0, columns - 1)];
    this.events.onCursor(this.cursor);
    this.draw();
  }

  #point() {
    if (this.tool !== "box") return this.events.onPoint(this.tool, this.cursor);
    if (!this.corner) {
      this.corner = this.cursor;
      return this.draw();
    }
    const box = boxOf(this.corner, this.cursor);
    this.corner = null;
    return this.events.onPoint("box", box);
  }
}

function boxOf([row, column], [otherRow, otherColumn]) {
  return [Math.min(row, otherRow), Math.min(column, otherColumn), Math.max(row, otherRow), Math.max(column, otherColumn)]
    .map((value) => Math.max(0, Math.round(value)));
}

function line(brush, colour, ...lines) {
  brush.beginPath();
  for (const [from, to] of lines) {
    brush.moveTo(...from);
    brush.lineTo(...to);
  }
  brush.lineWidth = 2;
  brush.strokeStyle = colour;
  brush.stroke();
}
