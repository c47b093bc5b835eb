// The runs whose curves lie over each other, and what they are drawn over: steps, tokens or time.
"use strict";

const off = new Set(); // The numbers of runs that are switched off.

// The address says the axis and, in its units, the range: #100-200, #tokens, #time:0-60.5.
function viewed(asked) {
  const match =
    /^(?:(tokens|time)(?::|$))?(?:(\d{1,15}(?:\.\d{1,9})?)-(\d{1,15}(?:\.\d{1,9})?))?$/.exec(asked);
  const range = match && match[2] ? [Number(match[2]), Number(match[3])] : null;
  if (!match || (range && range[0] > range[1])) throw new Nowhere("There are no such steps.");
  return { axis: match[1] || "steps", range };
}

// A place on an axis, as fields and addresses have it: milliseconds, and whole steps and tokens.
function rounded(axis, x) {
  return Number(x.toFixed(axis === "time" ? 3 : 0));
}

function addressOf(axis, range) {
  const own = range ? range.map((end) => rounded(axis, end)).join("-") : "";
  return axis === "steps" ? own : [axis, own].filter(Boolean).join(":");
}

// The run of these pages and those that `pellucid view` shows beside it, each with its series and
// validations over an axis. fault: why another run cannot be shown.
async function runsOf(about, { axis, range }) {
  const first = { about, place: "", number: 0, name: about.run, at: about.at };
  const others = (about.others || []).map((at, index) => ({
    place: `others/${index}/`,
    number: index + 1,
    name: at,
    at,
    made: {},
  }));
  await Promise.all([read(first, axis, range), ...others.map((run) => tried(run, axis, range))]);
  const runs = [first, ...others];
  const names = runs.map((run) => run.name);
  for (const run of runs) {
    if (names.filter((name) => name === run.name).length > 1) run.label = `${run.name} (${run.at})`;
    else run.label = run.name;
  }
  return runs;
}

async function read(run, axis, range) {
  [run.made, run.validated] = await Promise.all([
    seriesOver(run, axis, range),
    validated(run, axis),
  ]);
}

async function tried(run, axis, range) {
  try {
    run.about = await value("overview", run.place);
    run.name = run.about.run;
    await read(run, axis, range);
  } catch (error) {
    run.fault = (await faultOf(run.place)) || error.message;
  }
}

// What the server says of a run that it cannot read; a script does not learn it.
async function faultOf(place) {
  try {
    return (await (await fetch(`${place}data/overview.js`)).json()).error;
  } catch {
    return "";
  }
}

function shownOf(runs) {
  return runs.filter((run) => !run.fault && !off.has(run.number));
}

// Where the curves of some runs begin and end. They are whole, and not a range of them.
function wholeOf(runs, axis) {
  const ends = runs.map((run) => {
    if (axis === "steps") return [run.about.first, run.about.steps_done];
    const begin = beginOf(run, axis);
    const xs = [...(run.made.loss || []), ...run.validated.all].map((point) => point.x);
    return [begin, xs.reduce((one, other) => Math.max(one, other), begin)];
  });
  return [Math.min(...ends.map((end) => end[0])), Math.max(...ends.map((end) => end[1]))];
}

function beginOf({ about }, axis) {
  return axis === "tokens" && about.genesis ? Number(about.genesis.tokens || 0) : 0;
}

// One curve for each run. name: of the curve of a run that is alone.
function curvesOf(runs, name, pointsOf) {
  return runs.map((run) => ({
    name: runs.length > 1 ? run.label : name,
    number: run.number,
    points: pointsOf(run),
    other: run.number > 0,
  }));
}

// Where a step of a run stands on the axis; NaN where it is not among what is shown.
function placeOf(run, axis, step) {
  if (axis === "steps") return step;
  if (step === run.about.first) return beginOf(run, axis);
  const point = (run.made.loss || []).find((one) => one.last >= step);
  return point && point.step <= step ? point.x : NaN;
}

// The names of all runs: a legend that switches the others off and on.
function runControls(runs) {
  if (runs.length < 2) return null;
  const turn = (number) => (event) => {
    if (event.target.checked) off.delete(number);
    else off.add(number);
    redraw();
  };
  return el(
    "fieldset",
    { class: "runs" },
    el("legend", {}, "Runs"),
    runs.map((run) => {
      if (run.fault) {
        return el("p", { role: "alert" }, foreign(run.label), " is left out: ", foreign(run.fault));
      }
      if (!run.number) {
        return el("span", { class: "key c0" }, swatch(), foreign(run.label), " (these pages)");
      }
      const box = el("input", {
        type: "checkbox",
        id: `run${run.number}`,
        checked: !off.has(run.number),
        onchange: turn(run.number),
      });
      return el("label", { class: `key c${run.number}` }, box, swatch(), foreign(run.label));
    }),
  );
}

function axisSelect(axis) {
  const go = (event) => {
    location.hash = addressOf(event.target.value, null);
  };
  const option = (name) => el("option", { value: name, selected: name === axis }, name);
  return [
    el("label", { for: "axis" }, "Axis "),
    el("select", { id: "axis", onchange: go }, ["steps", "tokens", "time"].map(option)),
  ];
}
