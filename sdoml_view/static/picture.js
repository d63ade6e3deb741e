// A picture: one frame with limb, grid and cursor, drawn with the shared zoom.

import { context2d } from "./dom.js";
import { paint } from "./frames.js";
import { state } from "./state.js";

export class Picture {
  constructor(canvas) {
    this.canvas = canvas;
    this.source = document.createElement("canvas");
    this.loaded = false;
    this.overlay = null;
    this.cursor = null;
  }

  show(levels, size, colors) {
    this.loaded = Boolean(levels);
    if (levels) paint(this.source, levels, size, colors);
    this.draw();
  }

  draw() {
    const { context, width } = context2d(this.canvas);
    if (!width) return;
    drawSource(context, this.loaded ? this.source : null, width);
    decorate(context, width, this.overlay, this.cursor, this.loaded);
  }
}

// Return the position of the frame's northeast corner and the length of its edge, in CSS pixels.
export function place(width) {
  const edge = width * state.zoom;
  return [width / 2 - state.x * edge, width / 2 - state.y * edge, edge];
}

export function drawSource(context, source, width, alpha = 1) {
  if (!source) return;
  const [left, top, edge] = place(width);
  const scale = edge * (window.devicePixelRatio || 1) / source.width;
  context.imageSmoothingEnabled = scale < 4; // show sharp pixels when they are large
  context.imageSmoothingQuality = "high";
  context.globalAlpha = alpha;
  context.drawImage(source, left, top, edge, edge);
  context.globalAlpha = 1;
}

export function decorate(context, width, overlay, cursor, loaded = true) {
  const [left, top, edge] = place(width);
  const at = ([x, y]) => [left + x * edge, top + y * edge];
  if (overlay && (state.grid || !loaded)) {
    const [x, y, radius] = overlay.limb;
    context.lineWidth = 1.2;
    context.strokeStyle = loaded ? "rgba(255,255,255,.85)" : "rgba(255,255,255,.25)";
    context.beginPath();
    context.arc(...at([x, y]), radius * edge, 0, 2 * Math.PI);
    context.stroke();
  }
  if (overlay && state.grid && loaded) {
    context.lineWidth = 0.8;
    context.strokeStyle = "rgba(255,255,255,.42)";
    context.beginPath();
    for (const line of overlay.grid) {
      line.forEach((point, i) => (i ? context.lineTo(...at(point)) : context.moveTo(...at(point))));
    }
    context.stroke();
  }
  if (cursor) {
    const [x, y] = at(cursor);
    context.strokeStyle = "#fff";
    context.lineWidth = 1;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 4 * dx, y + 4 * dy);
      context.lineTo(x + 11 * dx, y + 11 * dy);
    }
    context.stroke();
  }
}
