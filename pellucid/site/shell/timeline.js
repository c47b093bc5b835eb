"use strict";

const DRAWN = [
  ["objective", "Objective", "what the gradient is of"],
  ["lr", "Learning rate", ""],
  ["grad_norm", "Norm of the gradient", "before clipping"],
  ["weight_norm", "Norm of the weights", ""],
  ["tokens_per_second", "Speed", "tokens a second"],
];
const UNITS = { steps: "Steps", tokens: "Tokens", time: "Seconds" };
const LEAST = 8; // Steps of the closest view.
const EVENTS = 200;

page(async (about, asked) => {
  const view = viewed(asked);
  const { axis } = view;
  const runs = await runsOf(about, view);
  const [own, ...others] = shownOf(runs);
  const all =
    view.range && axis !== "steps"
      ? shownOf(await runsOf(about, { axis, range: null }))
      : [own, ...others];
  const whole = wholeOf(all, axis);
  const range = view.range
    ? [Math.max(view.range[0], whole[0]), Math.min(view.range[1], whole[1])]
    : whole;
  if (range[0] > range[1]) throw new Nowhere("There are no such steps.");
  const go = zoomOf(all, axis, whole);
  const common = {
    axis,
    range,
    marks: marks(own, axis),
    pick: (point) => {
      location.href = `step.html#${point.step}`;
    },
    zoom: go,
  };
  const { made } = own;
  const same =
    made.loss &&
    made.objective &&
    made.loss.every((point, index) => made.objective[index] && made.objective[index].y === point.y);
  const sources = bySource(made);
  show(
    el("h1", {}, "Timeline"),
    runControls(runs),
    controls(axis, range, whole, go),
    legendOf(widthOf(made)),
    chart({
      ...common,
      title: "Training loss",
      unit: "nats per token",
      curves: [
        ...curvesOf([own, ...others], "Training loss", (run) => run.made.loss || []),
        ...abandoned(about, made),
      ],
    }),
    DRAWN.filter(([name]) => !(name === "objective" && same)).map(([name, title, unit]) =>
      chart({ ...common, title, unit, curves: [{ name: title, points: made[name] || [] }] }),
    ),
    sources.length > 1
      ? chart({
          ...common,
          title: "Training loss by source",
          unit: "nats per token",
          curves: sources,
        })
      : null,
    await validation(common, [own, ...others]),
    own.validated.sources.length > 1
      ? chart({
          ...common,
          title: "Validation by source",
          unit: "bits per byte",
          curves: own.validated.sources,
        })
      : null,
    events(about, own),
  );
});

async function validation(common, runs) {
  const { levels, told } = await packers(runs[0].about);
  const { width } = runs[0].validated;
  const dots = width > 1 ? `A point is the mean of ${count(width)} validations. ` : "";
  return chart({
    ...common,
    title: "Validation",
    unit: "bits per byte",
    curves: curvesOf(runs, "validation", (run) => run.validated.all),
    levels,
    told: `${dots}${told || ""}`,
  });
}

// What shows another part of the axis: a part too short is shown with what is around it.
function zoomOf(runs, axis, whole) {
  const steps = Math.max(...runs.map((run) => run.about.steps_done - run.about.first), LEAST);
  const least = axis === "steps" ? LEAST : (LEAST * (whole[1] - whole[0])) / steps;
  const round = axis === "time" ? (end) => end : Math.round;
  const go = (low, high) => {
    const middle = (low + high) / 2;
    const half = Math.max((high - low) / 2, least / 2);
    const range = [
      Math.max(whole[0], round(middle - half)),
      Math.min(whole[1], round(middle + half)),
    ];
    const all = range[0] <= whole[0] && range[1] >= whole[1];
    location.hash = addressOf(axis, all ? null : range);
  };
  go.least = least;
  return go;
}

// Steps of a bin; 0 where each step is drawn.
function widthOf(made) {
  const point = (made.loss || []).find((each) => each.last > each.step);
  return point ? point.last - point.step + 1 : 0;
}

function controls(axis, [low, high], whole, go) {
  const width = high - low;
  const all = low <= whole[0] && high >= whole[1];
  const button = (name, act, off) =>
    el("button", { type: "button", id: idOf(name), onclick: act, disabled: off }, name);
  const field = (id, name, end) => [
    el("label", { for: id }, name),
    el("input", { type: "number", id, step: "any", min: 0, value: rounded(axis, end) }),
  ];
  const read = (event) => {
    event.preventDefault();
    const [from, to] = ["from", "to"].map((id) => Number(document.getElementById(id).value));
    go(Math.min(from, to), Math.max(from, to));
  };
  const moved = (by) => {
    const first = Math.min(Math.max(low + by, whole[0]), whole[1] - width);
    go(first, first + width);
  };
  return el(
    "form",
    { class: "controls", onsubmit: read },
    axisSelect(axis),
    field("from", `${UNITS[axis]} from `, low),
    field("to", "to ", high),
    el("button", {}, "Show"),
    button("Zoom in", () => go(low + width / 4, high - width / 4), width <= go.least),
    button("Zoom out", () => go(low - width / 2, high + width / 2), all),
    button("Earlier", () => moved(-width / 2), low <= whole[0]),
    button("Later", () => moved(width / 2), high >= whole[1]),
    button("All", () => go(...whole), all),
  );
}

function legendOf(wide) {
  return el(
    "p",
    { class: "quiet" },
    "Drag over a curve to zoom; click to open a step. " +
      "Dotted lines are checkpoints, red lines incidents; an arrow leads back to where a " +
      "rollback went.",
    wide
      ? ` Each place of a curve is the mean of ${count(wide)} steps, and the band is their range.`
      : "",
  );
}

function marks(run, axis) {
  const { about } = run;
  const place = (step) => placeOf(run, axis, step);
  return [
    ...about.incidents
      .filter((one) => one.action !== "rollback")
      .map((one) => ({
        x: place(one.step),
        step: one.step,
        kind: "incident",
        name: `incident at step ${one.step}: ${one.rule}`,
      })),
    ...about.rollbacks.map((one) => ({
      x: place(one.step),
      to: place(one.to),
      step: one.step,
      kind: "incident",
      name: `rolled back from step ${count(one.step)} to step ${count(one.to)}`,
    })),
    ...about.checkpoints.map((step) => ({
      x: place(step),
      step,
      kind: "checkpoint",
      name: `checkpoint of step ${step}`,
    })),
  ];
}

function events(about, run) {
  const rows = [
    ...about.incidents.map((one) => [
      one.step,
      `incident: ${one.rule}, ${one.action}. ${plain(one.why)}`,
    ]),
    ...run.validated.all.map((one) => [one.step, validationTold(one)]),
    ...about.checkpoints.map((step) => [step, "checkpoint stored"]),
    ...about.anchors.map((step) => [step, "anchor stored"]),
  ].sort((a, b) => a[0] - b[0]);
  const drawn = (most) =>
    table(
      "Incidents, validations, stored states",
      ["step", "event"],
      rows.slice(0, most).map(([step, told]) => [stepLink(step), told]),
      [0],
    );
  return section("Events", shortened(rows.length, EVENTS, "events", drawn));
}

function validationTold({ y, low, high }) {
  const spread =
    low === undefined
      ? ""
      : `, and since the last in this list ${decimal(low)} to ${decimal(high)}`;
  return `validation: ${decimal(y)} bits per byte${spread}`;
}
