// Helpers for elements, messages and requests. Text from a dataset becomes text nodes only.

export const $ = (id) => document.getElementById(id);

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

let toastTimer = 0;
export function toast(message) {
  $("toast").textContent = message;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 6000);
}

export async function ask(path, query = {}, options = {}) {
  const response = await fetch(`/api/${path}?${new URLSearchParams(query)}`, options);
  if (!response.ok) {
    let message = `the viewer responded with status ${response.status}`;
    try { message = (await response.json()).error ?? message; } catch { /* not JSON */ }
    throw new Error(message);
  }
  return response;
}

export async function askJson(path, query, options) {
  return (await ask(path, query, options)).json();
}

export function tooltip(event, content) {
  const box = $("tooltip");
  if (!content) { box.hidden = true; return; }
  box.replaceChildren(content);
  box.hidden = false;
  const { innerWidth, innerHeight } = window;
  const { width, height } = box.getBoundingClientRect();
  box.style.left = `${Math.max(6, Math.min(event.clientX + 14, innerWidth - width - 6))}px`;
  box.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18}px`;
}

// Format a number with the given number of digits. Very small and large numbers look like 1.02·10⁻⁶.
export function short(value, digits = 4) {
  const size = Math.abs(value);
  if (size === 0 || (size >= 1e-3 && size < 1e5)) return String(Number(value.toPrecision(digits)));
  const [factor, power] = value.toExponential(digits - 1).split("e");
  const raised = [...String(Number(power))].map((letter) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(letter)]).join("");
  return `${Number(factor)}·10${raised}`;
}

// Format two numbers with as many digits as needed to distinguish them.
export function apart(low, high) {
  for (let digits = 3; digits < 7; digits++) {
    const texts = [low, high].map((value) => short(value, digits));
    if (texts[0] !== texts[1] || digits === 6) return texts;
  }
}

// Format a duration, such as 1 h 30 min.
export function lasting(seconds) {
  const parts = [[Math.floor(seconds / 3600), "h"], [Math.floor(seconds / 60) % 60, "min"], [seconds % 60, "s"]];
  return parts.filter(([count]) => count).map(([count, unit]) => `${count} ${unit}`).join(" ");
}

export const pad = (number, width = 2) => String(number).padStart(width, "0");
export const isoOf = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 19);
export const dayOf = (seconds) => isoOf(seconds).slice(0, 10);
export const secondsOf = (iso) => Date.parse(`${iso.length === 10 ? `${iso}T00:00:00` : iso}Z`) / 1000;
export const clock = (seconds) => isoOf(seconds).slice(11, 16);
export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Fit a canvas to its box in device pixels, and return its context scaled to CSS pixels.
export function context2d(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  const [w, t] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== w || canvas.height !== t) { canvas.width = w; canvas.height = t; }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}
