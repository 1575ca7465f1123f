"use strict";
for (const root of document.querySelectorAll(".points3d")) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const canvas = root.querySelector("canvas"), context = canvas.getContext("2d");
  const card = root.querySelector(".card"), picture = card.querySelector("canvas"), words = card.querySelector("span");
  const count = data.group.length, start = { turn: 0.6, tilt: 0.35, zoom: 1 };
  const sprites = new Image();
  sprites.src = data.sprites;
  let view = { ...start }, only = -1, over = -1, grabbed = null, queued = false;
  let seen = []; // [x, y, depth, point], far ones first

  function draw() {
    queued = false;
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const [ct, st, cf, sf] = [Math.cos(view.turn), Math.sin(view.turn), Math.cos(view.tilt), Math.sin(view.tilt)];
    const scale = 1.25 * Math.min(width, height) * view.zoom;
    seen = [];
    for (let i = 0; i < count; i++) {
      const [x, y, z] = [data.points[3 * i] / 1000, data.points[3 * i + 1] / 1000, data.points[3 * i + 2] / 1000];
      const across = x * ct - y * st, away = x * st + y * ct;
      const up = z * cf - away * sf, depth = 3 + away * cf + z * sf; // The camera is 3 from the middle.
      if (depth > 0.2) seen.push([width / 2 + scale * across / depth, height / 2 - scale * up / depth, depth, i]);
    }
    seen.sort((a, b) => b[2] - a[2]);
    for (const [x, y, depth, i] of seen) {
      const size = Math.max(1.5, 10 / depth) * (i === over ? 1.8 : 1);
      context.globalAlpha = only < 0 || data.group[i] === only ? 0.85 : 0.07;
      context.fillStyle = context.strokeStyle = data.colors[data.group[i]];
      context.beginPath();
      if (data.wrong[i]) {
        context.lineWidth = 2;
        context.moveTo(x - size, y - size);
        context.lineTo(x + size, y + size);
        context.moveTo(x + size, y - size);
        context.lineTo(x - size, y + size);
        context.stroke();
      } else {
        context.arc(x, y, size, 0, 2 * Math.PI);
        context.fill();
      }
      if (i === over) {
        context.globalAlpha = 1;
        context.lineWidth = 1.5;
        context.strokeStyle = getComputedStyle(root).color;
        context.beginPath();
        context.arc(x, y, size + 4, 0, 2 * Math.PI);
        context.stroke();
      }
    }
    context.globalAlpha = 1;
  }

  function redraw() {
    if (!queued) {
      queued = true;
      requestAnimationFrame(draw);
    }
  }

  function show(x, y) {
    let found = -1, best = 12; // pixels
    for (const [px, py, , i] of seen) { // Of equally near ones the one in front wins.
      const distance = Math.hypot(px - x, py - y);
      if (distance <= best && (only < 0 || data.group[i] === only)) [found, best] = [i, distance];
    }
    card.hidden = found < 0;
    if (found >= 0) {
      const [w, h] = data.tile, columns = data.columns, factor = 96 / Math.max(w, h);
      picture.width = Math.round(w * factor);
      picture.height = Math.round(h * factor);
      const brush = picture.getContext("2d");
      brush.imageSmoothingEnabled = false;
      const left = (found % columns) * w, top = Math.floor(found / columns) * h;
      brush.drawImage(sprites, left, top, w, h, 0, 0, picture.width, picture.height);
      words.textContent = data.texts[found];
      card.style.left = Math.max(0, Math.min(x + 14, canvas.clientWidth - card.offsetWidth)) + "px";
      card.style.top = (y > canvas.clientHeight / 2 ? y - card.offsetHeight - 10 : y + 14) + "px";
    }
    if (found !== over) {
      over = found;
      redraw();
    }
  }

  function rotate(turn, tilt) {
    view.turn += turn;
    view.tilt = Math.max(-1.55, Math.min(1.55, view.tilt + tilt));
    card.hidden = true;
    redraw();
  }

  function zoom(factor) {
    view.zoom = Math.max(0.4, Math.min(12, view.zoom * factor));
    card.hidden = true;
    redraw();
  }

  canvas.addEventListener("pointerdown", (event) => {
    grabbed = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (grabbed) {
      rotate((event.clientX - grabbed[0]) / 150, (event.clientY - grabbed[1]) / 150);
      grabbed = [event.clientX, event.clientY];
    } else {
      show(event.offsetX, event.offsetY);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { grabbed = null; });
  canvas.addEventListener("pointerleave", () => show(-100, -100));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey) return; // The page scrolls.
    event.preventDefault();
    zoom(Math.exp(-(event.deltaY || event.deltaX) / 300));
  }, { passive: false });
  canvas.addEventListener("dblclick", () => { view = { ...start }; redraw(); });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    if (event.key in moves) rotate(...moves[event.key]);
    else if (event.key === "+" || event.key === "-") zoom(event.key === "+" ? 1.2 : 1 / 1.2);
    else return;
    event.preventDefault();
  });
  root.querySelectorAll("button").forEach((button, group) => button.addEventListener("click", () => {
    only = only === group ? -1 : group;
    root.querySelectorAll("button").forEach((other, k) => other.setAttribute("aria-pressed", String(k === only)));
    redraw();
  }));
  new ResizeObserver(redraw).observe(canvas);
  draw();
}
