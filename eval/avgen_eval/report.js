"use strict";
for (const clip of document.querySelectorAll(".clip")) {
  const video = clip.querySelector("video");
  const timeline = clip.querySelector(".timeline");
  if (!video || !timeline) continue;
  const duration = Number(timeline.dataset.duration);
  const step = Number(timeline.dataset.step);
  const line = timeline.querySelector(".playhead i");
  const label = timeline.querySelector(".playhead output");
  const plot = timeline.querySelector(".axis");
  const events = [...timeline.querySelectorAll(".event")].map((node) =>
    ({ node, start: Number(node.dataset.start), end: Number(node.dataset.end) }));

  const show = () => {
    const time = Math.min(video.currentTime, duration);
    const place = `${(100 * time) / duration}%`;
    line.style.left = label.style.left = place;
    label.textContent = `${time.toFixed(2)} s`;
    timeline.setAttribute("aria-valuenow", time.toFixed(3));
    timeline.setAttribute("aria-valuetext", `${time.toFixed(2)} seconds`);
    for (const { node, start, end } of events) node.classList.toggle("on", time >= start && time < end);
  };
  const follow = () => { show(); if (!video.paused && !video.ended) requestAnimationFrame(follow); };
  const seek = (time) => { video.currentTime = Math.max(0, Math.min(duration - 0.001, time)); show(); };
  const seekTo = (x) => {
    const box = plot.getBoundingClientRect();
    seek(((x - box.left) / box.width) * duration);
  };

  for (const name of ["play", "seeked", "timeupdate", "loadedmetadata"]) video.addEventListener(name, follow);
  let held = false;
  timeline.addEventListener("pointerdown", (event) => {
    const target = event.target.closest(".event");
    if (target) { seek(Number(target.dataset.start)); return; }
    held = true;
    seekTo(event.clientX);
    timeline.setPointerCapture(event.pointerId);
  });
  timeline.addEventListener("pointermove", (event) => { if (held) seekTo(event.clientX); });
  for (const name of ["pointerup", "pointercancel"]) timeline.addEventListener(name, () => { held = false; });
  timeline.addEventListener("keydown", (event) => {
    const target = event.target.closest(".event");
    if (target && (event.key === "Enter" || event.key === " ")) {
      seek(Number(target.dataset.start));
    } else if (event.key === " ") {
      if (video.paused) video.play(); else video.pause();
    } else if (event.key === "ArrowRight") seek(video.currentTime + (event.shiftKey ? 10 : 1) * step);
    else if (event.key === "ArrowLeft") seek(video.currentTime - (event.shiftKey ? 10 : 1) * step);
    else if (event.key === "Home") seek(0);
    else if (event.key === "End") seek(duration);
    else return;
    event.preventDefault();
  });
  show();
}
