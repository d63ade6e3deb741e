// Light curves: small stacked charts on one time axis, with the user's series below.

import { $, apart, askJson, clock, context2d, css, h, isoOf, secondsOf, short, toast, tooltip } from "./dom.js";
import { channelOf, dataset, onChange, set, state } from "./state.js";
import { goTo } from "./timeline.js";

const DAY = 86400;
let curves = [];
let own = [];
let source = "";
let cursor = null;

const range = () => [state.start, state.end];

function choose(days) {
  const [first, last] = [secondsOf(dataset.first), secondsOf(dataset.last)];
  if (!days) return [first, last + dataset.cadence];
  const start = Math.max(first, Math.min(Math.floor(state.t / DAY) * DAY - Math.floor((days - 1) / 2) * DAY, last - days * DAY + dataset.cadence));
  return [start, Math.min(start + days * DAY, last + dataset.cadence)];
}

let wish = 0;
async function load() {
  const mine = ++wish;
  const [start, end] = range();
  if (!(start < end)) return;
  $("curve-note").textContent = "Reading …";
  try {
    const found = await askJson("curves", { start: isoOf(start), end: isoOf(end), channels: state.channels.join() });
    if (mine !== wish) return;
    curves = found.curves;
    source = found.source;
    const points = Math.max(0, ...curves.map((curve) => curve.times.length));
    const each = Math.round(found.samples / Math.max(points, 1));
    $("curve-note").textContent = source === "index"
      ? `From the index: ${each > 1 ? `averages over ${each} frames` : "every frame"}. Thin line: fraction of saturated pixels.`
      : `The index has no brightness values, so these are measured from ${points} sample${points === 1 ? "" : "s, evenly spaced"}. Thin line: fraction of saturated pixels.`;
    draw();
  } catch (error) { if (mine === wish) { $("curve-note").textContent = ""; toast(error.message); } }
}

function draw() {
  const rows = [
    ...curves.map((curve) => ({ label: channelOf(curve.channel).label.replace(" magnetogram", ""), unit: curve.unit, times: curve.times, values: curve.mean, extra: curve.saturated, color: colorOf(curve.channel) })),
    ...own.map((series) => ({ label: series.name, unit: "", times: series.times, values: series.values, user: series, color: css("--accent") })),
  ];
  const box = $("curves");
  if (box.children.length !== rows.length) {
    box.replaceChildren(...rows.map((row) => {
      const canvas = h("canvas", { tabIndex: 0, role: "img" });
      canvas.addEventListener("pointermove", (event) => hover(event, canvas));
      canvas.addEventListener("pointerleave", () => { cursor = null; tooltip(null, null); paintAll(); });
      canvas.addEventListener("click", (event) => { goTo(timeAt(event, canvas)); set({ view: "day" }); tooltip(null, null); });
      return h("div", { className: row.user ? "curve user" : "curve" }, canvas);
    }));
  }
  rows.forEach((row, i) => {
    const element = box.children[i];
    element.className = row.user ? "curve user" : "curve";
    element.row = row;
    element.querySelector("button")?.remove();
    if (row.user && !row.user.fixed) element.append(h("button", { onclick: () => { own = own.filter((series) => series !== row.user); draw(); }, "aria-label": `Remove ${row.label}` }, "×"));
    element.firstChild.setAttribute("aria-label", alternative(row));
  });
  paintAll();
}

function alternative(row) {
  const known = row.values.filter((value) => value !== null);
  if (!known.length) return `${row.label}: no values`;
  const [low, high] = [known.reduce((a, b) => Math.min(a, b)), known.reduce((a, b) => Math.max(a, b))];
  return `${row.label}: ${known.length} values from ${low.toPrecision(3)} to ${high.toPrecision(3)} ${row.unit}`;
}

function colorOf(name) { // a bright color from the channel's colormap
  const bytes = Uint8Array.from(atob(channelOf(name).colors), (letter) => letter.charCodeAt(0));
  const at = document.documentElement.dataset.theme === "light" ? 110 : 190;
  return name === "HMI_M" ? css("--text") : `rgb(${bytes[3 * at]} ${bytes[3 * at + 1]} ${bytes[3 * at + 2]})`;
}

const LEFT = 138;
const GAP = 3.5; // points that are more than this many steps apart are not connected
const RIGHT = 14;
const timeAt = (event, canvas) => {
  const box = canvas.getBoundingClientRect();
  const share = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
  return state.start + Math.min(Math.max(share, 0), 1) * (state.end - state.start);
};

function hover(event, canvas) {
  cursor = timeAt(event, canvas);
  const rows = [...$("curves").children].map(({ row }) => {
    const value = valueAt(row, cursor);
    return value === null ? null : h("tr", {}, h("td", {}, row.label), h("td", {}, `${short(value)} ${row.unit}`));
  });
  tooltip(event, h("div", {}, h("b", {}, `${isoOf(cursor).slice(0, 16).replace("T", " ")} UTC`), h("table", {}, ...rows.filter(Boolean))));
  paintAll();
}

function valueAt(row, t) { // value of the nearest point; none in a gap
  const limit = GAP * typical(row.times);
  let [low, high] = [0, row.times.length];
  while (low < high) { const middle = (low + high) >> 1; if (row.times[middle] < t) low = middle + 1; else high = middle; }
  const near = [low - 1, low].filter((i) => i >= 0 && i < row.times.length && row.values[i] !== null && Math.abs(row.times[i] - t) <= limit)
    .sort((a, b) => Math.abs(row.times[a] - t) - Math.abs(row.times[b] - t))[0];
  return near === undefined ? null : row.values[near];
}

function paintAll() {
  const elements = [...$("curves").children];
  elements.forEach((element, i) => paintRow(element.firstChild, element.row, i === elements.length - 1));
}

function paintRow(canvas, row, last) {
  const { context, width, height } = context2d(canvas);
  if (!width) return;
  const [start, end] = range();
  const [top, bottom] = [8, height - (last ? 22 : 6)];
  const x = (t) => LEFT + ((t - start) / (end - start)) * (width - LEFT - RIGHT);
  const inside = row.values.map((value, i) => (row.times[i] >= start && row.times[i] <= end ? value : null));
  const known = inside.filter((value) => value !== null);
  context.font = "600 12.5px system-ui, sans-serif";
  context.fillStyle = css("--text");
  if (row.user) context.fillText(fit(context, row.label, width - LEFT - RIGHT - 50), LEFT + 8, top + 16); // file names can be long
  else context.fillText(row.label, 0, top + 12);
  context.strokeStyle = css("--line");
  context.strokeRect(LEFT, top, width - LEFT - RIGHT, bottom - top);
  ticks(context, x, width, top, bottom, last);
  if (!known.length) {
    context.fillStyle = css("--muted");
    context.fillText("no values in this range", LEFT + 12, (top + bottom) / 2 + 4);
    return;
  }
  let low = known.reduce((a, b) => Math.min(a, b));
  let high = known.reduce((a, b) => Math.max(a, b));
  const positive = known.filter((value) => value > 0);
  const log = Boolean(positive.length) && (state.log || (row.user && positive.length === known.length && high / low > 50));
  if (log) low = positive.reduce((a, b) => Math.min(a, b));
  const scale = (value) => (log ? Math.log10(Math.max(value, low)) : value);
  let [from, to] = [scale(low), scale(high)];
  if (to - from < Math.abs(to) * 1e-6 + 1e-12) { from -= 0.5; to += 0.5; }
  const margin = (to - from) * 0.08;
  [from, to] = [from - margin, to + margin];
  const y = (value) => bottom - ((scale(value) - from) / (to - from)) * (bottom - top);
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = css("--muted");
  context.textAlign = "right";
  const [least, most] = apart(low, high);
  for (const [text, at] of [[most, top + 11], [least, bottom - 2]]) context.fillText(text, LEFT - 6, at);
  if (row.unit) context.fillText(row.unit, LEFT - 6, (top + bottom) / 2 + 4);
  context.textAlign = "left";
  if (log) { // one line per decade
    context.strokeStyle = css("--line");
    context.lineWidth = 0.6;
    context.beginPath();
    for (let decade = Math.ceil(Math.log10(low)); decade <= to; decade++) { context.moveTo(LEFT, y(10 ** decade)); context.lineTo(width - RIGHT, y(10 ** decade)); }
    context.stroke();
  }
  const usual = typical(row.times);
  const line = (values, place, style, thick) => {
    context.strokeStyle = style;
    context.lineWidth = thick;
    context.beginPath();
    let previous = null;
    values.forEach((value, i) => {
      if (value === null) { previous = null; return; }
      const point = [x(row.times[i]), place(value)];
      const begins = previous === null || row.times[i] - previous > GAP * usual;
      if (begins) { context.moveTo(...point); context.lineTo(point[0] + 0.6, point[1]); } else context.lineTo(...point);
      previous = row.times[i];
    });
    context.stroke();
  };
  if (row.extra?.some((value) => value > 0)) {
    const highest = Math.max(...row.extra.map((value) => value ?? 0), 1e-6);
    line(row.extra, (value) => bottom - (value / highest) * (bottom - top) * 0.45, css("--muted"), 0.8);
    context.textAlign = "right";
    context.fillStyle = css("--muted");
    if (width > 600) context.fillText(`saturated ≤ ${(highest * 100).toPrecision(2)}%`, width - RIGHT - 6, top + 12);
    context.textAlign = "left";
  }
  line(inside, y, row.color, 1.6);
  for (const [t, color] of [[state.t, css("--accent")], [cursor, css("--text")]]) {
    if (t === null || t < start || t > end) continue;
    context.strokeStyle = color;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x(t), top);
    context.lineTo(x(t), bottom);
    context.stroke();
  }
}

const typical = (times) => {
  const steps = times.slice(1, 400).map((time, i) => time - times[i]).filter((value) => value > 0).sort((a, b) => a - b);
  return steps[Math.floor(steps.length / 2)] ?? DAY;
};

function fit(context, text, width) {
  let length = text.length;
  const cut = () => (length < text.length ? `${text.slice(0, length)}…` : text);
  while (length > 1 && context.measureText(cut()).width > width) length--;
  return cut();
}

function ticks(context, x, width, top, bottom, labels) {
  const [start, end] = range();
  const steps = [900, 3600, 10800, 21600, 43200, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 91 * DAY, 365 * DAY, 730 * DAY];
  const step = steps.find((seconds) => (end - start) / seconds <= (width - LEFT) / 90) ?? steps[steps.length - 1];
  context.font = "11px system-ui, sans-serif";
  for (let t = Math.ceil(start / step) * step; t <= end; t += step) {
    context.strokeStyle = css("--line");
    context.lineWidth = 0.6;
    context.beginPath();
    context.moveTo(x(t), top);
    context.lineTo(x(t), bottom);
    context.stroke();
    if (!labels) continue;
    context.fillStyle = css("--muted");
    context.textAlign = "center";
    const iso = isoOf(t);
    context.fillText(step >= DAY || t % DAY === 0 ? (step >= 30 * DAY ? iso.slice(0, 7) : iso.slice(0, 10)) : clock(t), Math.min(x(t), width - 32), bottom + 15);
    context.textAlign = "left";
  }
}

async function addFile(file) {
  if (!file) return;
  try {
    const found = await askJson("series", { name: file.name }, { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
    own.push(...found);
    draw();
    $("curves").lastElementChild?.scrollIntoView({ block: "nearest" });
  } catch (error) { toast(error.message); }
}

function showRange() {
  $("curve-start").value = isoOf(state.start).slice(0, 16);
  $("curve-end").value = isoOf(state.end).slice(0, 16);
}

export function startCurves() {
  for (const button of document.querySelectorAll("[data-days]")) {
    button.addEventListener("click", () => { const [start, end] = choose(Number(button.dataset.days)); set({ start, end }); });
  }
  for (const key of ["start", "end"]) {
    $(`curve-${key}`).addEventListener("change", (event) => {
      const value = secondsOf(event.target.value.length === 16 ? `${event.target.value}:00` : event.target.value);
      if (Number.isFinite(value)) set({ [key]: value });
    });
  }
  $("curve-log").addEventListener("change", (event) => set({ log: event.target.checked }));
  $("series-open").addEventListener("click", () => $("series-file").click());
  $("series-file").addEventListener("change", (event) => { addFile(event.target.files[0]); event.target.value = ""; });
  $("view-curves").addEventListener("dragover", (event) => event.preventDefault());
  $("view-curves").addEventListener("drop", (event) => { event.preventDefault(); addFile(event.dataTransfer.files[0]); });
  askJson("series").then((found) => { own.push(...found); if (state.view === "curves") draw(); }).catch(() => {});
  new ResizeObserver(() => { if (state.view === "curves") paintAll(); }).observe($("curves"));
  onChange((changed) => {
    if (state.view !== "curves") return;
    if (!state.start) { const [start, end] = choose(1); state.start = start; state.end = end; changed.add("start"); }
    if (["view", "start", "end", "channels"].some((key) => changed.has(key))) { showRange(); load(); } else paintAll();
  });
}
export const redrawCurves = () => { if (state.view === "curves") draw(); };
