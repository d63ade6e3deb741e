// Follow a growing dataset: check for changes, and show the newest slot.

import { $, askJson, secondsOf, toast } from "./dom.js";
import { forget } from "./frames.js";
import { dataset, onChange, set, state } from "./state.js";
import { goTo, play, reload } from "./timeline.js";

const PAUSE = 15000;
let timer = 0;

async function look() {
  clearTimeout(timer);
  if (!state.follow) return;
  try {
    const found = await askJson("refresh");
    Object.assign(dataset, { last: found.last, samples: found.samples });
    $("date").max = found.last.slice(0, 10);
    if (found.changed) { forget(); reload(); }
    if (found.changed || state.t < secondsOf(found.last)) await goTo(secondsOf(found.last));
    showAge();
  } catch (error) { toast(error.message); }
  if (state.follow) timer = setTimeout(look, PAUSE);
}

function showAge() {
  const minutes = Math.round((Date.now() / 1000 - secondsOf(dataset.last)) / 60);
  const days = Math.floor(minutes / 1440);
  $("age").textContent = `newest: ${days > 1 ? `${days} days` : minutes >= 120 ? `${Math.floor(minutes / 60)} h` : `${minutes} min`} ago`;
}

export function startFollow() {
  $("follow").addEventListener("click", () => set({ follow: !state.follow }));
  const show = () => {
    $("follow").setAttribute("aria-pressed", String(state.follow));
    $("age").hidden = !state.follow;
  };
  onChange((changed) => {
    if (!changed.has("follow")) return;
    show();
    if (state.follow) { play(false); look(); }
  });
  show();
  if (state.follow) look();
}
