// Day view: all channels of one slot side by side.

import { $, askJson, clock, css, dayOf, h, isoOf, pad, toast } from "./dom.js";
import { control, fit, zoomBy } from "./camera.js";
import { frames, palette, sizeFor } from "./frames.js";
import { Picture } from "./picture.js";
import { channelOf, dataset, onChange, set, state } from "./state.js";
import { frameInfo, isPlaying, slotsLoaded } from "./timeline.js";

const panels = new Map();
let readout = null; // {x, y, values, place}
let overlays = {};

export const shownChannels = () => (state.single ? [state.single] : state.channels);
const tile = () => panels.get(shownChannels()[0])?.picture.canvas.clientWidth ?? 300;

export function sizeNow() {
  const pixels = tile() * (window.devicePixelRatio || 1) * state.zoom;
  return sizeFor(isPlaying() ? pixels * 0.72 : pixels);
}

function panel(name) {
  const canvas = h("canvas", { tabIndex: 0, role: "img", "aria-label": channelOf(name).label });
  const parts = {
    value: h("div", { className: "value" }), badges: h("span"), observed: h("span", { className: "observed" }),
    absent: h("div", { className: "absent", hidden: true }), picture: new Picture(canvas),
  };
  parts.element = h("figure", { className: "panel" }, canvas, parts.absent,
    h("figcaption", {}, h("b", {}, channelOf(name).label), parts.observed, parts.badges), parts.value);
  parts.element.dataset.channel = name;
  const single = () => set({ single: state.single ? null : name });
  control(canvas, { onPoint: point, onLeave: clearPoint, onClick: single });
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); single(); }
    const move = { i: [0, -1], k: [0, 1], j: [-1, 0], l: [1, 0] }[event.key];
    if (!move) return;
    const [x, y] = readout ? [readout.x, readout.y] : [0.5, 0.5];
    const by = (event.shiftKey ? 0.05 : 1 / dataset.resolution);
    point(x + move[0] * by, y + move[1] * by);
  });
  return parts;
}

export function layout() {
  const names = shownChannels();
  for (const name of names) if (!panels.has(name)) panels.set(name, panel(name));
  const box = $("panels");
  const elements = names.map((name) => panels.get(name).element);
  if (elements.length !== box.children.length || elements.some((element, i) => box.children[i] !== element)) box.replaceChildren(...elements);
  const narrow = window.innerWidth <= 720;
  const [width, height, gap] = [box.clientWidth, box.clientHeight, 8];
  let best = { edge: 0, columns: 1 };
  for (let columns = 1; columns <= names.length; columns++) {
    const rows = Math.ceil(names.length / columns);
    const edge = Math.floor(Math.min((width - gap * (columns - 1)) / columns, (height - gap * (rows - 1)) / rows));
    if (edge > best.edge) best = { edge, columns };
  }
  if (narrow) {
    const columns = names.length === 1 ? 1 : 2;
    best = { columns, edge: Math.floor((width - gap * (columns - 1)) / columns) };
  }
  box.style.gridTemplateColumns = `repeat(${best.columns}, ${best.edge}px)`;
  box.style.gridAutoRows = `${best.edge}px`;
  for (const element of elements) element.firstChild.style.touchAction = narrow && state.zoom === 1 && !state.single ? "pan-y" : "none";
}

// Draw the current slot. If several requests arrive while frames load, only the latest is drawn.
let busy = false;
let again = false;
export async function render() {
  if (state.view !== "day") return;
  if (busy) { again = true; return; }
  busy = true;
  const [t, names, size] = [state.t, shownChannels(), sizeNow()];
  const began = performance.now();
  try {
    const found = await frames(t, names, size);
    for (const name of names) {
      const { picture, element } = panels.get(name);
      picture.overlay = overlays[channelOf(name).instrument] ?? Object.values(overlays)[0] ?? null;
      picture.show(found[name] ?? null, size, palette(name));
      element.classList.toggle("missing", !found[name]);
    }
    captions(found, "no frame in this dataset");
    document.dispatchEvent(new CustomEvent("drawn", { detail: { t, size, ms: performance.now() - began } }));
  } catch (error) {
    toast(error.message);
    for (const name of names) panels.get(name).picture.show(null); // the state already has the new time
    captions({}, "this frame could not be read");
  }
  busy = false;
  if (again) { again = false; render(); }
}

let shown = {};
let reason = "";
function captions(found = shown, why = reason) {
  shown = found;
  reason = why;
  for (const name of shownChannels()) {
    const { observed, badges, absent, picture } = panels.get(name);
    const info = frameInfo(name);
    absent.hidden = Boolean(found[name]);
    if (!found[name]) absent.textContent = reason;
    observed.textContent = info?.observed ? `${clock(info.observed)}:${pad(Math.floor(info.observed % 60))} (${offset(info.observed - state.t)})` : "";
    badges.replaceChildren(
      ...(info?.standIn ? [badge("stand-in", "A neighboring frame replaces the missing one")] : []),
      ...(info?.flags ?? []).map((flag) => badge(flag.replaceAll("_", " "), dataset.flags[flag])));
    picture.canvas.setAttribute("aria-label", `${channelOf(name).label} at ${isoOf(state.t).slice(0, 16)} UTC${found[name] ? "" : ", no frame"}`);
  }
  values();
}

const badge = (text, title) => h("span", { className: "badge", title }, text);

// Time between slot and observation, such as −37 s or +2 min 5 s.
export function offset(seconds) {
  const size = Math.abs(Math.round(seconds));
  const text = size < 60 ? `${size} s` : `${Math.floor(size / 60)} min ${size % 60} s`;
  return `${seconds < -0.5 ? "−" : "+"}${text}`;
}

// Values under the cursor. Only one request runs at a time, and the latest position wins.
let asking = false;
let next = null;
export async function point(x, y) {
  if (x < 0 || y < 0 || x >= 1 || y >= 1) { clearPoint(); return; }
  readout = { x, y, values: readout?.values ?? {}, place: readout?.place ?? null };
  for (const name of shownChannels()) { const { picture } = panels.get(name); picture.cursor = [x, y]; picture.draw(); }
  if (asking) { next = [x, y]; return; }
  asking = true;
  const n = dataset.resolution;
  try {
    const query = { t: isoOf(state.t), x: Math.floor(x * n), y: Math.floor(y * n), channels: shownChannels().join() };
    const found = await askJson("pixel", query);
    if (readout) { readout.values = found.values; readout.place = found.place; values(); }
  } catch (error) { toast(error.message); }
  asking = false;
  if (next) { const [a, b] = next; next = null; point(a, b); }
}

export function clearPoint() {
  readout = null;
  next = null;
  for (const { picture } of panels.values()) if (picture.cursor) { picture.cursor = null; picture.draw(); }
  values();
}

export const digits = (value) => (Math.abs(value) >= 1000 ? value.toFixed(0) : value.toPrecision(4));

function values() {
  for (const [name, { value }] of panels) {
    const found = readout?.values[name];
    value.textContent = found
      ? `${found.normalized.toFixed(4)}${found.physical === null ? "" : ` · ${digits(found.physical)} ${channelOf(name).unit}`}` : "";
  }
  const box = $("readout");
  box.hidden = !readout?.place;
  if (!box.hidden) box.textContent = describe(readout.place);
}

export function describe({ x, y, longitude, latitude }) {
  const sky = `x ${x.toFixed(0)}″  y ${y.toFixed(0)}″`;
  if (longitude === null) return `${sky}  ·  off the disk`;
  const side = (value, plus, minus) => `${value >= 0 ? plus : minus}${pad(Math.abs(value).toFixed(1), 4)}°`;
  return `${side(latitude, "N", "S")} ${side(longitude, "W", "E")}  ·  ${sky}`;
}

let overlayDay = "";
export async function loadOverlay() { // once per day, because the Sun's tilt changes by less than 0.1° per day
  const day = dayOf(state.t);
  if (overlayDay === day) return overlays;
  overlayDay = day;
  try { overlays = await askJson("overlay", { t: isoOf(state.t) }); } catch { overlayDay = ""; }
  document.dispatchEvent(new CustomEvent("overlay"));
  return overlays;
}
export const overlayOf = (name) => overlays[channelOf(name).instrument] ?? Object.values(overlays)[0] ?? null;

export function chips() {
  $("channels").replaceChildren(...dataset.channels.map(({ name, label }) => {
    const dot = h("canvas", { width: 16, height: 16 });
    const context = dot.getContext("2d");
    palette(name).forEach((_, i, colors) => {
      const color = colors[Math.min(255, 60 + Math.floor(i * 0.75))];
      context.fillStyle = `rgb(${color & 255} ${(color >> 8) & 255} ${(color >> 16) & 255})`;
      context.fillRect(i / 16, 0, 1, 16);
    });
    const toggle = () => {
      const on = state.channels.includes(name);
      if (on && state.channels.length === 1) return;
      set({ single: null, channels: dataset.channels.map((c) => c.name).filter((c) => (c === name ? !on : state.channels.includes(c))) });
    };
    return h("button", { onclick: toggle, "aria-pressed": String(state.channels.includes(name)), title: `Show or hide ${label}` }, dot, label);
  }));
}

export function startDay() {
  chips();
  $("overlay").addEventListener("click", () => set({ grid: !state.grid }));
  $("zoom-in").addEventListener("click", () => zoomBy(1.5));
  $("zoom-out").addEventListener("click", () => zoomBy(1 / 1.5));
  $("zoom-reset").addEventListener("click", fit);
  new ResizeObserver(() => { if (state.view === "day") { layout(); render(); } }).observe($("panels"));
  document.addEventListener("overlay", render);
  let sharpen = 0;
  onChange((changed) => {
    if (changed.has("channels")) chips();
    $("overlay").setAttribute("aria-pressed", String(state.grid));
    if (state.view !== "day") return;
    if (["view", "channels", "single"].some((key) => changed.has(key))) layout();
    if (["view", "t", "channels", "single", "played"].some((key) => changed.has(key))) render();
    else if (["zoom", "x", "y", "grid"].some((key) => changed.has(key))) {
      for (const name of shownChannels()) panels.get(name)?.picture.draw();
      clearTimeout(sharpen);
      sharpen = setTimeout(() => { layout(); render(); }, 120);
    }
    if (changed.has("t") && !isPlaying() && slotsLoaded()) { loadOverlay(); if (readout) point(readout.x, readout.y); }
  });
}

export const refreshCaptions = () => { if (state.view === "day" && panels.size) captions(); };
export const pictures = () => shownChannels().map((name) => ({ name, ...panels.get(name) }));
export const background = () => css("--back");
