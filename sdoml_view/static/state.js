// The state of the page, kept in the address, so that a link shows the same view.

import { isoOf, secondsOf } from "./dom.js";

export const state = {
  view: "day", t: 0, channels: [], single: null, zoom: 1, x: 0.5, y: 0.5, grid: false,
  a: "", b: "", mode: "swipe", mix: 50, before: 1, span: 1, fps: 12, start: 0, end: 0, log: false,
  follow: false,
};
export let dataset = null;
const listeners = new Set();

export const onChange = (listener) => listeners.add(listener);

export function set(changes) {
  const changed = Object.keys(changes).filter((key) => state[key] !== changes[key]);
  if (!changed.length) return;
  Object.assign(state, changes);
  for (const listener of listeners) listener(new Set(changed));
  remember();
}

let pending = 0;
function remember() { // browsers limit how often an address can change
  clearTimeout(pending);
  pending = setTimeout(() => history.replaceState(null, "", `#${address()}`), 250);
}

export function address() {
  const query = new URLSearchParams({ view: state.view, t: isoOf(state.t).slice(0, 16) });
  if (state.channels.length !== dataset.channels.length) query.set("channels", state.channels.join(","));
  if (state.single) query.set("single", state.single);
  if (state.zoom !== 1) for (const key of ["zoom", "x", "y"]) query.set(key, +state[key].toFixed(4));
  if (state.grid) query.set("grid", 1);
  if (state.follow) query.set("follow", 1);
  if (state.span !== 1) query.set("span", state.span);
  if (state.view === "compare") for (const key of ["a", "b", "mode", "mix", "before"]) query.set(key, state[key]);
  if (state.view === "curves" && state.start) { query.set("start", isoOf(state.start)); query.set("end", isoOf(state.end)); }
  return query.toString().replaceAll("%3A", ":").replaceAll("%2C", ",");
}

const number = (text, low, high) => {
  const value = Number(text);
  return Number.isFinite(value) ? Math.min(Math.max(value, low), high) : low;
};

export function restore(facts) {
  dataset = facts;
  const names = facts.channels.map((channel) => channel.name);
  const query = new URLSearchParams(location.hash.slice(1));
  const known = (name) => (names.includes(query.get(name)) ? query.get(name) : null);
  const wanted = (query.get("channels") ?? "").split(",").filter((name) => names.includes(name));
  state.view = ["day", "compare", "curves", "calendar"].includes(query.get("view")) ? query.get("view") : "day";
  const time = secondsOf(query.get("t") ?? facts.start);
  state.t = Number.isFinite(time) ? time : secondsOf(facts.start);
  state.channels = wanted.length ? wanted : names;
  state.single = known("single");
  state.zoom = query.has("zoom") ? number(query.get("zoom"), 1, 32) : 1;
  state.x = query.has("x") ? number(query.get("x"), 0, 1) : 0.5;
  state.y = query.has("y") ? number(query.get("y"), 0, 1) : 0.5;
  state.grid = query.get("grid") === "1";
  // The folder of the near-real-time dataset is called live.
  state.follow = query.has("follow") ? query.get("follow") === "1" : facts.name === "live" && !query.has("t");
  state.span = [1, 3, 7, 27].includes(Number(query.get("span"))) ? Number(query.get("span")) : 1;
  state.a = known("a") ?? (names.includes("AIA_0171") ? "AIA_0171" : names[0]);
  state.b = known("b") ?? (names.includes("HMI_M") && names.length > 1 ? "HMI_M" : names[names.length - 1]);
  state.mode = ["swipe", "blend", "difference"].includes(query.get("mode")) ? query.get("mode") : "swipe";
  state.mix = query.has("mix") ? number(query.get("mix"), 0, 100) : 50;
  state.before = query.has("before") ? Math.round(number(query.get("before"), 1, 999)) : 1;
  const [start, end] = ["start", "end"].map((key) => secondsOf(query.get(key) ?? ""));
  if (start < end) { state.start = start; state.end = end; }
}

export const channelOf = (name) => dataset.channels.find((channel) => channel.name === name);
