"use strict";

const DRAWN = [
  ["loss", "Training loss", "nats per token"],
  ["objective", "Objective", "what the gradient is of"],
  ["lr", "Learning rate", ""],
  ["grad_norm", "Norm of the gradient", "before clipping"],
  ["weight_norm", "Norm of the weights", ""],
  ["tokens_per_second", "Speed", "tokens a second"],
];
let axis = "steps";

// The address says which steps are shown: timeline.html#100-200.
page(async (about, asked) => {
  const match = /^(\d{1,15})-(\d{1,15})$/.exec(asked);
  const low = match ? Math.max(Number(match[1]), about.first) : about.first;
  const high = match ? Math.min(Number(match[2]), about.steps_done) : about.steps_done;
  if ((asked && !match) || low > high) throw new Nowhere("There are no such steps.");
  const made = await seriesBetween(about, low, high);
  const shown = over(made, axis);
  const common = {
    axis,
    range: rangeOf(shown, low, high),
    marks: marks(about, made),
    pick: (point) => {
      location.href = `step.html#${point.step}`;
    },
    zoom: (from, to) => zoom(about, stepAt(shown, from), stepAt(shown, to)),
  };
  const sources = bySource(shown);
  const same =
    made.loss &&
    made.objective &&
    made.loss.every((point, index) => made.objective[index] && made.objective[index].y === point.y);
  const tops = shown === made ? null : made;
  show(
    el("h1", {}, "Timeline"),
    controls(about, low, high, widthOf(made)),
    DRAWN.filter(([name]) => !(name === "objective" && same)).map(([name, title, unit]) =>
      chart({
        ...common,
        title,
        unit,
        curves: [
          { name: title, points: shown[name] || [] },
          ...(name === "loss" ? abandoned(about, shown) : []),
        ],
      }),
    ),
    sources.length > 1
      ? chart({
          ...common,
          title: "Training loss by source",
          unit: "nats per token",
          curves: sources,
        })
      : null,
    chart({
      ...common,
      title: "Validation",
      unit: "bits per byte",
      curves: validated(about, tops),
      ...(await packers(about)),
    }),
    events(about),
  );
});

// Over all sources, and of each where there are several.
function validated(about, made) {
  const all = { name: "all sources", points: validations(about, made, (one) => one.bits_per_byte) };
  const names = [
    ...new Set(about.validation.flatMap((one) => one.sources.map((source) => source.source))),
  ];
  if (names.length < 2) return [{ ...all, name: "validation" }];
  return [
    all,
    ...names.slice(0, 7).map((name) => ({
      name,
      points: validations(
        about,
        made,
        (one) => (one.sources.find((source) => source.source === name) || {}).bits_per_byte,
      ),
    })),
  ];
}

function rangeOf(shown, low, high) {
  if (axis === "steps") return [low, high];
  const points = (shown.loss || []).filter((point) => point.step >= low && point.step <= high);
  return points.length ? [low ? points[0].x : 0, points[points.length - 1].x] : null;
}

function stepAt(shown, x) {
  const points = shown.loss || [];
  return points.reduce(
    (best, point) => (Math.abs(point.x - x) < Math.abs(best.x - x) ? point : best),
    points[0],
  ).step;
}

const LEAST = 8; // Steps of the closest view.

function zoom(about, low, high) {
  const middle = (low + high) / 2;
  const half = Math.max((high - low) / 2, LEAST / 2);
  const [from, to] = [
    Math.max(about.first, Math.round(middle - half)),
    Math.min(about.steps_done, Math.round(middle + half)),
  ];
  location.hash = from <= about.first && to >= about.steps_done ? "" : `${from}-${to}`;
}

// Steps of a bin; 0 where each step is drawn.
function widthOf(made) {
  const point = (made.loss || []).find((each) => each.last > each.step);
  return point ? point.last - point.step + 1 : 0;
}

function controls(about, low, high, wide) {
  const width = high - low;
  const all = low <= about.first && high >= about.steps_done;
  const button = (name, act, off) =>
    el("button", { type: "button", onclick: act, disabled: off }, name);
  const field = (id, name, step) => [
    el("label", { for: id }, name),
    el("input", { type: "number", id, min: about.first, max: about.steps_done, value: step }),
  ];
  const go = (event) => {
    event.preventDefault();
    const [from, to] = ["from", "to"].map((id) => Number(document.getElementById(id).value));
    zoom(about, Math.min(from, to), Math.max(from, to));
  };
  const select = el(
    "select",
    {
      id: "axis",
      onchange: (event) => {
        axis = event.target.value;
        redraw();
      },
    },
    ["steps", "tokens"].map((name) => el("option", { value: name, selected: name === axis }, name)),
  );
  return el(
    "div",
    {},
    el(
      "form",
      { class: "controls", onsubmit: go },
      field("from", "Steps from ", low),
      field("to", "to ", high),
      el("button", {}, "Show"),
      button("Zoom in", () => zoom(about, low + width / 4, high - width / 4), width <= LEAST),
      button("Zoom out", () => zoom(about, low - width / 2, high + width / 2), all),
      button(
        "Earlier",
        () =>
          zoom(
            about,
            Math.max(low - width / 2, about.first),
            Math.max(high - width / 2, about.first + width),
          ),
        low <= about.first,
      ),
      button(
        "Later",
        () =>
          zoom(
            about,
            Math.min(low + width / 2, about.steps_done - width),
            Math.min(high + width / 2, about.steps_done),
          ),
        high >= about.steps_done,
      ),
      button("All", () => zoom(about, about.first, about.steps_done), all),
      el("label", { for: "axis" }, "Axis "),
      select,
    ),
    el(
      "p",
      { class: "quiet" },
      "Drag over a curve to zoom; click to open a step. " +
        "Dotted lines are checkpoints, red lines incidents; an arrow leads back to where a " +
        "rollback went.",
      wide
        ? ` Each place of a curve is the mean of ${count(wide)} steps, and the band is their range.`
        : "",
    ),
  );
}

function marks(about, made) {
  const tokens = axis === "tokens" && made.tokens;
  const place = (step) =>
    tokens ? (made.tokens.find((point) => point.last >= step) || { y: NaN }).y : step;
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

function events(about) {
  const rows = [
    ...about.incidents.map((one) => [
      one.step,
      `incident: ${one.rule}, ${one.action}. ${plain(one.why)}`,
    ]),
    ...about.validation.map((one) => [
      one.step,
      `validation: ${decimal(one.bits_per_byte)} bits per byte`,
    ]),
    ...about.checkpoints.map((step) => [step, "checkpoint stored"]),
    ...about.anchors.map((step) => [step, "anchor stored"]),
  ].sort((a, b) => a[0] - b[0]);
  return section(
    "Events",
    table(
      "Incidents, validations, stored states",
      ["step", "event"],
      rows.map(([step, told]) => [stepLink(step), told]),
      [0],
    ),
  );
}
