// Zoom and pan by mouse, touch and keyboard, and the cursor. All pictures share them.

import { set, state } from "./state.js";

export const MAX_ZOOM = 32;
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// Zoom by a factor, and keep a point (in fractions of the frame) in place.
export function zoomBy(factor, x = state.x, y = state.y) {
  const zoom = clamp(state.zoom * factor, 1, MAX_ZOOM);
  const ratio = state.zoom / zoom;
  moveTo(x + (state.x - x) * ratio, y + (state.y - y) * ratio, zoom);
}

export function panBy(dx, dy) { moveTo(state.x + dx, state.y + dy, state.zoom); }

export function fit() { set({ zoom: 1, x: 0.5, y: 0.5 }); }

function moveTo(x, y, zoom) {
  const half = 0.5 / zoom;
  set({ zoom, x: clamp(x, half, 1 - half), y: clamp(y, half, 1 - half) });
}

// Return the point, in fractions of the frame, at a pointer position in a picture.
export function pointAt(event, canvas) {
  const box = canvas.getBoundingClientRect();
  return [
    state.x + ((event.clientX - box.left) / box.width - 0.5) / state.zoom,
    state.y + ((event.clientY - box.top) / box.height - 0.5) / state.zoom,
  ];
}

// Handlers: onPoint(x, y) while hovering or tapping, onClick() for a click without a drag.
export function control(canvas, { onPoint, onLeave, onClick }) {
  const pointers = new Map();
  let moved = false;
  let spread = 0;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const [x, y] = pointAt(event, canvas);
    zoomBy(Math.exp(-clamp(event.deltaY, -240, 240) / 400), x, y);
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    canvas.setPointerCapture(event.pointerId);
    moved = pointers.size > 1;
    spread = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    onPoint?.(...pointAt(event, canvas));
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const width = canvas.clientWidth * state.zoom;
    if (pointers.size === 1) {
      const [dx, dy] = [event.clientX - last[0], event.clientY - last[1]];
      if (!moved && Math.hypot(dx, dy) < 5) return;
      moved = true;
      panBy(-dx / width, -dy / width);
    }
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size === 2) {
      const [one, two] = [...pointers.values()];
      const now = Math.hypot(one[0] - two[0], one[1] - two[1]);
      if (spread) {
        const middle = { clientX: (one[0] + two[0]) / 2, clientY: (one[1] + two[1]) / 2 };
        zoomBy(now / spread, ...pointAt(middle, canvas));
      }
      spread = now;
    }
  });
  const end = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    spread = 0;
    if (event.type !== "pointerup") return;
    if (!moved && pointers.size === 0) onClick?.(...pointAt(event, canvas));
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => onLeave?.());
}
