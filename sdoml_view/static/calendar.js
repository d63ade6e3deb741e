// Calendar: coverage of every day and channel as a heat map, with the reasons for gaps.

import { $, askJson, css, h, pad, secondsOf, toast, tooltip } from "./dom.js";
import { channelOf, onChange, set, state } from "./state.js";
import { goTo } from "./timeline.js";

// Cividis, from dark blue to yellow, which is readable with color blindness.
const STOPS = [[0, 34, 78], [24, 54, 111], [66, 78, 108], [101, 103, 112], [133, 128, 120], [168, 154, 114], [205, 183, 98], [253, 231, 55]];
export function heat(share) {
  const place = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  const mixed = STOPS[low].map((value, i) => Math.round(value + (STOPS[low + 1][i] - value) * (place - low)));
  return `rgb(${mixed.join(" ")})`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY = 86400000;
let table = null;
const dayAt = (index) => new Date(Date.parse(`${table.first}T00:00:00Z`) + index * DAY);

// Split the range into rows. Each row is the longest calendar unit in which days are wide enough.
function bands(width) {
  const months = [12, 6, 3, 1].find((count) => width / (count * 30.6) >= 3.2) ?? 1;
  const first = dayAt(0);
  const last = dayAt(table.days - 1);
  if (table.days <= 62 && width / table.days >= 5) return [{ first, days: table.days, title: title(first, last) }];
  const found = [];
  let start = new Date(Date.UTC(first.getUTCFullYear(), Math.floor(first.getUTCMonth() / months) * months, 1));
  while (start <= last) {
    const end = new Date(Date.UTC(start.getUTCFullYear(), start.getUTCMonth() + months, 1));
    const name = months === 12 ? `${start.getUTCFullYear()}`
      : `${MONTHS[start.getUTCMonth()]}${months > 1 ? ` – ${MONTHS[new Date(end - DAY).getUTCMonth()]}` : ""} ${start.getUTCFullYear()}`;
    found.push({ first: start, days: Math.round((end - start) / DAY), title: name });
    start = end;
  }
  return found;
}

const title = (first, last) => `${first.toISOString().slice(0, 10)} to ${last.toISOString().slice(0, 10)}`;

function draw() {
  if (!table) return;
  const box = $("calendar");
  const room = Math.max(200, box.clientWidth - 118);
  const days = (band) => Math.round((band.first - dayAt(0)) / DAY);
  const all = bands(room);
  const longest = Math.max(...all.map((band) => band.days));
  const cell = Math.max(2, Math.min(table.days <= 14 ? 84 : 44, Math.floor((room / longest) * 10) / 10));
  const line = cell > 14 ? 26 : 13;
  box.replaceChildren(...all.map((band) => {
    const shift = days(band);
    const canvas = h("canvas", { tabIndex: 0, role: "img" });
    const height = table.channels.length * line + 18;
    canvas.style.width = `${Math.ceil(band.days * cell)}px`;
    canvas.style.height = `${height}px`;
    canvas.dataset.shift = shift;
    const labels = h("div", { className: "labels" }, ...table.channels.map((name) => {
      const text = h("span", {}, channelOf(name).label.replace(" magnetogram", ""));
      text.style.height = `${line}px`;
      text.style.lineHeight = `${line}px`;
      return text;
    }));
    const element = h("div", { className: "band" }, h("h2", {}, band.title), labels, canvas);
    const found = table.channels.map((_, row) => sum(table.found[row], shift, band.days)).reduce((a, b) => a + b, 0);
    const wanted = table.channels.map((_, row) => sum(table.expected[row], shift, band.days)).reduce((a, b) => a + b, 0);
    canvas.setAttribute("aria-label", `Coverage ${band.title}: ${found.toLocaleString("en")} of ${wanted.toLocaleString("en")} frames. Use the arrow keys to choose a day and Enter to open it.`);
    requestAnimationFrame(() => drawBand(canvas, band, shift, cell, line));
    connect(canvas, band, shift, cell);
    return element;
  }));
}

const sum = (values, shift, days) => values.slice(Math.max(shift, 0), Math.max(shift + days, 0)).reduce((a, b) => a + b, 0);

function drawBand(canvas, band, shift, cell, line, chosen = null) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.ceil(band.days * cell), table.channels.length * line + 18];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const empty = css("--empty");
  const gap = cell > 6 ? 1.5 : cell > 3.5 ? 0.5 : 0;
  for (let i = 0; i < band.days; i++) {
    const at = shift + i;
    table.channels.forEach((_, row) => {
      const expected = table.expected[row][at] ?? 0;
      context.fillStyle = expected ? heat(table.found[row][at] / expected) : empty;
      context.fillRect(i * cell, row * line, cell - gap + (gap ? 0 : 0.3), line - 1.5);
      if (expected && cell >= 52) {
        const share = table.found[row][at] / expected;
        context.fillStyle = share > 0.5 ? "#101010" : "#fff";
        context.font = "11.5px system-ui, sans-serif";
        context.textAlign = "center";
        context.fillText(`${table.found[row][at]} / ${expected}`, i * cell + (cell - gap) / 2, row * line + line / 2 + 3);
        context.textAlign = "left";
      }
      if (expected && !table.found[row][at]) { // a line also marks days without frames, so that color is not the only cue
        context.strokeStyle = "rgba(255,255,255,.6)";
        context.lineWidth = 1;
        context.beginPath();
        context.moveTo(i * cell, row * line + line - 2);
        context.lineTo(i * cell + cell - gap, row * line + 0.5);
        context.stroke();
      }
    });
  }
  context.fillStyle = css("--muted");
  context.font = "11px system-ui, sans-serif";
  let free = -1;
  for (let i = 0; i < band.days; i++) {
    const day = new Date(band.first.getTime() + i * DAY);
    const text = cell >= 52 ? `${day.getUTCDate()} ${MONTHS[day.getUTCMonth()]}` : cell >= 26 ? String(day.getUTCDate()) : day.getUTCDate() === 1 ? MONTHS[day.getUTCMonth()]
      : cell > 6 && day.getUTCDate() % 5 === 0 ? String(day.getUTCDate()) : null;
    if (text === null || i * cell < free || (cell < 26 && i * cell + context.measureText(text).width > width)) continue;
    context.fillText(text, i * cell + (cell >= 26 ? (cell - context.measureText(text).width) / 2 : 0), height - 4);
    free = i * cell + context.measureText(text).width + 6;
  }
  const current = Math.floor((state.t * 1000 - band.first.getTime()) / DAY);
  for (const [index, color] of [[current, css("--text")], [chosen, css("--focus")]]) {
    if (index === null || index < 0 || index >= band.days) continue;
    context.strokeStyle = color;
    context.lineWidth = 2;
    context.strokeRect(index * cell - 0.5, 0, Math.max(cell, 3), table.channels.length * line - 0.5);
  }
}

function connect(canvas, band, shift, cell) {
  const line = cell > 14 ? 26 : 13;
  let chosen = null;
  const open = (index) => {
    const at = shift + index;
    if (at < 0 || at >= table.days) return;
    tooltip(null, null);
    goTo(secondsOf(dayAt(at).toISOString().slice(0, 10)) + (state.t % 86400));
    set({ view: "day" });
  };
  const indexOf = (event) => Math.floor((event.clientX - canvas.getBoundingClientRect().left) / cell);
  canvas.addEventListener("pointermove", (event) => tooltip(event, describe(shift + indexOf(event))));
  canvas.addEventListener("pointerleave", () => tooltip(null, null));
  canvas.addEventListener("click", (event) => open(indexOf(event)));
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -7, ArrowDown: 7 }[event.key];
    if (event.key === "Enter" && chosen !== null) { open(chosen); return; }
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    chosen = Math.min(Math.max((chosen ?? Math.max(-shift, 0) - Math.sign(move)) + move, Math.max(-shift, 0)), Math.min(band.days, table.days - shift) - 1);
    drawBand(canvas, band, shift, cell, line, chosen);
    const box = canvas.getBoundingClientRect();
    tooltip({ clientX: box.left + chosen * cell, clientY: box.bottom - 20 }, describe(shift + chosen));
    canvas.setAttribute("aria-label", summary(shift + chosen));
  });
  canvas.addEventListener("blur", () => { chosen = null; tooltip(null, null); drawBand(canvas, band, shift, cell, line); });
}

function summary(at) {
  const [found, expected] = ["found", "expected"].map((key) => table[key].reduce((total, row) => total + (row[at] ?? 0), 0));
  return `${dayAt(at).toISOString().slice(0, 10)}: ${found} of ${expected} frames`;
}

function describe(at) {
  if (at < 0 || at >= table.days) return null;
  const day = dayAt(at);
  const reasons = table.reasons[at] ?? {};
  const rows = table.channels.map((name, row) => {
    const [found, expected] = [table.found[row][at], table.expected[row][at]];
    const why = Object.entries(reasons[name] ?? {}).map(([reason, count]) => `${count} ${table.meanings[reason] ?? reason}`).join(", ");
    return h("tr", {}, h("td", {}, channelOf(name).label.replace(" magnetogram", "")),
      h("td", {}, expected ? `${found} / ${expected}` : "–"), h("td", { className: "why" }, why || (expected && found < expected ? `${expected - found} missing` : "")));
  });
  const weekday = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][day.getUTCDay()];
  return h("div", {}, h("b", {}, `${weekday} ${day.getUTCDate()} ${MONTHS[day.getUTCMonth()]} ${day.getUTCFullYear()}`), h("table", {}, ...rows));
}

function legend() {
  const bar = h("canvas", { width: 140, height: 14 });
  const context = bar.getContext("2d");
  for (let x = 0; x < 140; x++) { context.fillStyle = heat(x / 139); context.fillRect(x, 0, 1, 14); }
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", "dark blue: no frames, yellow: all frames");
  $("calendar-legend").replaceChildren(h("span", {}, "no frames", bar, "all frames"), h("span", {}, h("i"), "not in the dataset"));
}

let asked = false;
export async function showCalendar() {
  if (state.view !== "calendar") return;
  if (table) { draw(); return; }
  if (asked) return;
  asked = true;
  $("calendar").textContent = "Counting frames …";
  try {
    table = await askJson("calendar");
    const frames = table.found.flat().reduce((a, b) => a + b, 0);
    $("calendar-title").textContent = `Coverage: ${frames.toLocaleString("en")} frames on ${table.days.toLocaleString("en")} day${table.days === 1 ? "" : "s"}`;
    legend();
    draw();
  } catch (error) { asked = false; $("calendar").textContent = ""; toast(error.message); }
}

export function startCalendar() {
  onChange((changed) => { if (changed.has("view")) showCalendar(); });
  new ResizeObserver(() => { if (state.view === "calendar") draw(); }).observe($("calendar"));
}
export const redrawCalendar = () => { if (state.view === "calendar") draw(); };
export { pad };
