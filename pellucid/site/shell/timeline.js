"use strict";

const DRAWN = [
  ["loss", "Training loss", "nats per token"],
  ["objective", "Objective", "what the gradient is of"],
  ["lr", "Learning rate", ""],
  ["grad_norm", "Norm of the gradient", "before clipping"],
  ["weight_norm", "Norm of the weights", ""],
  ["tokens_per_second", "Speed", "tokens a second"],
];
const view = { low: null, high: null, axis: "steps" };

page(async (about) => draw(about));

async function draw(about) {
  const [low, high] = [view.low ?? about.first, view.high ?? about.steps_done];
  const made = await seriesBetween(about, low, high);
  const shown = over(made, view.axis);
  const common = {
    axis: view.axis,
    range: rangeOf(shown, low, high),
    marks: marks(about, made),
    pick: (point) => { location.href = `step.html#${point.step}`; },
    zoom: (from, to) => zoom(about, stepAt(shown, from), stepAt(shown, to)),
  };
  const sources = bySource(shown);
  const same = made.loss && made.objective && made.loss.every((point, index) => made.objective[index] && made.objective[index].y === point.y);
  show(
    el("h1", {}, "Timeline"),
    controls(about, low, high, widthOf(made)),
    DRAWN.filter(([name]) => !(name === "objective" && same)).map(([name, title, unit]) =>
      chart({ ...common, title, unit, curves: [{ name, points: shown[name] || [] }] })),
    sources.length > 1 ? chart({ ...common, title: "Training loss by source", unit: "nats per token", curves: sources }) : null,
    chart({ ...common, title: "Validation", unit: "bits per byte",
      curves: [{ name: "validation", points: validations(about, view.axis, made, "bits_per_byte") }] }),
    events(about),
  );
}

function rangeOf(shown, low, high) {
  if (view.axis === "steps") return [Math.max(low, 1), high];
  const points = (shown.loss || []).filter((point) => point.step >= low && point.step <= high);
  return points.length ? [points[0].x, points[points.length - 1].x] : null;
}

function stepAt(shown, x) {
  const points = shown.loss || [];
  return points.reduce((best, point) => (Math.abs(point.x - x) < Math.abs(best.x - x) ? point : best), points[0]).step;
}

function zoom(about, low, high) {
  const least = 8;
  const middle = (low + high) / 2;
  const half = Math.max((high - low) / 2, least / 2);
  view.low = Math.max(about.first, Math.round(middle - half));
  view.high = Math.min(about.steps_done, Math.round(middle + half));
  if (view.low <= about.first && view.high >= about.steps_done) [view.low, view.high] = [null, null];
  draw(about);
}

// Steps of a bin; 0 where each step is drawn.
function widthOf(made) {
  const point = (made.loss || []).find((each) => each.last > each.step);
  return point ? point.last - point.step + 1 : 0;
}

function controls(about, low, high, wide) {
  const width = high - low;
  const button = (name, act, off) => el("button", { type: "button", onclick: act, disabled: off }, name);
  const axis = el("select", { id: "axis", onchange: (event) => { view.axis = event.target.value; draw(about); } },
    ["steps", "tokens"].map((name) => el("option", { value: name, selected: name === view.axis }, name)));
  return el("div", { class: "controls" },
    el("label", { for: "axis" }, "Axis "), axis,
    button("Zoom in", () => zoom(about, low + width / 4, high - width / 4)),
    button("Zoom out", () => zoom(about, low - width / 2, high + width / 2), view.low === null),
    button("Earlier", () => zoom(about, low - width / 2, high - width / 2), view.low === null || low <= about.first),
    button("Later", () => zoom(about, low + width / 2, high + width / 2), view.low === null || high >= about.steps_done),
    button("All", () => zoom(about, about.first, about.steps_done), view.low === null),
    el("span", { class: "quiet", role: "status" }, ` steps ${count(Math.max(low, 1))} to ${count(high)}${wide ? `. Each place of the curve is the mean of ${count(wide)} steps; the band is their range` : ""}`));
}

function marks(about, made) {
  const tokens = view.axis === "tokens" && made.tokens;
  const place = (step) => (tokens ? (made.tokens.find((point) => point.last >= step) || { y: NaN }).y : step);
  return [
    ...about.incidents.map((one) => ({ x: place(one.step), kind: "incident", name: `incident at step ${one.step}: ${one.rule}` })),
    ...about.checkpoints.map((step) => ({ x: place(step), kind: "checkpoint", name: `checkpoint of step ${step}` })),
  ];
}

function events(about) {
  const rows = [
    ...about.incidents.map((one) => [one.step, `incident: ${one.rule}, ${one.action}. ${one.why}`]),
    ...about.validation.map((one) => [one.step, `validation: ${decimal(one.bits_per_byte)} bits per byte`]),
    ...about.states.map((one) => [one.step, `${one.kinds.join(" and ")} stored`]),
  ].sort((a, b) => a[0] - b[0]);
  return section("Events", table("Incidents, validations, stored states", ["step", "event"],
    rows.map(([step, told]) => [stepLink(step), told]), [0]));
}
