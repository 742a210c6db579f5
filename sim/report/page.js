"use strict";
// Plays the clips: draws each frame the model saw, darkens the patches it dropped, outlines those it kept.
const VIEW_PX = 360, GAP_PX = 6, END_PAUSE = 5;
const data = JSON.parse(document.getElementById("clips-data").textContent);
const stillness = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

function keptMask(kept, tokens) {
  const mask = new Array(tokens).fill(false);
  for (const token of kept) mask[token] = true;
  return mask;
}

function drawPatches(context, mask, view, left, grid) {
  const width = VIEW_PX / grid.columns, height = VIEW_PX / grid.rows, first = view * grid.rows * grid.columns;
  const isKept = (row, column) =>
    row >= 0 && column >= 0 && row < grid.rows && column < grid.columns && mask[first + row * grid.columns + column];
  context.fillStyle = "rgba(9, 11, 16, 0.72)";
  for (let row = 0; row < grid.rows; row++)
    for (let column = 0; column < grid.columns; column++)
      if (!isKept(row, column)) context.fillRect(left + column * width, row * height, width, height);
  context.strokeStyle = "rgba(255, 196, 110, 0.9)";
  context.lineWidth = 1.6;
  context.beginPath();
  for (let row = 0; row < grid.rows; row++)
    for (let column = 0; column < grid.columns; column++) {
      if (!isKept(row, column)) continue;
      const x = left + column * width, y = row * height;
      if (!isKept(row - 1, column)) { context.moveTo(x, y); context.lineTo(x + width, y); }
      if (!isKept(row + 1, column)) { context.moveTo(x, y + height); context.lineTo(x + width, y + height); }
      if (!isKept(row, column - 1)) { context.moveTo(x, y); context.lineTo(x, y + height); }
      if (!isKept(row, column + 1)) { context.moveTo(x + width, y); context.lineTo(x + width, y + height); }
    }
  context.stroke();
}

function play(figure, clip) {
  const canvas = figure.querySelector("canvas"), context = canvas.getContext("2d");
  const find = (name) => figure.querySelector("." + name);
  const { views, tokens } = data.grid, last = clip.frames.length - 1;
  let moment = Math.min(clip.poster, last), isPlaying = !stillness, isShaded = true, isVisible = false, pause = 0;
  canvas.width = views * VIEW_PX + (views - 1) * GAP_PX;
  canvas.height = VIEW_PX;
  const images = clip.frames.map((source) => {
    const image = new Image();
    image.onload = () => { if (images[moment] === image) draw(); };
    image.src = source;
    return image;
  });

  function draw() {
    const image = images[moment];
    if (!image.complete || !image.naturalWidth) return;
    const side = image.naturalWidth / views, mask = keptMask(clip.kept[moment], tokens);
    const isPruned = clip.kept[moment].length < tokens;
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#0b0c0f";
    context.fillRect(0, 0, canvas.width, canvas.height);
    for (let view = 0; view < views; view++) {
      const left = view * (VIEW_PX + GAP_PX);
      context.drawImage(image, view * side, 0, side, image.naturalHeight, left, 0, VIEW_PX, VIEW_PX);
      if (isShaded && isPruned) drawPatches(context, mask, view, left, data.grid);
      context.fillStyle = "rgba(255, 255, 255, 0.78)";
      context.font = "15px system-ui, sans-serif";
      context.fillText(data.views[view], left + 10, VIEW_PX - 12);
    }
    find("profile").textContent = clip.profiles[moment];
    find("profile").classList.toggle("pruned", isPruned);
    find("kept").textContent = clip.kept[moment].length + " of " + tokens + " patches";
    find("step").textContent = "look " + (moment + 1) + "/" + (last + 1);
    find("clock").textContent = (clip.env_steps[moment] / data.control_hz).toFixed(2) + " s";
    find("seek").value = moment;
  }
  function setPlaying(value) {
    isPlaying = value;
    find("play").textContent = isPlaying ? "Pause" : "Play";
  }
  function tick() {
    if (!isPlaying || !isVisible) return;
    if (moment < last) { moment += 1; pause = 0; draw(); }
    else if (++pause > END_PAUSE) { moment = 0; draw(); }
  }
  find("seek").max = last;
  find("seek").addEventListener("input", (event) => { setPlaying(false); moment = Number(event.target.value); draw(); });
  find("play").addEventListener("click", () => setPlaying(!isPlaying));
  canvas.addEventListener("click", () => setPlaying(!isPlaying));
  find("shade").addEventListener("click", (event) => {
    isShaded = !isShaded;
    event.target.setAttribute("aria-pressed", String(isShaded));
    draw();
  });
  setPlaying(isPlaying);
  new IntersectionObserver(([entry]) => { isVisible = entry.isIntersecting; }).observe(canvas);
  setInterval(tick, (1000 * data.execute) / data.control_hz);
}

document.querySelectorAll(".clip").forEach((figure, index) => play(figure, data.clips[index]));
