"use strict";
// Galleries: one button stops and starts all clips of a gallery. They start stopped for readers who want less motion.
for (const gallery of document.querySelectorAll(".gallery")) {
  const button = gallery.querySelector("button");
  const show = (isStill) => {
    gallery.classList.toggle("still", isStill);
    gallery.classList.toggle("playing", !isStill);
    button.textContent = isStill ? "Play clips" : "Stop clips";
  };
  button.hidden = false;
  button.addEventListener("click", () => show(!gallery.classList.contains("still")));
  show(matchMedia("(prefers-reduced-motion: reduce)").matches);
}

// Clouds that turn: orthographic, z up, z-buffered squares on a plain canvas.
for (const root of document.querySelectorAll(".cloud-view")) {
  const canvas = root.querySelector("canvas");
  const context = canvas.getContext("2d");
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const clouds = [...root.querySelectorAll("input[data-coord]")].map((box) => {
    box.addEventListener("change", draw);
    const data = bytes(box.dataset.coord);
    return { box, coord: new Int16Array(data.buffer), color: bytes(box.dataset.color) };
  });
  const start = { turn: Number(root.dataset.turn), tilt: 0.35, zoom: 1 };
  let view = { ...start };

  function draw() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = (canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio)));
    const height = (canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio)));
    const image = context.createImageData(width, height);
    const depth = new Float32Array(width * height).fill(Infinity);
    // 32767 is the distance of the farthest point, often a corner of the box; the box's sides then fit.
    const scale = (view.zoom * 0.7 * Math.min(width, height)) / 32767;
    const size = Math.max(1, Math.round(scale * Number(root.dataset.pointSize)));
    const [cosTurn, sinTurn] = [Math.cos(view.turn), Math.sin(view.turn)];
    const [cosTilt, sinTilt] = [Math.cos(view.tilt), Math.sin(view.tilt)];
    for (const { box, coord, color } of clouds) {
      if (!box.checked) continue;
      for (let i = 0; i < coord.length; i += 3) {
        const right = cosTurn * coord[i] + sinTurn * coord[i + 1];
        const away = cosTurn * coord[i + 1] - sinTurn * coord[i];
        const far = cosTilt * away - sinTilt * coord[i + 2];
        const up = sinTilt * away + cosTilt * coord[i + 2];
        const left = Math.round(width / 2 + scale * right - size / 2);
        const top = Math.round(height / 2 - scale * up - size / 2);
        for (let y = Math.max(top, 0); y < Math.min(top + size, height); y++) {
          for (let x = Math.max(left, 0); x < Math.min(left + size, width); x++) {
            const pixel = y * width + x;
            if (far > depth[pixel]) continue; // of equals the later cloud shows
            depth[pixel] = far;
            image.data[4 * pixel] = color[i];
            image.data[4 * pixel + 1] = color[i + 1];
            image.data[4 * pixel + 2] = color[i + 2];
            image.data[4 * pixel + 3] = 255;
          }
        }
      }
    }
    context.putImageData(image, 0, 0);
    root.dataset.drawn = `${view.turn.toFixed(2)} ${view.tilt.toFixed(2)} ${view.zoom.toFixed(2)}`;
  }

  function move(turn, tilt, zoom) {
    view.turn += turn;
    view.tilt = Math.min(Math.PI / 2, Math.max(-Math.PI / 2, view.tilt + tilt));
    view.zoom = Math.min(20, Math.max(0.3, view.zoom * zoom));
    draw();
  }
  const actions = {
    ArrowLeft: () => move(0.1, 0, 1),
    ArrowRight: () => move(-0.1, 0, 1),
    ArrowUp: () => move(0, 0.1, 1),
    ArrowDown: () => move(0, -0.1, 1),
    "+": () => move(0, 0, 1.2),
    "-": () => move(0, 0, 1 / 1.2),
    0: () => { view = { ...start }; draw(); },
  };
  canvas.addEventListener("keydown", (event) => {
    const action = actions[event.key === "=" ? "+" : event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  });
  for (const button of root.querySelectorAll("button")) {
    button.addEventListener("click", () => actions[button.dataset.key]());
  }
  let held = null; // where the pointer was; near points follow it
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held = event;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held || !event.buttons) return;
    move((held.clientX - event.clientX) * 0.01, (event.clientY - held.clientY) * 0.01, 1);
    held = event;
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = null; });
  new ResizeObserver(draw).observe(canvas);
}
