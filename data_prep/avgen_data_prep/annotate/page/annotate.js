// The annotation page. One clip is open at a time; `state` is all of it that can be edited and undone.
// Times are integer microseconds (us), as in the captions; only video.currentTime is in seconds.

const TRACKS = ["visual", "camera", "speech", "music", "sfx", "ambience", "action"];
const NEW_US = 500_000, SHORTEST_US = 10_000, MOST_LISTED = 200, MOST_UNDONE = 500, WIDEST = 30_000;
const $ = (id) => document.getElementById(id);
const video = $("video");

let clips = []; // of the run: id, source, start_us, duration_us, annotated
let current = ""; // id of the open clip
let clip = null; // as the server gave it; null where it cannot be opened
let state = null; // {texts, events, language}; an event's `key` is this page's own
let saved = ""; // the state as JSON, as it was opened or last saved
let version = ""; // of the annotation that is edited
let past = [], future = []; // states as JSON
let selected = null; // key of an event
let wrong = null; // key of the event that was refused
let track = "sfx"; // of the next new event
let zoom = 1, keys = 0, opening = 0, saving = null, typing = false;

// ---- the server

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw { error: "The server does not answer; what you wrote is kept in this page. Is `avgen prep annotate` still running?" };
  }
  const answer = await response.json().catch(() => ({ error: `The server answered ${response.status}.` }));
  if (!response.ok) throw { ...answer, status: response.status };
  return answer;
}

function tell(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

async function open(id) {
  const number = ++opening;
  current = id;
  history.replaceState(null, "", `#${id}`);
  let found = null;
  try {
    found = await ask(`/api/clips/${id}`);
    if (number === opening) tell("");
  } catch (problem) {
    if (number === opening) tell(problem.error, true);
  }
  if (number !== opening) return;
  clip = found;
  state = found && opened(found);
  [past, future, selected, wrong, typing] = [[], [], null, null, false];
  $("conflict").hidden = true;
  problem("");
  show();
  if (!clip) return;
  version = clip.version;
  saved = JSON.stringify(state);
  video.src = `/clips/${id}.mp4`;
  video.playbackRate = Number($("speed").value);
  video.classList.toggle("silent-picture", !clip.num_frames);
  render();
  ask(`/api/clips/${id}/curves`).then(
    (curves) => number === opening && draw(curves),
    (failed) => number === opening && draw({ wave: null, motion: null }, failed.error));
}

function opened(found) {
  const first = found.captions[0] || { events: [], language: "en" };
  const events = first.events.map((event) => ({ ...event, key: ++keys }));
  for (const event of events) event.id ??= freeId(events);
  const texts = found.captions.map((caption) => caption.text);
  return { texts: texts.length ? texts : [""], events, language: first.language || "en" };
}

function sorted() {
  return [...state.events].sort((a, b) => a.start_us - b.start_us || a.end_us - b.end_us);
}

function captions() {
  const events = sorted().map(({ key, ...event }) => event);
  const rest = { schema: "avgen.caption/1", duration_us: clip.duration_us, language: state.language };
  return state.texts.map((text) => ({ ...rest, text, events }));
}

const dirty = () => state !== null && JSON.stringify(state) !== saved;

function save() {
  if (state && !saving) saving = put().finally(() => { saving = null; render(); });
  return saving;
}

async function put() {
  settle();
  const lack = lacking();
  if (lack) return refuse(lack.error, lack.event);
  const sent = JSON.stringify(state), order = sorted(), body = JSON.stringify({ version, captions: captions() });
  tell("Saving");
  try {
    const headers = { "Content-Type": "application/json" };
    version = (await ask(`/api/clips/${current}`, { method: "PUT", headers, body })).version;
  } catch (refused) {
    if (refused.status === 409) $("conflict").hidden = false;
    return refuse(refused.error, order[refused.event]);
  }
  saved = sent;
  clip.annotated = clips.find((row) => row.id === current).annotated = true;
  $("conflict").hidden = true;
  tell("Saved.");
  renderClips();
  return true;
}

function lacking() { // what the server would refuse and a person easily forgets
  const blank = (text) => !text.trim();
  const event = sorted().find((event) => blank(event.text));
  if (event) return { event, error: `Event at ${(event.start_us / 1e6).toFixed(2)} s has no text: write some, or delete it (Delete)` };
  if (!state.events.length && state.texts.some(blank)) return { error: "There is a wording without text, and no event: write what is seen and heard" };
  return null;
}

function refuse(error, event) {
  tell(`Not saved: ${error}`, true);
  if (event) {
    wrong = event.key;
    select(wrong);
    problem(error);
  }
  return false;
}

function settle() { // what was said of an earlier state no longer holds
  wrong = null;
  tell("");
  problem("");
}

async function leave() {
  while (dirty()) if (!(await save())) return false;
  return true;
}

async function go(id) {
  if (id && id !== current && (await leave())) await open(id);
  renderClips();
}

function step(by) {
  const rows = found(), at = rows.findIndex((row) => row.id === current);
  const next = at < 0 ? rows[0] : rows[at + by];
  if (next) go(next.id);
  else tell(by > 0 ? "This is the last clip." : "This is the first clip.");
}

$("keep-mine").onclick = async () => {
  try {
    version = (await ask(`/api/clips/${current}`)).version;
    await save();
  } catch (failed) {
    tell(failed.error, true);
  }
};
$("take-theirs").onclick = () => open(current);

// ---- editing

const byKey = (key) => state?.events.find((event) => event.key === key);
const chosen = () => byKey(selected);
const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));

function freeId(events) {
  let number = events.length + 1;
  while (events.some((event) => event.id === `e${number}`)) number += 1;
  return `e${number}`;
}

function remember(before = JSON.stringify(state)) {
  settle();
  past.push(before);
  if (past.length > MOST_UNDONE) past.shift();
  future = [];
}

function change(edit) {
  if (!state) return;
  remember();
  typing = false;
  edit();
  render();
}

function type(edit) { // letters typed one after the other are undone together
  if (typing) settle();
  else remember();
  typing = true;
  edit();
  render();
}

function travel(from, to) {
  if (!state || !from.length) return;
  to.push(JSON.stringify(state));
  state = JSON.parse(from.pop());
  typing = false;
  settle();
  render();
}
const undo = () => travel(past, future);
const redo = () => travel(future, past);

function select(key) {
  if (selected !== key) typing = false;
  selected = key;
  render();
}

function add(at = playhead(), on = track) {
  if (!state) return;
  const start_us = clamp(at, 0, clip.duration_us - Math.min(NEW_US, clip.duration_us) / 10);
  const end_us = Math.min(start_us + NEW_US, clip.duration_us);
  const event = { start_us: Math.round(start_us), end_us, track: on, text: "", id: freeId(state.events), key: ++keys };
  change(() => { state.events.push(event); selected = event.key; });
  $("event-text").focus();
}

function remove() {
  const gone = chosen();
  if (!gone) return;
  change(() => {
    state.events = state.events.filter((event) => event !== gone);
    for (const event of state.events) if (event.cause === gone.id) delete event.cause;
    selected = null;
  });
}

function setTrack(name) {
  track = name;
  if (chosen() && chosen().track !== name) change(() => { chosen().track = name; });
  else render();
}

function setSpan(start_us, end_us) {
  const event = chosen();
  if (!event) return;
  if (!(start_us >= 0 && start_us < end_us && end_us <= clip.duration_us)) {
    problem(`An event lies between 0 and ${seconds(clip.duration_us)} s and ends after its start; this one would span ${seconds(start_us)} to ${seconds(end_us)} s.`);
    render();
    return;
  }
  change(() => Object.assign(event, { start_us, end_us }));
}

function nudge(frames) {
  const event = chosen();
  if (!event) return;
  const length = event.end_us - event.start_us;
  const start_us = clamp(Math.round(event.start_us + frames * frameUs()), 0, clip.duration_us - length);
  setSpan(start_us, start_us + length);
}

function drag(down, key, part) {
  const before = JSON.stringify(state), { start_us, end_us, track: from } = byKey(key);
  const length = end_us - start_us, least = Math.min(SHORTEST_US, length), perPixel = clip.duration_us / $("ruler").clientWidth;
  const name = clip.id;
  const near = (us) => Math.abs(us - playhead()) < 5 * perPixel ? playhead() : Math.round(us / 1000) * 1000;
  const move = (at) => {
    const event = name === current && byKey(key), shift = (at.clientX - down.clientX) * perPixel;
    if (!event) return;
    const still = Math.abs(at.clientX - down.clientX) < 3;
    let [first, last] = [start_us, end_us];
    if (!still && part === "start") first = clamp(near(start_us + shift), 0, end_us - least);
    else if (!still && part === "end") last = clamp(near(end_us + shift), start_us + least, clip.duration_us);
    else if (!still) last = (first = clamp(near(start_us + shift), 0, clip.duration_us - length)) + length;
    Object.assign(event, { start_us: first, end_us: last, track: part ? from : laneAt(at.clientY) ?? from });
    nodes.get(key)?.classList.add("dragged");
    render();
  };
  const stop = (up) => {
    for (const [kind, listener] of listeners) window.removeEventListener(kind, listener);
    nodes.get(key)?.classList.remove("dragged");
    if (name !== current) return;
    if (up.type === "pointercancel") state = JSON.parse(before);
    else if (JSON.stringify(state) !== before) remember(before);
    render();
  };
  const listeners = [["pointermove", move], ["pointerup", stop], ["pointercancel", stop]];
  for (const [kind, listener] of listeners) window.addEventListener(kind, listener);
}

function laneAt(y) {
  const inside = (node) => y >= node.getBoundingClientRect().top && y < node.getBoundingClientRect().bottom;
  return [...document.querySelectorAll(".lane")].find(inside)?.dataset.track;
}

// ---- time

const seconds = (us) => (us / 1e6).toFixed(3);

function clock(us) { // 0:12.4, or 1:02:03.4
  const tenths = Math.floor(us / 1e5), minutes = Math.floor(tenths / 600);
  const two = (value) => String(value).padStart(2, "0");
  const rest = `${two(Math.floor(tenths / 10) % 60)}.${tenths % 10}`;
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${rest}`;
}
const frameUs = () => (clip.num_frames ? (1e6 * clip.fps[1]) / clip.fps[0] : 40_000);

function playhead() { // on the frame grid, where it is nearly there
  const us = Math.round(video.currentTime * 1e6), frame = Math.round(us / frameUs());
  return clamp(Math.abs(us - frame * frameUs()) < 1000 ? Math.round(frame * frameUs()) : us, 0, clip.duration_us);
}

function seek(us) {
  if (!clip) return;
  video.currentTime = clamp(us, 0, clip.duration_us) / 1e6;
  tick();
}

function stepFrames(frames) {
  video.pause();
  const last = Math.ceil(clip.duration_us / frameUs()) - 1;
  seek(clamp(Math.round(playhead() / frameUs()) + frames, 0, last) * frameUs() + 500); // inside the frame
}

function toggle() {
  if (!clip) return;
  if (video.paused) video.play().catch((failed) => tell(`This clip cannot be played: ${failed.message}`, true));
  else video.pause();
}

function tick() {
  if (!clip) return;
  const at = playhead(), frame = Math.floor((at + 1) / frameUs());
  $("playhead").style.left = `${(100 * at) / clip.duration_us}%`;
  $("clock").textContent = clip.num_frames ? `${seconds(at)} s, frame ${frame}` : `${seconds(at)} s`;
  if (!video.paused) {
    const box = $("scroll"), x = (at / clip.duration_us) * $("ruler").clientWidth;
    if (zoom > 1 && (x < box.scrollLeft || x > box.scrollLeft + box.clientWidth - 120)) box.scrollLeft = x - 40;
    requestAnimationFrame(tick);
  }
}

const usAt = (x) => {
  const box = $("ruler").getBoundingClientRect();
  return Math.round(clamp((x - box.left) / box.width, 0, 1) * clip.duration_us);
};

function setZoom(to) {
  if (!clip) return;
  const box = $("scroll"), most = Math.max(1, WIDEST / box.clientWidth);
  zoom = clamp(to, 1, Math.min(64, 2 ** Math.floor(Math.log2(most))));
  $("strip").style.width = `calc(var(--label) + ${zoom} * (100% - var(--label)))`;
  $("zoom").textContent = `${zoom}×`;
  box.scrollLeft = (playhead() / clip.duration_us) * $("ruler").clientWidth - box.clientWidth / 2;
  renderRuler();
}

// ---- showing

const nodes = new Map(); // key of an event -> its button on the timeline

function make(tag, fields = {}, ...children) {
  const node = Object.assign(document.createElement(tag), fields);
  node.append(...children);
  return node;
}

function fill(parent, children) { // keeps the focus where it is
  if (children.length === parent.children.length && children.every((node, i) => node === parent.children[i])) return;
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  parent.replaceChildren(...children);
  if (focused?.isConnected) focused.focus({ preventScroll: true });
}

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

function show() {
  document.querySelector("main").hidden = !clip;
  $("name").textContent = clip ? `${clip.source} at ${clock(clip.start_us)}` : current;
  $("wave").replaceChildren();
  $("motion").replaceChildren();
  $("curve-problem").hidden = true;
  $("strip").style.width = "";
  zoom = 1;
  $("zoom").textContent = "1×";
  renderHeader();
  renderClips();
  if (!clip) { video.removeAttribute("src"); video.load(); return; }
  const told = clip.captions.map((caption) => JSON.stringify(caption.events));
  $("mixed").hidden = told.every((events) => events === told[0]);
}

function render() {
  renderHeader();
  if (!state) return;
  renderTexts();
  renderLanes();
  renderList();
  renderForm();
  renderRuler();
  tick();
}

function renderHeader() {
  const kept = clip?.annotated ? "annotated" : "not annotated yet";
  $("state").textContent = !clip ? "" : dirty() ? "changed, not saved" : kept;
  $("undo").disabled = !past.length;
  $("redo").disabled = !future.length;
  $("save").disabled = !clip;
}

function found() {
  const wanted = $("filter").value.trim().toLowerCase();
  return clips.filter((row) => `${row.source} ${row.id}`.toLowerCase().includes(wanted));
}

function renderClips() {
  const rows = found(), at = Math.max(0, rows.findIndex((row) => row.id === current));
  const first = clamp(at - MOST_LISTED / 2, 0, rows.length - MOST_LISTED);
  const part = rows.slice(first, first + MOST_LISTED);
  const buttons = part.map((row) => {
    const mark = row.annotated ? " ✓ annotated" : "";
    const button = make("button", { type: "button", onclick: () => { fold(); go(row.id); } },
      row.source, make("small", { textContent: `${clock(row.start_us)}, ${seconds(row.duration_us)} s${mark}` }));
    if (row.id === current) button.setAttribute("aria-current", "true");
    return make("li", {}, button);
  });
  $("clips").replaceChildren(...buttons);
  document.querySelector("#clips [aria-current]")?.scrollIntoView({ block: "nearest" });
  $("progress").textContent = `Clips: ${clips.filter((row) => row.annotated).length} of ${clips.length} annotated`;
  $("more").hidden = part.length === rows.length;
  $("more").textContent = `${part.length} of ${rows.length} shown, those around the open one`;
}

const narrow = matchMedia("(max-width: 800px)"); // as in the style sheet

function fold() { // where there is no room beside the clip, the list is open only to choose from
  $("clips-box").open = !narrow.matches;
}

function renderTexts() {
  const box = $("texts");
  if (box.children.length !== state.texts.length) {
    box.replaceChildren(...state.texts.map((_, i) => {
      const name = state.texts.length > 1 ? `Wording ${i + 1}${i ? "" : ", the fullest"}` : "What is seen and heard";
      const area = make("textarea", { id: `text-${i}`, oninput: () => type(() => { state.texts[i] = area.value; }) });
      const head = make("div", { className: "head" }, make("label", { htmlFor: area.id, textContent: name }));
      if (state.texts.length > 1) {
        head.append(make("button", { type: "button", textContent: "Remove", ariaLabel: `Remove wording ${i + 1}`,
          onclick: () => change(() => { state.texts.splice(i, 1); }) }));
      }
      return make("div", {}, head, area);
    }));
  }
  state.texts.forEach((text, i) => {
    const area = $(`text-${i}`);
    if (area.value !== text) area.value = text;
    area.rows = Math.max(2, Math.ceil(text.length / 40)); // for browsers without field-sizing
  });
  if ($("language").value !== state.language) $("language").value = state.language;
}

function renderLanes() {
  for (const key of nodes.keys()) if (!byKey(key)) { nodes.get(key).remove(); nodes.delete(key); }
  for (const lane of document.querySelectorAll(".lane")) {
    const ends = [], buttons = [];
    for (const event of sorted().filter((event) => event.track === lane.dataset.track)) {
      let row = ends.findIndex((end) => end <= event.start_us);
      if (row < 0) row = ends.length;
      ends[row] = event.end_us;
      buttons.push(eventNode(event, row));
    }
    fill(lane.querySelector(".body"), buttons);
    lane.querySelector(".body").style.height = `calc(var(--step) * ${Math.max(1, ends.length)})`;
    lane.querySelector(".label").classList.toggle("next", lane.dataset.track === track);
  }
}

function eventNode(event, row) {
  let node = nodes.get(event.key);
  if (!node) {
    node = make("button", { type: "button" }, make("span", { className: "says" }),
      make("span", { className: "grip start" }), make("span", { className: "grip end" }));
    node.dataset.key = event.key;
    nodes.set(event.key, node);
  }
  const flags = { selected: event.key === selected, wrong: event.key === wrong, dragged: node.classList.contains("dragged") };
  node.className = ["event", event.track, ...Object.keys(flags).filter((name) => flags[name])].join(" ");
  node.style.left = `${(100 * event.start_us) / clip.duration_us}%`;
  node.style.width = `${(100 * (event.end_us - event.start_us)) / clip.duration_us}%`;
  node.style.top = `calc(var(--step) * ${row})`;
  node.firstChild.textContent = event.text || "…";
  node.title = event.text;
  node.ariaLabel = `${event.track}, ${seconds(event.start_us)} to ${seconds(event.end_us)} s: ${event.text || "no text yet"}`;
  node.ariaPressed = String(event.key === selected);
  return node;
}

function renderList() {
  const focused = document.activeElement?.closest("#list button")?.dataset.key;
  $("list").replaceChildren(...sorted().map((event) => {
    const button = make("button", { type: "button", onclick: () => { select(event.key); seek(event.start_us); } },
      make("span", { className: "when", textContent: `${seconds(event.start_us)} – ${seconds(event.end_us)}` }),
      make("span", { className: `chip ${event.track}`, textContent: event.track }),
      make("span", { className: "says", textContent: event.text || "no text yet" }));
    button.dataset.key = event.key;
    button.ariaPressed = String(event.key === selected);
    return make("li", {}, button);
  }));
  if (focused) document.querySelector(`#list [data-key="${focused}"]`)?.focus({ preventScroll: true });
}

function renderForm() {
  const event = chosen();
  $("event").hidden = !event;
  $("no-event").hidden = Boolean(event);
  if (!event) return;
  const others = state.events.filter((other) => other !== event);
  const options = [new Option("nothing noted", ""), ...others.map((other) => new Option(`${other.id}: ${other.text}`.slice(0, 60), other.id))];
  if (document.activeElement !== $("event-cause")) $("event-cause").replaceChildren(...options);
  const values = { text: event.text, track: event.track, entity: event.entity ?? "", cause: event.cause ?? "" };
  for (const [name, value] of Object.entries(values)) if ($(`event-${name}`).value !== value) $(`event-${name}`).value = value;
  for (const name of ["start", "end"]) {
    const field = $(`event-${name}`), value = String(event[`${name}_us`] / 1e6);
    if (document.activeElement !== field) field.value = value;
  }
}

function renderRuler() {
  const width = $("ruler").clientWidth, least = (70 * clip.duration_us) / 1e6 / Math.max(width, 1);
  const every = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300].find((length) => length >= least) ?? 600;
  const name = `${current} ${every}`;
  if ($("ruler").dataset.name === name) return;
  $("ruler").dataset.name = name;
  const marks = [];
  for (let i = 0; i * every * 1e6 < clip.duration_us; i += 1) {
    const mark = make("span", { textContent: `${Number((i * every).toFixed(2))} s` });
    mark.style.left = `${(100 * i * every * 1e6) / clip.duration_us}%`;
    marks.push(mark);
  }
  $("ruler").replaceChildren(...marks);
}

function draw(curves, failed = "") {
  const shape = (svg, points, step, top, height) => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", `M${points.map(([x, y]) => `${x},${y}`).join("L")}Z`);
    svg.setAttribute("viewBox", `0 ${top} ${clip.duration_us / 1e6 / step} ${height}`);
    svg.replaceChildren(path);
  };
  const { wave, motion } = curves, missing = [];
  if (wave?.high.length) {
    const upper = wave.high.map((value, i) => [i + 0.5, -value]), lower = wave.low.map((value, i) => [i + 0.5, -value]);
    shape($("wave"), [...upper, ...lower.reverse()], wave.step, -1, 2);
  } else missing.push("no sound");
  if (motion?.values.length) {
    const points = motion.values.map((value, i) => [i, 1 - value]); // a frame differs from the one before where it begins
    shape($("motion"), [[0, 1], ...points, [points.length, 1]], motion.step, 0, 1);
  } else missing.push("no picture");
  $("curve-problem").textContent = failed || `This clip has ${missing.join(" and ")}.`;
  $("curve-problem").hidden = !failed && !missing.length;
}

// ---- what the user does

function editText() {
  const first = chosen() ?? sorted()[0];
  if (!first) return;
  select(first.key);
  $("event-text").focus();
  $("event-text").select();
}

function backToEvent() {
  typing = false;
  if (nodes.get(selected)) nodes.get(selected).focus();
  else document.activeElement?.blur();
}

const KEYS = {
  " ": toggle,
  arrowleft: (event) => (event.altKey ? nudge(-1) : stepFrames(event.shiftKey ? -Math.round(1e6 / frameUs()) : -1)),
  arrowright: (event) => (event.altKey ? nudge(1) : stepFrames(event.shiftKey ? Math.round(1e6 / frameUs()) : 1)),
  n: () => add(), enter: editText, delete: remove, backspace: remove,
  i: () => chosen() && setSpan(playhead(), chosen().end_us),
  o: () => chosen() && setSpan(chosen().start_us, playhead()),
  z: undo, y: redo, s: save, j: () => step(1), k: () => step(-1),
  "+": () => setZoom(zoom * 2), "=": () => setZoom(zoom * 2), "-": () => setZoom(zoom / 2),
  "?": () => $("help").showModal(),
  escape: () => { document.activeElement?.blur(); select(null); },
};
TRACKS.forEach((name, i) => { KEYS[i + 1] = () => setTrack(name); });

document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase(), control = event.ctrlKey || event.metaKey;
  if ($("help").open) {
    if (key === "?") $("help").close();
    return;
  }
  if (control && key === "s") { event.preventDefault(); save(); return; }
  if (event.target.matches("input, textarea, select")) {
    if (key === "escape") { event.preventDefault(); backToEvent(); }
    return;
  }
  if (control && key === "z") { event.preventDefault(); (event.shiftKey ? redo : undo)(); return; }
  if (control || (event.altKey && !key.startsWith("arrow"))) return;
  const presses = event.target.matches("button:not(.event), summary");
  if ((presses && (key === " " || key === "enter")) || !KEYS[key]) return;
  if (!clip && !["j", "k", "?"].includes(key)) return;
  event.preventDefault();
  KEYS[key](event);
});

$("lanes").addEventListener("pointerdown", (down) => {
  const node = down.target.closest(".event");
  if (down.button !== 0 || !down.target.closest(".body")) return;
  if (!node) { select(null); seek(usAt(down.clientX)); return; }
  const key = Number(node.dataset.key), grip = down.target.closest(".grip");
  select(key);
  drag(down, key, grip && (grip.classList.contains("start") ? "start" : "end"));
});
$("lanes").addEventListener("dblclick", (at) => {
  const lane = at.target.closest(".lane");
  if (at.target.closest(".event")) editText();
  else if (at.target.closest(".body")) add(usAt(at.clientX), lane.dataset.track);
});
$("lanes").addEventListener("focusin", (at) => {
  const key = Number(at.target.closest(".event")?.dataset.key);
  if (key && key !== selected) select(key);
});
for (const bar of document.querySelectorAll(".seek, #ruler")) {
  bar.addEventListener("pointerdown", (down) => {
    if (down.button !== 0 || !clip) return;
    seek(usAt(down.clientX));
    const move = (at) => seek(usAt(at.clientX));
    const stop = () => ["pointermove", "pointerup", "pointercancel"].forEach((kind) => { window.removeEventListener(kind, move); window.removeEventListener(kind, stop); });
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", stop);
    window.addEventListener("pointercancel", stop);
  });
}

$("event").addEventListener("submit", (event) => { event.preventDefault(); backToEvent(); });
$("event-text").oninput = () => type(() => { chosen().text = $("event-text").value; });
$("event-entity").oninput = () => type(() => { chosen().entity = $("event-entity").value || undefined; });
$("event-track").onchange = () => setTrack($("event-track").value);
$("event-cause").onchange = () => change(() => { chosen().cause = $("event-cause").value || undefined; });
$("event-start").onchange = () => setSpan(Math.round(Number($("event-start").value) * 1e6), chosen().end_us);
$("event-end").onchange = () => setSpan(chosen().start_us, Math.round(Number($("event-end").value) * 1e6));
$("event-remove").onclick = remove;
$("language").oninput = () => type(() => { state.language = $("language").value; });
$("add-text").onclick = () => { change(() => { state.texts.push(""); }); $(`text-${state.texts.length - 1}`).focus(); };
document.addEventListener("focusout", () => { typing = false; if (state) renderForm(); });

for (const [id, action] of Object.entries({ previous: () => step(-1), next: () => step(1), undo, redo, save, play: toggle,
  back: () => stepFrames(-1), forth: () => stepFrames(1), "help-open": () => $("help").showModal(),
  "zoom-in": () => setZoom(zoom * 2), "zoom-out": () => setZoom(zoom / 2) })) $(id).onclick = action;
$("filter").oninput = renderClips;
$("speed").onchange = () => { video.playbackRate = Number($("speed").value); };
video.onclick = toggle;
for (const kind of ["play", "pause", "ended"]) video.addEventListener(kind, () => { $("play").textContent = video.paused ? "Play" : "Pause"; tick(); });
for (const kind of ["seeked", "timeupdate"]) video.addEventListener(kind, () => video.paused && tick());
video.addEventListener("error", () => clip && tell(`This clip cannot be played: ${video.error?.message || "unknown reason"}`, true));
window.addEventListener("resize", () => clip && renderRuler());
window.addEventListener("hashchange", () => go(location.hash.slice(1)));
window.addEventListener("beforeunload", (event) => { if (dirty()) event.preventDefault(); });

for (const [i, name] of TRACKS.entries()) {
  const label = make("span", { className: "label" }, make("kbd", { textContent: i + 1 }), ` ${name}`);
  const lane = make("div", { className: "line lane" }, label, make("div", { className: "body" }));
  lane.dataset.track = name;
  $("lanes").append(lane);
  $("event-track").append(new Option(`${i + 1} ${name}`, name));
}
narrow.onchange = fold;
fold();
try {
  clips = (await ask("/api/clips")).clips;
  const asked = clips.find((row) => row.id === location.hash.slice(1));
  await open((asked ?? clips.find((row) => !row.annotated) ?? clips[0]).id);
} catch (failed) {
  tell(failed.error ?? String(failed), true);
}
