// Compare: two channels swiped or blended, or the difference from an earlier slot.

import { $, context2d, h, isoOf, lasting, toast } from "./dom.js";
import { control } from "./camera.js";
import { frames, GRAY, paint, palette, sizeFor } from "./frames.js";
import { loadOverlay, overlayOf } from "./day.js";
import { decorate, drawSource } from "./picture.js";
import { channelOf, dataset, onChange, set, state } from "./state.js";
import { isPlaying } from "./timeline.js";

const canvas = h("canvas", { tabIndex: 0, role: "img", "aria-label": "Comparison" });
const caption = h("figcaption");
const absent = h("div", { className: "absent", hidden: true });
const figure = h("figure", { className: "panel" }, canvas, absent, caption);
const sources = { a: document.createElement("canvas"), b: document.createElement("canvas") };
const loaded = { a: false, b: false };

function layout() {
  const box = $("stage");
  const edge = Math.max(120, Math.min(box.clientWidth, window.innerWidth <= 720 ? box.clientWidth : box.clientHeight));
  figure.style.width = `${edge}px`;
  figure.style.height = `${edge}px`;
}

let busy = false;
let again = false;
export async function renderCompare() {
  if (state.view !== "compare") return;
  if (busy) { again = true; return; }
  busy = true;
  const began = performance.now();
  const { t, a, b, mode, before } = state;
  const pixels = canvas.clientWidth * (window.devicePixelRatio || 1) * state.zoom;
  const size = sizeFor(isPlaying() ? pixels * 0.72 : pixels);
  try {
    if (mode === "difference") {
      const found = await frames(t, [a], size, before);
      loaded.a = Boolean(found[a]);
      if (found[a]) paint(sources.a, found[a], size, GRAY);
    } else {
      const found = await frames(t, a === b ? [a] : [a, b], size);
      for (const [key, name] of [["a", a], ["b", b]]) {
        loaded[key] = Boolean(found[name]);
        if (found[name]) paint(sources[key], found[name], size, palette(name));
      }
    }
    draw();
    document.dispatchEvent(new CustomEvent("drawn", { detail: { t, size, ms: performance.now() - began } }));
  } catch (error) {
    toast(error.message);
    loaded.a = loaded.b = false; // the state already has the new time
    draw("the frames could not be read");
  }
  busy = false;
  if (again) { again = false; renderCompare(); }
}

function draw(problem = null) {
  const { context, width } = context2d(canvas);
  const { mode, mix } = state;
  const at = width * mix / 100;
  if (mode === "blend") {
    if (loaded.a) drawSource(context, sources.a, width);
    if (loaded.b) drawSource(context, sources.b, width, loaded.a ? mix / 100 : 1);
  } else if (mode === "swipe") {
    for (const [key, left, right] of [["a", 0, at], ["b", at, width]]) {
      if (!loaded[key] || right <= left) continue;
      context.save();
      context.beginPath();
      context.rect(left, 0, right - left, width);
      context.clip();
      drawSource(context, sources[key], width);
      context.restore();
    }
  } else if (loaded.a) drawSource(context, sources.a, width);
  decorate(context, width, overlayOf(state.a), null, loaded.a || loaded.b);
  if (mode === "swipe") {
    context.strokeStyle = "#fff";
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(at, 0);
    context.lineTo(at, width);
    context.stroke();
  }
  const [one, two] = [channelOf(state.a).label, channelOf(state.b).label];
  const text = { swipe: `${one} | ${two}`, blend: `${one} + ${two}`, difference: `${one}: change over ${lasting(state.before * dataset.cadence)}` }[mode];
  caption.replaceChildren(h("b", {}, text));
  absent.hidden = loaded.a || (mode !== "difference" && loaded.b);
  absent.textContent = problem ?? (mode === "difference" ? "one of the two frames is missing" : "no frames in this dataset");
  canvas.setAttribute("aria-label", `${text}, ${isoOf(state.t).slice(0, 16)} UTC`);
}

function showControls() {
  for (const button of document.querySelectorAll("[data-mode]")) button.setAttribute("aria-checked", String(button.dataset.mode === state.mode));
  $("compare-a").value = state.a;
  $("compare-b").value = state.b;
  $("mix").value = state.mix;
  $("before").value = state.before;
  const difference = state.mode === "difference";
  $("mix-label").hidden = difference;
  $("mix-label").firstElementChild.textContent = state.mode === "blend" ? "Share of B" : "Position";
  $("before-label").hidden = !difference;
  $("compare-b").disabled = difference;
  $("compare-swap").disabled = difference;
}

// Dragging moves the divider of a swipe. Elsewhere, dragging pans.
function dragDivider() {
  let dragging = false;
  const share = (event) => {
    const box = canvas.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * 100;
  };
  const near = (event) => state.mode === "swipe" && Math.abs(share(event) - state.mix) * canvas.clientWidth < 1400;
  canvas.addEventListener("pointerdown", (event) => {
    if (!near(event)) return;
    dragging = true;
    canvas.setPointerCapture(event.pointerId);
    event.stopImmediatePropagation();
  });
  canvas.addEventListener("pointermove", (event) => {
    canvas.style.cursor = dragging || near(event) ? "ew-resize" : "";
    if (!dragging) return;
    event.stopImmediatePropagation();
    set({ mix: Math.round(Math.min(Math.max(share(event), 0), 100)) });
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { dragging = false; });
}

export function startCompare() {
  dragDivider(); // must be registered before the handlers that pan
  $("stage").append(figure);
  for (const key of ["a", "b"]) {
    const select = $(`compare-${key}`);
    select.append(...dataset.channels.map(({ name, label }) => h("option", { value: name }, label)));
    select.addEventListener("change", () => set({ [key]: select.value }));
  }
  $("compare-swap").addEventListener("click", () => set({ a: state.b, b: state.a }));
  for (const button of document.querySelectorAll("[data-mode]")) button.addEventListener("click", () => set({ mode: button.dataset.mode }));
  $("mix").addEventListener("input", (event) => set({ mix: Number(event.target.value) }));
  $("before").addEventListener("change", (event) => set({ before: Math.min(Math.max(Math.round(event.target.value) || 1, 1), 999) }));
  control(canvas, {});
  new ResizeObserver(() => { if (state.view === "compare") { layout(); renderCompare(); } }).observe($("stage"));
  document.addEventListener("overlay", () => { if (state.view === "compare") draw(); });
  let sharpen = 0;
  onChange((changed) => {
    if (state.view !== "compare") return;
    showControls();
    if (changed.has("view")) layout();
    if (["view", "t", "a", "b", "mode", "before", "played"].some((key) => changed.has(key))) renderCompare();
    else {
      draw();
      if (changed.has("zoom")) { clearTimeout(sharpen); sharpen = setTimeout(renderCompare, 120); }
    }
    if (changed.has("t") && !isPlaying()) loadOverlay();
  });
  showControls();
}

export const comparePicture = () => ({ canvas, title: caption.textContent });
