"use strict";
// Plays the clips: draws each frame the model saw, and over it the layer that shows what became of its visual tokens.
const GAP_PX = 6, END_PAUSE = 5;
const data = JSON.parse(document.getElementById("clips-data").textContent);
const VIEW_PX = data.view_px;
const stillness = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

function play(figure, clip) {
  const canvas = figure.querySelector("canvas"), context = canvas.getContext("2d");
  const find = (name) => figure.querySelector("." + name);
  const views = data.views.length, tokens = data.tokens, last = clip.frames.length - 1;
  let moment = Math.min(clip.poster, last), isPlaying = !stillness, isShaded = true, isVisible = false, pause = 0;
  canvas.width = views * VIEW_PX + (views - 1) * GAP_PX;
  canvas.height = VIEW_PX;
  function load(source) {
    const image = new Image();
    image.onload = () => { if (images[moment] === image || layers[moment] === image) draw(); };
    if (source) image.src = source;
    return image;
  }
  const images = clip.frames.map(load), layers = clip.layers.map(load);

  function draw() {
    const image = images[moment];
    if (!image.complete || !image.naturalWidth) return;
    const side = image.naturalWidth / views, layer = layers[moment], kept = clip.kept[moment];
    const isPruned = kept !== null && kept < tokens;
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#0b0c0f";
    context.fillRect(0, 0, canvas.width, canvas.height);
    for (let view = 0; view < views; view++) {
      const left = view * (VIEW_PX + GAP_PX);
      context.drawImage(image, view * side, 0, side, image.naturalHeight, left, 0, VIEW_PX, VIEW_PX);
      if (isShaded && layer.complete && layer.naturalWidth)
        context.drawImage(layer, view * VIEW_PX, 0, VIEW_PX, VIEW_PX, left, 0, VIEW_PX, VIEW_PX);
      context.fillStyle = "rgba(255, 255, 255, 0.78)";
      context.font = "15px system-ui, sans-serif";
      context.fillText(data.views[view], left + 10, VIEW_PX - 12);
    }
    find("profile").textContent = clip.profiles[moment];
    find("profile").classList.toggle("pruned", isPruned);
    find("kept").textContent = kept === null ? "" : kept + " of " + tokens + " patches";
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
