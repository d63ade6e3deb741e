// Export the view as a link, picture, movie, Python code or FITS.

import { $, ask, h, isoOf, secondsOf, toast } from "./dom.js";
import { comparePicture } from "./compare.js";
import { pictures, shownChannels } from "./day.js";
import { address, channelOf, dataset, state } from "./state.js";

const minute = (t) => isoOf(t).slice(0, 16);
const stamp = () => minute(state.t).replaceAll(/[-:]/g, "").replace("T", "-");
const used = () => (state.view === "compare" ? (state.mode === "difference" || state.a === state.b ? [state.a] : [state.a, state.b]) : shownChannels());

export function pythonLines() {
  const names = used().map((name) => JSON.stringify(name)).join(", ");
  return [
    "from sdoml_core.loader import SDOMLlite",
    `dataset = SDOMLlite(${JSON.stringify(dataset.source)}, channels=[${names}])`,
    `image, time = dataset[${JSON.stringify(isoOf(state.t))}]`,
  ].join("\n");
}

const quoted = (text) => (/^[\w./:@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const command = () => `sdoml view ${quoted(dataset.source)} --at ${minute(state.t)}`;

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

async function copy(text) {
  try { await navigator.clipboard.writeText(text); toast("Copied."); } catch { toast("The browser did not allow copying: select the text instead."); }
}

// Compose the pictures on the screen into one, with their captions.
export function compose() {
  const parts = state.view === "compare" ? [{ canvas: comparePicture().canvas, title: comparePicture().title }]
    : pictures().map(({ name, picture, observed }) => ({ canvas: picture.canvas, title: `${channelOf(name).label}  ${observed.textContent}` }));
  const edge = parts[0].canvas.width;
  const columns = Math.max(1, Math.round(Math.sqrt(parts.length * 1.6)));
  const rows = Math.ceil(parts.length / columns);
  const foot = Math.round(Math.max(edge * 0.07, 28));
  const canvas = h("canvas", { width: columns * edge, height: rows * edge + foot });
  const context = canvas.getContext("2d");
  context.fillStyle = "#0b0d12";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.textBaseline = "top";
  parts.forEach((part, i) => {
    const [left, top] = [(i % columns) * edge, Math.floor(i / columns) * edge];
    context.fillStyle = "#000";
    context.fillRect(left, top, edge, edge);
    context.drawImage(part.canvas, left, top, edge, edge);
    context.fillStyle = "#fff";
    context.font = `600 ${Math.round(Math.max(edge * 0.04, 12))}px system-ui, sans-serif`;
    context.fillText(part.title, left + edge * 0.03, top + edge * 0.03);
  });
  context.textBaseline = "middle";
  context.font = `${Math.round(foot * 0.5)}px system-ui, sans-serif`;
  const middle = rows * edge + foot / 2;
  context.fillText(`${minute(state.t).replace("T", " ")} UTC`, foot * 0.5, middle);
  context.textAlign = "right";
  context.fillStyle = "#9aa4b6";
  context.fillText("NASA/SDO, AIA and HMI science teams", canvas.width - foot * 0.5, middle);
  return canvas;
}

function movieForm() {
  const begin = Math.floor(state.t / 86400) * 86400;
  const input = (value) => h("input", { type: "datetime-local", value });
  const [start, end] = [input(minute(begin)), input(minute(begin + 86400))];
  const fps = h("select", { "aria-label": "Frames per second" }, ...[6, 12, 24].map((value) => h("option", { value, selected: value === 12 }, `${value} fps`)));
  const size = h("select", { "aria-label": "Size of a channel" }, ...[256, 512, 1024].filter((value) => value <= Math.max(256, dataset.resolution))
    .map((value) => h("option", { value, selected: value === 256 }, `${value} px each`)));
  const status = h("span", { className: "note", role: "status" });
  const make = (format) => async () => {
    status.textContent = "Encoding …";
    try {
      const seconds = (field) => secondsOf(field.value.length === 16 ? `${field.value}:00` : field.value);
      const query = { start: isoOf(seconds(start)), end: isoOf(seconds(end)), channels: used().join(), fps: fps.value, size: size.value, format };
      const blob = await (await ask("movie", query)).blob();
      save(blob, `sun-${stamp()}.${format}`);
      status.textContent = `${(blob.size / 1e6).toFixed(1)} MB saved.`;
    } catch (error) { status.textContent = error.message; }
  };
  return [h("div", { className: "row" }, start, "to", end), h("div", { className: "row" }, fps, size,
    h("button", { onclick: make("mp4") }, "MP4"), h("button", { onclick: make("webp") }, "Animated WebP"), status)];
}

export function openTake() {
  const dialog = $("take-dialog");
  const link = `${location.origin}/#${address()}`;
  const box = (text) => h("div", { className: "row" }, h("pre", {}, text), h("button", { onclick: () => copy(text) }, "Copy"));
  const channel = h("select", { "aria-label": "Channel" }, ...used().map((name) => h("option", { value: name }, channelOf(name).label)));
  const fits = async () => {
    try {
      const blob = await (await ask("fits", { t: isoOf(state.t), channels: channel.value })).blob();
      save(blob, `${channel.value.toLowerCase()}-${stamp()}.fits`);
    } catch (error) { toast(error.message); }
  };
  const png = () => compose().toBlob((blob) => save(blob, `sun-${stamp()}.png`), "image/png");
  const pictured = state.view === "day" || state.view === "compare";
  dialog.replaceChildren(
    h("button", { className: "close icon", onclick: () => dialog.close(), "aria-label": "Close" }, "×"),
    h("h2", { id: "take-title" }, `Export: ${minute(state.t).replace("T", " ")} UTC`),
    h("h3", {}, "Link to this view (works while the viewer is running)"), box(link),
    h("h3", {}, "Command that opens this time"), box(command()),
    h("h3", {}, "Python code that loads this sample"), box(pythonLines()),
    h("h3", {}, "Picture and FITS"),
    h("div", { className: "row" }, h("button", { onclick: png, disabled: !pictured, className: "primary" }, "PNG of this view"), channel, h("button", { onclick: fits }, "FITS for sunpy.map.Map")),
    h("h3", {}, "Movie"), ...movieForm());
  dialog.showModal();
}
