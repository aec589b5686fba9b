// SPDX-License-Identifier: Apache-2.0
// The operator's page. What it shows comes over one websocket; what an operator asks for is POSTed, with the token.
import { drawAccepted, drawLatency } from "./plots.js";

const $ = (id) => document.getElementById(id);
const KEPT = 300;               // actions
const SILENT = 3000;            // ms without a word of the console, after which what is shown is old
const ANSWER = 15000;           // ms for which it is shown what came of a button
const RETRY = 1000;             // ms until the next try to connect

let token = "";
let state = null;               // the newest; null before the first
let tables = {};
let steps = [];
let fading = 0;
let socket = null;
let tried = 0;                  // when the socket was opened, ms
let heard = 0;                  // when the console was heard last, ms
let drawing = false;

// --- The console's process

async function openSession() {
  for (let wrong = ""; ; wrong = "That key is wrong.") {
    const key = sessionStorage.getItem("key") ?? "";
    const answer = await fetch("session", { method: "POST", headers: key ? { Authorization: `Api-Key ${key}` } : {} });
    if (answer.ok) {
      token = (await answer.json()).token;
      return;
    }
    if (answer.status !== 401) throw new Error((await answer.json()).error);
    sessionStorage.setItem("key", await askForKey(key ? wrong || "That key is wrong." : ""));
  }
}

function askForKey(refused) {
  $("refused").textContent = refused;
  $("key").value = "";
  if (!$("login").open) $("login").showModal();
  return new Promise((resolve) => { $("login").onclose = () => resolve($("key").value.replace(/[^\x21-\x7e]/g, "")); });
}

async function connect() {
  try {
    await openSession();
  } catch {
    setTimeout(connect, RETRY);
    return;
  }
  const address = new URL("live", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  tried = Date.now();
  socket = new WebSocket(address, ["vla-sd-console", token]);
  socket.binaryType = "blob";
  socket.onopen = () => { steps = []; showRecordings(); };
  socket.onmessage = (message) => {
    heard = Date.now();
    if (message.data instanceof Blob) showPicture(message.data);
    else take(JSON.parse(message.data));
  };
  socket.onclose = () => { socket = null; heard = 0; show(); setTimeout(connect, RETRY); };
}

/** A connection that went without a word, such as that of a phone out of reach, is opened anew. */
function watchConnection() {
  if (Date.now() - heard <= SILENT) return;
  show();
  if (socket && Date.now() - Math.max(heard, tried) > 2 * SILENT) {
    const lost = socket;
    lost.onmessage = null;
    lost.onclose();
    lost.onclose = null;
    lost.close();
  }
}

function take(news) {
  if (news.state) state = news.state;
  if (news.tables) { tables = news.tables; showTables(); }
  if (news.steps) steps = [...steps, ...news.steps].slice(-KEPT);
  show();
}

function post(command, fields) {
  return fetch(`do/${command}`, {
    method: "POST", body: JSON.stringify(fields),
    headers: { "Content-Type": "application/json", "X-Console-Token": token },
  });
}

/** Ask for something and show what came of it, in a sentence. */
async function ask(command, fields = {}) {
  try {
    let answer = await post(command, fields);
    if (answer.status === 401) {                // the console was started anew since: nothing may keep a HOLD waiting
      await openSession();
      answer = await post(command, fields);
    }
    const told = await answer.json();
    showAnswer(told.told ?? told.error, !answer.ok);
    return answer.ok;
  } catch {
    showAnswer(`The console cannot be reached, so ${command.toUpperCase()} did nothing. Use the emergency stop.`, true);
    return false;
  }
}

// --- What is shown

function show() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const { kind, word, why } = glance();
    document.body.dataset.kind = kind;
    setText($("word"), word);
    setText($("why"), why);
    document.title = `${word} · vla_sd console`;
    if (state) {
      showChips();
      showTask();
      showArm();
      showEvents();
    }
    drawLatency($("latency"), $("stages"), steps);
    drawAccepted($("accepted"), $("paths"), steps);
    showNewest();
  });
}

/** The state at a glance: what matters most comes first. */
function glance() {
  if (!state || Date.now() - heard > SILENT) {
    return { kind: "lost", word: "NO CONNECTION", why: "What is shown here is old, and HOLD may not arrive: use the emergency stop." };
  }
  const { arm, vla, goal } = state;
  const running = goal ? `${goal.instruction} · step ${goal.step}` : "";
  if (!arm.there) return { kind: "lost", word: "ARM LOST", why: `${arm.problem}. HOLD may not arrive: use the emergency stop.` };
  if (arm.held) return { kind: "held", word: "HELD", why: arm.message };
  const starved = !vla.there && arm.name === "COMMAND_STALE"; // the arm holds because the policy is lost
  if (arm.fault && !starved) return { kind: "fault", word: words(arm.name), why: arm.message };
  if (!vla.there) return { kind: "lost", word: "POLICY LOST", why: `${vla.problem}; the arm holds without its commands.` };
  if (goal) return { kind: "moving", word: arm.moving ? "MOVING" : "GOAL RUNS", why: running };
  if (vla.state !== "active") return { kind: "lost", word: "NOT READY", why: `vla_node is ${vla.state}: configure and activate it` };
  return { kind: "idle", word: "READY", why: arm.message || vla.message };
}

function showChips() {
  const { vla, arm, camera, operators } = state;
  const chips = [
    [`vla_node ${vla.there ? vla.state : "lost"}`, vla.there, vla.problem || vla.message],
    [`arm_node ${arm.there ? (arm.dry_run ? "dry run" : "active") : "lost"}`, arm.there, arm.problem],
    [`camera ${camera.there ? "live" : "silent"}`, camera.there, camera.problem],
    [`${operators} ${operators === 1 ? "operator" : "operators"}`, true, ""],
  ];
  $("namespace").textContent = state.namespace;
  fill($("chips"), chips, ([text, good, why]) => {
    const chip = make("li", text);
    chip.className = good ? "" : "bad";
    chip.title = why;
    return chip;
  });
  setText($("camera"), camera.problem ? `${camera.topic} ${camera.problem}` : camera.topic);
}

function showTask() {
  const { goal, last, starting, arm, vla, sentences } = state;
  $("running").hidden = !goal;
  $("start").disabled = Boolean(goal) || starting || arm.held || !vla.there;
  $("start").textContent = starting ? "Starting …" : "Start";
  $("stop").disabled = false;
  $("release").hidden = !arm.held;
  $("recover").hidden = !arm.recover;
  if (goal) {
    setText($("progress"), `${goal.instruction}: step ${goal.step}, ${goal.elapsed.toFixed(1)} s`);
    setText($("warnings"), goal.warnings.join(" "));
  }
  if (last) {
    const figures = last.steps === undefined ? "" : ` after ${last.steps} steps, ${last.elapsed.toFixed(1)} s`;
    setText($("last"), `Last: ${last.instruction}: ${words(last.reason).toLowerCase()}${figures}. ${last.message}`);
  }
  fill($("known"), ["", ...sentences], (sentence) => {
    const option = make("option", sentence || "choose one …");
    option.value = sentence;
    return option;
  });
}

function showArm() {
  const { arm, vla } = state;
  const facts = [
    ["does", arm.there ? (arm.moving ? "moves" : "holds") : arm.problem],
    ["because", arm.code > 1 ? `${words(arm.name)}: ${arm.message}` : arm.message],
    ["gripper", [arm.gripper, arm.gripper_message].filter(Boolean).join(": ")],
    ["commands", `${arm.clipped} clipped, ${arm.refused} refused`],
    ["policy", [vla.checkpoint, vla.decoder].filter(Boolean).join(", ")],
    ["policy says", vla.there ? vla.message : vla.problem],
  ].filter(([, what]) => what);
  fill($("facts"), facts.flat(), (text, i) => make(i % 2 ? "dd" : "dt", text));
}

function showNewest() {
  const step = steps.at(-1);
  if (!step) return;
  const extra = [step.threshold ? `threshold ${step.threshold}` : "", step.metric === null ? "" : `fused metric ${step.metric}`];
  setText($("newest"), [
    `step ${step.step}`, `${step.decoder}/${step.path}`, `${step.total} ms`, `${step.accepted} of 7 accepted`,
    `${step.passes} passes`, ...extra].filter(Boolean).join(" · "));
}

function showEvents() {
  fill($("events"), [...state.events].reverse(), (event) => {
    const line = make("li", "");
    line.className = event.kind;
    line.append(make("time", new Date(1000 * event.at).toLocaleTimeString()), event.text);
    return line;
  });
}

function showPicture(blob) {
  const before = $("picture").src, address = URL.createObjectURL(blob);
  $("picture").onload = () => { if (before) URL.revokeObjectURL(before); };
  $("picture").src = address;
  $("picture").hidden = false;
}

function showAnswer(text, bad) {
  $("answer").textContent = text;
  $("answer").className = bad ? "bad" : "";
  clearTimeout(fading);
  if (!bad) fading = setTimeout(() => { $("answer").textContent = ""; }, ANSWER);
}

// --- Parameters

function showTables() {
  for (const [node, title] of [["vla", "vla_node"], ["arm", "arm_node"]]) {
    const groups = new Map();
    for (const known of tables[node] ?? []) {
      const group = known.name.includes(".") ? known.name.split(".")[0] : "general";
      groups.set(group, [...(groups.get(group) ?? []), known]);
    }
    for (const group of [...groups.keys()].sort((a, b) => (b === "decoder") - (a === "decoder") || a.localeCompare(b))) {
      const box = groupBox(node, `${title}: ${group}`, node === "vla" && group === "decoder");
      for (const known of groups.get(group)) showParameter(box, node, known);
    }
    for (const row of document.querySelectorAll(`.parameter[data-node="${node}"]`)) {
      row.hidden = !(tables[node] ?? []).some((known) => known.name === row.dataset.name);
    }
  }
  applyFilter();
}

function groupBox(node, title, open) {
  const id = `group-${title}`;
  if ($(id)) return $(id);
  const box = make("details", "");
  box.id = id;
  box.open = open;
  box.append(make("summary", title));
  $("tables").append(box);
  return box;
}

function showParameter(box, node, known) {
  const id = `parameter-${node}-${known.name}`;
  let row = $(id);
  if (!row) {
    row = make("div", "");
    row.id = id;
    row.className = "parameter";
    Object.assign(row.dataset, { node, name: known.name });
    const label = make("label", known.unit ? `${known.name} [${known.unit}]` : known.name), edit = make("div", "");
    const field = makeField(known);
    field.id = label.htmlFor = `${id}-value`;
    edit.className = "edit";
    edit.append(field);
    if (field.tagName === "INPUT" && field.type !== "checkbox") {
      const set = make("button", "Set");
      set.type = "button";
      set.onclick = () => setParameter(node, known, field);
      field.onkeydown = (event) => { if (event.key === "Enter") set.click(); };
      edit.append(set);
    } else {
      field.onchange = () => setParameter(node, known, field);
    }
    const range = known.low === null ? "" : ` Range: ${known.low} to ${known.high}.`;
    row.append(label, edit, make("small", known.description + range));
    box.append(row);
  }
  const field = $(`${id}-value`);
  if (document.activeElement === field && field.type !== "checkbox" && field.tagName === "INPUT") return;    // being edited
  if (field.type === "checkbox") field.checked = known.value;
  else field.value = Array.isArray(known.value) ? known.value.join(", ") : known.value;
}

function makeField(known) {
  if (known.choices.length && !known.kind.startsWith("list")) {
    const field = make("select", "");
    field.append(...known.choices.map((choice) => make("option", choice)));
    return field;
  }
  const field = make("input", "");
  if (known.kind === "bool") field.type = "checkbox";
  else if (known.kind === "int" || known.kind === "float") {
    field.type = "number";
    field.step = known.kind === "int" ? 1 : "any";
    if (known.low !== null) Object.assign(field, { min: known.low, max: known.high });
  }
  return field;
}

async function setParameter(node, known, field) {
  const numeric = /int|float/.test(known.kind);
  let value = field.type === "checkbox" ? field.checked : field.value;
  if (known.kind.startsWith("list")) {
    const parts = value.split(",").map((part) => part.trim()).filter((part) => part);
    value = numeric ? parts.map(Number) : parts;
  } else if (numeric) {
    value = field.value.trim() === "" ? null : Number(field.value);
  }
  field.blur();
  if (!await ask("parameter", { node, name: known.name, value })) showTables();   // what is in force again
}

function applyFilter() {
  const wanted = $("filter").value.trim().toLowerCase();
  for (const row of document.querySelectorAll(".parameter")) {
    const there = (tables[row.dataset.node] ?? []).some((known) => known.name === row.dataset.name);
    row.hidden = !there || !row.dataset.name.toLowerCase().includes(wanted);
  }
  for (const box of document.querySelectorAll("#tables details")) {
    const left = [...box.querySelectorAll(".parameter")].some((row) => !row.hidden);
    box.hidden = !left;
    if (wanted && left) box.open = true;
  }
}

// --- Recordings

async function showRecordings() {
  const answer = await fetch("recordings", { headers: { "X-Console-Token": token } }).catch(() => null);
  if (!answer?.ok) return;
  const { folder, runs } = await answer.json();
  if (!runs.length) $("runs").replaceChildren(make("p", `Nothing is recorded in ${folder}.`));
  else $("runs").replaceChildren(...runs.map(showRun));
}

function showRun(run) {
  const box = make("div", ""), address = (file) => `recordings/${encodeURIComponent(run.name)}/${file}?token=${token}`;
  box.className = "run";
  const outcome = make("b", run.success === true ? "✓ success" : run.success === false ? "✗ no success" : "");
  outcome.className = run.success ? "yes" : "no";
  box.append(outcome, ` ${run.instruction ?? run.name} `);
  const figures = [
    run.name, run.steps === undefined ? "" : `${run.steps} steps`, run.elapsed === undefined ? "" : `${run.elapsed} s`,
    run.termination_reason, run.error_msg, run.problem];
  box.append(make("div", figures.filter(Boolean).join(" · ")));
  if (run.files.includes("video.mp4")) {
    const video = make("video", "");
    Object.assign(video, { src: address("video.mp4"), controls: true, preload: "none", playsInline: true });
    box.append(video);
  }
  for (const file of run.files.filter((name) => name !== "video.mp4")) {
    const link = make("a", file);
    Object.assign(link, { href: address(file), target: "_blank", rel: "noopener" });
    box.append(link, " ");
  }
  return box;
}

// --- Small helpers

function make(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

/** Only where it changed, so that a screen reader does not say it again. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The children anew, only where what they show has changed. */
function fill(parent, entries, child) {
  const wanted = JSON.stringify(entries);
  if (parent.dataset.filled === wanted) return;
  parent.dataset.filled = wanted;
  parent.replaceChildren(...entries.map(child));
}

function words(name) {
  return name.replaceAll("_", " ");
}

// --- Buttons

$("goal").onsubmit = (event) => {
  event.preventDefault();
  ask("start", { instruction: $("instruction").value.trim(), time_limit: Number($("limit").value || 0) });
};
$("known").onchange = () => { if ($("known").value) $("instruction").value = $("known").value; };
$("stop").onclick = () => ask("stop");
$("hold").onclick = () => ask("hold");
$("release").onclick = () => ask("release");
$("recover").onclick = () => ask("recover");
$("success").onclick = () => ask("mark", { success: true });
$("failure").onclick = () => ask("mark", { success: false });
$("refresh").onclick = showRecordings;
$("filter").oninput = applyFilter;
document.onkeydown = (event) => { if (event.key === "Escape" && !$("login").open) ask("hold"); };
window.onresize = show;
setInterval(watchConnection, 500);
connect();
