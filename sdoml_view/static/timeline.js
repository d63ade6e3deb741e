// The time slider: the slots of a window of days, steps, playback and dates.

import { $, askJson, clock, context2d, css, dayOf, h, isoOf, secondsOf, toast } from "./dom.js";
import { dataset, onChange, set, state } from "./state.js";

const DAY = 86400;
let range = { start: 0, end: 0, slots: [], channels: {}, flags: [], before: null, after: null };
const playing = { on: false, ready: async () => {}, ahead: () => {} };

export const isPlaying = () => playing.on;

// Metadata of a frame at the current slot, or null.
export function frameInfo(name, t = state.t) {
  const at = range.slots.indexOf(t);
  const channel = range.channels[name];
  if (at < 0 || !channel || !channel.present[at]) return null;
  return {
    observed: channel.observed[at], exposure: channel.exposure[at], standIn: Boolean(channel.stand_in[at]),
    flags: range.flags.filter(([bit]) => (channel.flags[at] >> bit) & 1).map(([, flag]) => flag),
  };
}

// Load the window again, because the dataset changed.
export function reload() { range = { ...range, start: 0, end: 0 }; }

export const slotsLoaded = () => range.slots.length > 0;

// Load the window around a time, if it is not the current one.
let loading = null;
async function windowAround(t) {
  if (t >= range.start && t < range.end && range.end - range.start === state.span * DAY) return range;
  const start = secondsOf(dayOf(t));
  if (loading?.start === start && loading.span === state.span) return loading.promise;
  const promise = askJson("slots", { start: isoOf(start), end: isoOf(start + state.span * DAY) }).then((found) => {
    range = { start, end: start + state.span * DAY, ...found };
    loading = null;
    return range;
  });
  loading = { start, span: state.span, promise };
  promise.catch(() => { loading = null; });
  return promise;
}

// Go to the slot nearest to a time.
let wish = 0;
export async function goTo(t) {
  const mine = ++wish;
  try {
    let found = await windowAround(t);
    if (!found.slots.length) {
      const other = [found.before, found.after].filter((slot) => slot !== null)
        .sort((a, b) => Math.abs(a - t) - Math.abs(b - t))[0];
      if (other === undefined) return;
      toast(`There is no sample on ${dayOf(t)}. This is the nearest one.`);
      t = other;
      found = await windowAround(t);
    }
    if (mine !== wish) return;
    const nearest = found.slots.reduce((best, slot) => (Math.abs(slot - t) < Math.abs(best - t) ? slot : best));
    if (nearest === state.t && drawn !== null && drawn !== found) set({ played: (state.played ?? 0) + 1 }); // its frames may be new
    set({ t: nearest });
    show();
  } catch (error) { toast(error.message); }
}

// Time of the slot `count` steps away, or null at the end of the dataset.
export function neighbor(count, t = state.t) {
  const at = range.slots.indexOf(t) + count;
  if (at < 0) return range.before;
  return at < range.slots.length ? range.slots[at] : range.after;
}

export async function step(count) {
  const t = neighbor(count);
  if (t !== null && t !== undefined) await goTo(t);
}

export function stepDay(count) { goTo(state.t + count * DAY); }

export function onPlay(ready, ahead) { playing.ready = ready; playing.ahead = ahead; }

export async function play(on = !playing.on) {
  if (on === playing.on) return;
  playing.on = on;
  $("play").classList.toggle("on", on);
  $("play").setAttribute("aria-label", on ? "Pause" : "Play");
  if (!on) { set({ played: (state.played ?? 0) + 1 }); return; }
  let due = performance.now();
  while (playing.on) {
    let t = neighbor(1);
    if (t === null || t === undefined) t = range.slots[0]; // at the end, restart the window
    try {
      await windowAround(t);
      playing.ahead(Array.from({ length: Math.max(6, state.fps) }, (_, i) => neighbor(i + 1))
        .filter((slot, i, all) => slot !== null && slot !== undefined && all.indexOf(slot) === i));
      await playing.ready(t);
    } catch (error) { toast(error.message); play(false); return; }
    due = Math.max(due + 1000 / state.fps, performance.now() - 500 / state.fps);
    await until(due);
    if (playing.on) { set({ t }); show(); }
  }
}

const until = (due) => new Promise((resolve) => {
  const look = (now) => (now >= due - 4 ? resolve() : requestAnimationFrame(look));
  requestAnimationFrame(look);
});

export function show() {
  const { slots } = range;
  const slider = $("slot");
  slider.max = Math.max(slots.length - 1, 0);
  slider.value = slots.indexOf(state.t);
  slider.setAttribute("aria-valuetext", `${isoOf(state.t).slice(0, 16).replace("T", " ")} UTC`);
  $("time").textContent = `${isoOf(state.t).slice(0, 16).replace("T", " ")} UTC`;
  $("date").value = dayOf(state.t);
  if (drawn !== range) { drawn = range; drawMarks(); drawTicks(); }
}

let drawn = null;
function drawMarks() { // one column per slot, which shows how many of the selected channels it has
  const { context, width, height } = context2d($("marks"));
  const { slots } = range;
  const names = state.channels;
  const [full, some] = [css("--accent"), css("--muted")];
  slots.forEach((_, i) => {
    const share = names.filter((name) => range.channels[name].present[i]).length / names.length;
    context.fillStyle = share === 1 ? full : some;
    context.globalAlpha = share === 1 ? 0.75 : 0.2 + 0.4 * share;
    const step = width / slots.length;
    context.fillRect(i * step, height * (1 - share), Math.max(step - 0.6, 0.6), height * share);
  });
  context.globalAlpha = 1;
}

function drawTicks() {
  const { slots } = range;
  const ticks = [];
  const wide = $("ticks").clientWidth;
  const most = Math.max(2, Math.floor(wide / (state.span === 1 ? 74 : 100)));
  const least = Math.ceil(slots.length / most);
  const perHour = 3600 / dataset.cadence;
  // Use whole hours if the slots allow it.
  const every = [1, 2, 3, 4, 6, 8, 12, 24, 48, 72, 168].map((hours) => hours * perHour)
    .find((count) => Number.isInteger(count) && count >= least) ?? Math.max(1, least);
  for (let i = 0; i < slots.length; i += every) {
    if (i + every / 2 > slots.length - 1 && i) continue;
    const text = state.span === 1 ? clock(slots[i]) : `${isoOf(slots[i]).slice(5, 10)} ${clock(slots[i])}`;
    const tick = h("span", {}, text);
    const share = slots.length > 1 ? i / (slots.length - 1) : 0.5;
    tick.style.left = `calc(8px + (100% - 16px) * ${share.toFixed(4)})`;
    if (i === 0) tick.className = "first";
    ticks.push(tick);
  }
  $("ticks").replaceChildren(...ticks);
}

export function redrawTimeline() { drawn = null; if (slotsLoaded()) show(); }

export function startTimeline() {
  $("slot").addEventListener("input", (event) => { set({ follow: false }); play(false); set({ t: range.slots[event.target.value] }); show(); });
  $("previous").addEventListener("click", () => { play(false); step(-1); });
  $("next").addEventListener("click", () => { play(false); step(1); });
  $("play").addEventListener("click", () => play());
  $("day-before").addEventListener("click", () => stepDay(-1));
  $("day-after").addEventListener("click", () => stepDay(1));
  $("date").min = dataset.first.slice(0, 10);
  $("date").max = dataset.last.slice(0, 10);
  $("date").addEventListener("change", (event) => {
    if (event.target.value) goTo(secondsOf(event.target.value) + (state.t % DAY));
  });
  $("span").value = String(state.span);
  $("span").addEventListener("change", (event) => { set({ span: Number(event.target.value) }); goTo(state.t); });
  $("speed").value = String(state.fps);
  $("speed").addEventListener("change", (event) => set({ fps: Number(event.target.value) }));
  new ResizeObserver(redrawTimeline).observe($("ticks"));
  onChange((changed) => { if (changed.has("channels")) redrawTimeline(); });
}
