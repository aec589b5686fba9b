// SPDX-License-Identifier: Apache-2.0
// Bars that move: one for each of the newest actions. Drawn by hand: two plots of at most 60 bars on a page that must work without
// the internet, so a library would be a hundred times this file, to be shipped, licensed and kept up to date. Colours are those of Okabe and Ito, told apart by the colour-blind too.

const SHOWN = 60;       // actions
const LEFT = 34;        // pixels for the numbers of the axis
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999"];
export const STAGES = ["vision", "prefill", "draft", "decode"];     // in the order of a step's stages
const REST = "#999999";
const paths = new Map();        // the colour of each path, in the order in which they came

/** Each stage of an action on the others; what is left of the total is grey. */
export function drawLatency(canvas, legend, steps) {
  const shown = steps.slice(-SHOWN);
  const bars = shown.map((step) => {
    const parts = step.stages.map((ms, i) => [ms ?? 0, COLOURS[i]]);
    const rest = (step.total ?? 0) - parts.reduce((sum, [ms]) => sum + ms, 0);
    return [...parts, [Math.max(0, rest), REST]];
  });
  const top = round(Math.max(1, ...bars.map((bar) => bar.reduce((sum, [ms]) => sum + ms, 0))));
  draw(canvas, bars, top, [0, top / 2, top]);
  showLegend(legend, [...STAGES.map((stage, i) => [stage, COLOURS[i]]), ["rest", REST]]);
}

/** How many of the seven tokens were accepted from a draft; the colour is the path; a dot is a pass of the language model. */
export function drawAccepted(canvas, legend, steps) {
  const shown = steps.slice(-SHOWN);
  for (const step of shown) {
    if (!paths.has(step.path)) paths.set(step.path, COLOURS[paths.size % COLOURS.length]);
  }
  const bars = shown.map((step) => [[Math.max(step.accepted, 0.15), paths.get(step.path)]]);
  draw(canvas, bars, 7.5, [0, 7], shown.map((step) => step.passes));
  showLegend(legend, [...paths, ["• passes of the language model", ""]]);
}

/** bars: for each action, parts [height, colour] from below. top: the value at the upper edge. dots: a value for each bar. */
function draw(canvas, bars, top, marks, dots = []) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = Number(canvas.getAttribute("height-css") ?? canvas.height);
  canvas.setAttribute("height-css", height);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d"), style = getComputedStyle(document.body);
  const text = style.getPropertyValue("--quiet"), line = style.getPropertyValue("--line"), ink = style.getPropertyValue("--text");
  const y = (value) => height - 4 - (height - 14) * Math.min(value, top) / top;
  context.scale(ratio, ratio);
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "right";
  for (const mark of marks) {
    context.fillStyle = line;
    context.fillRect(LEFT, y(mark), width - LEFT, 1);
    context.fillStyle = text;
    context.fillText(String(mark), LEFT - 5, y(mark) + 4);
  }
  const step = (width - LEFT) / SHOWN;
  bars.forEach((bar, i) => {
    const x = width - (bars.length - i) * step;         // the newest is at the right edge
    let below = 0;
    for (const [value, colour] of bar) {
      context.fillStyle = colour;
      context.fillRect(x, y(below + value), Math.max(1, step - 1), y(below) - y(below + value));
      below += value;
    }
    if (i in dots) {
      context.fillStyle = ink;
      context.beginPath();
      context.arc(x + step / 2, y(dots[i]), 1.6, 0, 2 * Math.PI);
      context.fill();
    }
  });
}

function showLegend(legend, entries) {
  const wanted = entries.map(([name]) => name).join();
  if (legend.dataset.entries === wanted) return;
  legend.dataset.entries = wanted;
  legend.replaceChildren(...entries.map(([name, colour]) => {
    const entry = document.createElement("span");
    if (colour) {
      const sample = document.createElement("i");
      sample.style.background = colour;
      entry.append(sample);
    }
    entry.append(name);
    return entry;
  }));
}

/** The next of 1, 2, 5, 10, 20, 50, ... */
function round(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * unit).find((mark) => mark >= value);
}
