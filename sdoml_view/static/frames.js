// Frames: fetch display levels, keep the recent ones, and color them.

import { ask, isoOf } from "./dom.js";
import { channelOf, dataset } from "./state.js";

const LIMIT = 320 * 1024 * 1024;
const cache = new Map(); // key → promise of {name: Uint8Array}
const sizes = new Map();
let total = 0;

export const keyOf = (t, channels, size, before) => `${t} ${size} ${before} ${channels.join()}`;

export function frames(t, channels, size, before = 0) {
  const key = keyOf(t, channels, size, before);
  const known = cache.get(key);
  if (known) { cache.delete(key); cache.set(key, known); return known; }
  const loading = load(t, channels, size, before).then((found) => {
    const bytes = Object.keys(found).length * size * size;
    sizes.set(key, bytes);
    total += bytes;
    evict();
    return found;
  });
  loading.catch(() => cache.delete(key));
  cache.set(key, loading);
  return loading;
}

// Forget all frames, because slots of a live dataset can gain channels.
export function forget() { cache.clear(); sizes.clear(); total = 0; }

function evict() {
  for (const key of cache.keys()) {
    if (total <= LIMIT) break;
    if (!sizes.has(key)) continue;
    total -= sizes.get(key);
    sizes.delete(key);
    cache.delete(key);
  }
}

async function load(t, channels, size, before) {
  const query = { t: isoOf(t), channels: channels.join(), size };
  if (before) query.before = before;
  const response = await ask("frames", query);
  const names = response.headers.get("X-Frames").split(",").filter(Boolean);
  const data = new Uint8Array(await response.arrayBuffer());
  return Object.fromEntries(names.map((name, i) => [name, data.subarray(i * size * size, (i + 1) * size * size)]));
}

// Smallest size that is sharp at a number of device pixels.
export function sizeFor(pixels) {
  const full = dataset.resolution;
  let size = full;
  while (size % 2 === 0 && size / 2 >= 64 && size / 2 >= pixels * 0.72) size /= 2;
  return size;
}

const palettes = new Map();
export function palette(name) {
  if (!palettes.has(name)) {
    const bytes = Uint8Array.from(atob(channelOf(name).colors), (letter) => letter.charCodeAt(0));
    palettes.set(name, Uint32Array.from({ length: 256 }, (_, i) =>
      (255 << 24) | (bytes[3 * i + 2] << 16) | (bytes[3 * i + 1] << 8) | bytes[3 * i]));
  }
  return palettes.get(name);
}

export const GRAY = Uint32Array.from({ length: 256 }, (_, i) => (255 << 24) | (i << 16) | (i << 8) | i);

// Draw levels in color on a canvas of the same size as the frame.
export function paint(canvas, levels, size, colors) {
  if (canvas.width !== size) { canvas.width = size; canvas.height = size; }
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colors[levels[i]];
  context.putImageData(image, 0, 0);
}
