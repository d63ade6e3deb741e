// Start: open the dataset, show the first picture immediately, then the rest.

import { $, askJson, h, toast } from "./dom.js";
import { fit, panBy, zoomBy } from "./camera.js";
import { redrawCalendar, startCalendar } from "./calendar.js";
import { renderCompare, startCompare } from "./compare.js";
import { redrawCurves, startCurves } from "./curves.js";
import { layout, loadOverlay, refreshCaptions, render, shownChannels, sizeNow, startDay } from "./day.js";
import { frames, sizeFor } from "./frames.js";
import { dataset, onChange, restore, set, state } from "./state.js";
import { goTo, onPlay, play, redrawTimeline, startTimeline, step, stepDay } from "./timeline.js";
import { startFollow } from "./follow.js";
import { openTake } from "./take.js";

const VIEWS = ["day", "compare", "curves", "calendar"];
const KEYS = [
  ["space", "play or pause"], ["← →", "previous or next slot"], ["Shift ← →", "previous or next day"], ["< >", "slower or faster"],
  ["+ −", "zoom in or out"], ["w a s d", "pan"], ["0", "whole Sun"], ["g", "limb and grid"], ["1 … 9", "enlarge a channel (Esc shows all)"],
  ["i j k l", "move the cursor in the focused picture (faster with Shift)"], ["Enter", "enlarge the focused picture"],
  ["d c v m", "day, compare, light curves, calendar"], ["f", "follow the newest slot"], ["e", "export"], ["?", "show this list"],
];

function showView() {
  for (const name of VIEWS) {
    const on = state.view === name;
    $(`view-${name}`).hidden = !on;
    $(`tab-${name}`).setAttribute("aria-selected", String(on));
    $(`tab-${name}`).tabIndex = on ? 0 : -1;
  }
  $("timeline").hidden = !["day", "compare"].includes(state.view);
  $("readout").hidden = true;
  $("tooltip").hidden = true;
}

function theme(value) {
  document.documentElement.dataset.theme = value;
  redrawTimeline();
  redrawCalendar();
  redrawCurves();
}

function openHelp() {
  const dialog = $("help-dialog");
  dialog.replaceChildren(
    h("button", { className: "close icon", onclick: () => dialog.close(), "aria-label": "Close" }, "×"),
    h("h2", { id: "help-title" }, "Keys"),
    h("dl", {}, ...KEYS.flatMap(([keys, text]) => [h("dt", {}, ...keys.split(" ").map((key) => h("kbd", {}, key))), h("dd", {}, text)])),
    h("h3", {}, "About"),
    h("p", {}, `${dataset.name}: ${dataset.samples.toLocaleString("en")} samples every ${dataset.cadence / 60} min, ${dataset.resolution} × ${dataset.resolution} pixels, ${dataset.shards.toLocaleString("en")} shards, constants ${dataset.constants || "unknown"}. Use the wheel or pinch to zoom, and drag to pan.`));
  dialog.showModal();
}

const SPEEDS = [2, 6, 12, 24, 30];
function faster(count) {
  const fps = SPEEDS[Math.min(Math.max(SPEEDS.indexOf(state.fps) + count, 0), SPEEDS.length - 1)];
  $("speed").value = String(fps);
  set({ fps });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const inField = event.target.matches("input, select, textarea");
  if (inField && !(event.target.id === "slot" && !event.key.startsWith("Arrow"))) return;
  if (event.key === " " && event.target.matches("button")) return;
  const pictures = ["day", "compare"].includes(state.view);
  const number = Number(event.key);
  const pan = 0.1 / state.zoom;
  const actions = {
    " ": () => play(), ArrowLeft: () => { set({ follow: false }); if (event.shiftKey) stepDay(-1); else { play(false); step(-1); } }, ArrowRight: () => (event.shiftKey ? stepDay(1) : (play(false), step(1))),
    "<": () => faster(-1), ">": () => faster(1), "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), 0: fit,
    w: () => panBy(0, -pan), s: () => panBy(0, pan), a: () => panBy(-pan, 0), d: () => panBy(pan, 0),
    g: () => set({ grid: !state.grid }), f: () => set({ follow: !state.follow }), Escape: () => set({ single: null }),
  };
  const everywhere = {
    c: () => set({ view: "compare" }), v: () => set({ view: "curves" }), m: () => set({ view: "calendar" }), e: openTake, "?": openHelp,
    ...(pictures && state.zoom > 1 ? {} : { d: () => set({ view: "day" }) }),
  };
  let action = everywhere[event.key] ?? (pictures ? actions[event.key] : undefined);
  if (!action && pictures && number >= 1 && number <= state.channels.length) action = () => set({ view: "day", single: state.single === state.channels[number - 1] ? null : state.channels[number - 1] });
  if (!action) return;
  event.preventDefault();
  action();
}

async function start() {
  const facts = await askJson("dataset");
  restore(facts);
  document.title = `${facts.name} · SDOML-lite viewer`;
  $("name").textContent = facts.name;
  $("brand").title = facts.source;
  document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
  startDay();
  startCompare();
  startTimeline();
  startCurves();
  startCalendar();
  showView();
  onChange((changed) => { if (changed.has("view")) { play(false); showView(); } });
  layout();
  render(); // before the metadata, which takes longer
  goTo(state.t).then(() => { refreshCaptions(); loadOverlay(); startFollow(); });
  onPlay(
    (t) => (state.view === "compare" ? renderReady(t) : frames(t, shownChannels(), sizeNow())),
    (slots) => { if (state.view === "day") slots.slice(0, state.fps).forEach((t) => frames(t, shownChannels(), sizeNow()).catch(() => {})); },
  );
  $("tab-day").parentElement.addEventListener("click", (event) => { const view = event.target.dataset.view; if (view) set({ view }); });
  $("tab-day").parentElement.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.stopPropagation();
    const view = VIEWS[(VIEWS.indexOf(state.view) + move + VIEWS.length) % VIEWS.length];
    set({ view });
    $(`tab-${view}`).focus();
  });
  $("take").addEventListener("click", openTake);
  $("help").addEventListener("click", openHelp);
  $("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "light" ? "dark" : "light"));
  $("brand").addEventListener("click", (event) => { event.preventDefault(); fit(); set({ view: "day", single: null }); });
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", () => location.reload());
  if (state.view !== "day") { const { view } = state; state.view = "day"; set({ view }); }
}

const renderReady = (t) => {
  const size = sizeFor(600);
  if (state.mode === "difference") return frames(t, [state.a], size, state.before);
  return frames(t, state.a === state.b ? [state.a] : [state.a, state.b], size);
};

start().catch((error) => toast(error.message));
export { renderCompare };
