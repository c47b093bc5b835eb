// Curves, as SVG. A curve is a list of points {x, y} or {x, y, low, high}: the mean of a bin, its
// least and its greatest value.
"use strict";

// Of a picture, in the units of its text.
const SIZE = { height: 240, left: 56, right: 12, top: 10, bottom: 26 };
const WIDTHS = [300, 960]; // The least and the greatest: a narrow window has a narrower picture.

// Round numbers from low to high, at most about so many.
function ticks(low, high, wanted) {
  const span = high - low || 1;
  const rough = span / wanted;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step =
    [1, 2, 5, 10].map((factor) => factor * unit).find((each) => span / each <= wanted) || span;
  const first = Math.ceil(low / step);
  return Array.from({ length: wanted + 2 }, (_, index) =>
    Number(((first + index) * step).toPrecision(12)),
  ).filter((tick, index, all) => tick <= high + step * 1e-9 && tick !== all[index - 1]);
}

function short(number) {
  const size = Math.abs(number);
  if (size !== 0 && size < 1e-3) return number.toExponential(1);
  return Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(
    number,
  );
}

function extent(curves, range, levels) {
  let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const point of curves.flatMap((curve) => curve.points)) {
    left = Math.min(left, point.x);
    right = Math.max(right, point.x);
    low = Math.min(low, point.low ?? point.y);
    high = Math.max(high, point.high ?? point.y);
  }
  for (const level of levels) [low, high] = [Math.min(low, level.y), Math.max(high, level.y)];
  if (low === high)
    [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  return { left: range ? range[0] : left, right: range ? range[1] : right, low, high };
}

// One picture of curves over the same axis.
// about: {title, unit, axis, curves: [{name, points, number, dots, dotted, faint, other}], levels:
// [{name, y}], marks: [{x, name, kind, step, to}], told, range, pick, zoom}. axis: steps, tokens or
// time; number: of a curve's look, by default its place; dots: points without a line; dotted: with
// one; other: of another run, whose steps no page here shows. pick(point) is called for a click or
// Enter; zoom(low, high) for a part that is dragged. told: a sentence below the picture.
function chart(about) {
  const [begin, end] = about.range || [-Infinity, Infinity];
  const inside = (points) => points.filter((point) => point.x >= begin && point.x <= end);
  // A curve keeps the colour of its number when others have no points in the range.
  const curves = about.curves
    .map((curve, number) => ({ number, ...curve, points: inside(curve.points) }))
    .filter((curve) => curve.points.length);
  if (!curves.length)
    return el("p", { class: "quiet" }, `${about.title}: nothing is recorded here.`);
  const levels = about.levels || [];
  const at = extent(curves, about.range, levels);
  const width = Math.min(Math.max(main().clientWidth - 32, WIDTHS[0]), WIDTHS[1]);
  const { height, left, right, top, bottom } = SIZE;
  const x = (given) =>
    left + ((given - at.left) / (at.right - at.left || 1)) * (width - left - right);
  const y = (given) =>
    height - bottom - ((given - at.low) / (at.high - at.low)) * (height - top - bottom);
  const drawing = el("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    class: "chart",
    "aria-label": `${about.title}: ${spoken(curves, levels, at, about)}`,
  });
  for (const tick of ticks(at.low, at.high, 5)) {
    drawing.append(
      el("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
      el("text", { class: "tick", x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, short(tick)),
    );
  }
  const [unit, name] = unitOf(about.axis, at.right);
  for (const tick of ticks(at.left / unit, at.right / unit, width < 500 ? 5 : 8)) {
    drawing.append(
      el(
        "text",
        { class: "tick", x: x(tick * unit), y: height - 8, "text-anchor": "middle" },
        `${short(tick)}${name}`,
      ),
    );
  }
  for (const mark of inside(about.marks || [])) {
    drawing.append(drawnMark(mark, x(mark.x), Number.isFinite(mark.to) ? x(mark.to) : null));
  }
  drawing.append(
    ...levels.map((level, number) => drawnLevel(level, number, width, y(level.y))),
    ...curves.map((curve) => line(curve, x, y)),
  );
  const figure = el(
    "figure",
    { class: "figure" },
    el(
      "figcaption",
      {},
      about.title,
      el(
        "span",
        { class: "quiet" },
        ` ${about.unit ? `${about.unit}, ` : ""}by ${about.axis.replace(/s$/, "")}`,
      ),
      legend(curves),
    ),
    drawing,
  );
  const pick = curves[0].other ? null : about.pick;
  return withCursor(figure, drawing, { ...about, pick, curves, at, width, x });
}

// What an axis that ends there counts in, and how its numbers end.
function unitOf(axis, end) {
  if (axis !== "time") return [1, ""];
  return end < 300 ? [1, " s"] : end < 18000 ? [60, " min"] : [3600, " h"];
}

// A line across the picture, with an arrow back to where a rollback went.
function drawnMark(mark, x, to) {
  const { top, height, bottom, left } = SIZE;
  const end = Math.max(to ?? x, left);
  return el(
    "g",
    { class: `mark ${mark.kind}` },
    el("title", {}, mark.name),
    el("line", { x1: x, x2: x, y1: top, y2: height - bottom }),
    to === null
      ? null
      : [
          el("line", { x1: x, x2: end, y1: top, y2: top }),
          el("polygon", {
            points: `${end - 1},${top} ${end + 7},${top - 4} ${end + 7},${top + 4}`,
          }),
        ],
  );
}

// The class of a curve and of its key: a colour and a dash of its own.
function lookOf(curve) {
  return curve.faint ? "faint" : `c${curve.number % 8}`;
}

function line(curve, x, y) {
  const { points } = curve;
  const group = el("g", { class: `curve ${lookOf(curve)}` });
  if (points.some((point) => point.low !== undefined)) {
    const above = points.map((point) => `${x(point.x)},${y(point.high ?? point.y)}`);
    const below = points.map((point) => `${x(point.x)},${y(point.low ?? point.y)}`).reverse();
    group.append(el("polygon", { class: "band", points: [...above, ...below].join(" ") }));
  }
  if (!curve.dots && points.length > 1) {
    const path = points.map(
      (point, index) => `${index ? "L" : "M"}${x(point.x).toFixed(2)} ${y(point.y).toFixed(2)}`,
    );
    group.append(el("path", { class: "line", d: path.join("") }));
  }
  if (curve.dots || curve.dotted || points.length === 1) {
    for (const point of points)
      group.append(el("circle", { class: "dot", cx: x(point.x), cy: y(point.y), r: 3 }));
  }
  return group;
}

// A number that is the same all over, with its name: names have room side by side.
function drawnLevel(level, number, width, y) {
  return el(
    "g",
    { class: "level" },
    el("line", { x1: SIZE.left, x2: width - SIZE.right, y1: y, y2: y }),
    el(
      "text",
      { class: "tick", x: SIZE.left + 4 + 84 * number, y: y < SIZE.top + 8 ? y + 12 : y - 4 },
      `${level.name} ${decimal(level.y, 3)}`,
    ),
  );
}

function legend(curves) {
  if (curves.length < 2) return null;
  return el(
    "span",
    { class: "legend" },
    curves.map((curve) =>
      el("span", { class: `key ${lookOf(curve)}` }, swatch(), foreign(curve.name)),
    ),
  );
}

function swatch() {
  return el(
    "svg",
    { class: "chart swatch", viewBox: "0 0 32 8", "aria-hidden": "true" },
    el("line", { class: "line", x1: 0, x2: 32, y1: 4, y2: 4 }),
  );
}

// What a picture shows, for who cannot see it.
function spoken(curves, levels, at, about) {
  const told = curves.map((curve) => {
    const [first, last] = [curve.points[0], curve.points[curve.points.length - 1]];
    return `${plain(curve.name)} from ${decimal(first.y)} to ${decimal(last.y)}`;
  });
  told.push(...levels.map((level) => `${level.name} ${decimal(level.y)}`));
  const axis = about.axis === "time" ? "seconds" : about.axis;
  const [left, right] = [at.left, at.right].map((place) => count(Math.round(place)));
  return `${told.join("; ")}; ${axis} ${left} to ${right}`;
}

// The picture with a cursor: pointer or arrow keys move it along the first curve, the values are
// told below, Enter or a click opens the step, and dragging zooms.
function withCursor(figure, drawing, about) {
  const { points } = about.curves[0];
  const told = el(
    "output",
    { class: "told quiet" },
    about.pick ? "Point at the curve, or use the arrow keys; Enter opens the step." : "",
  );
  const cursor = el("line", {
    class: "cursor",
    y1: SIZE.top,
    y2: SIZE.height - SIZE.bottom,
    visibility: "hidden",
  });
  const part = el("rect", {
    class: "part",
    y: SIZE.top,
    height: SIZE.height - SIZE.top - SIZE.bottom,
    visibility: "hidden",
  });
  let index = -1;
  let begun = null;
  drawing.append(part, cursor);
  const under = (event) => {
    const box = drawing.getBoundingClientRect();
    const inner = ((event.clientX - box.left) / box.width) * about.width;
    const share = (inner - SIZE.left) / (about.width - SIZE.left - SIZE.right);
    return about.at.left + Math.min(Math.max(share, 0), 1) * (about.at.right - about.at.left);
  };
  const move = (to) => {
    index = Math.min(Math.max(to, 0), points.length - 1);
    const point = points[index];
    cursor.setAttribute("x1", about.x(point.x));
    cursor.setAttribute("x2", about.x(point.x));
    cursor.setAttribute("visibility", "visible");
    told.textContent = reading(about, point);
  };
  const nearest = (wanted) =>
    points.reduce(
      (best, point, number) =>
        Math.abs(point.x - wanted) < Math.abs(points[best].x - wanted) ? number : best,
      0,
    );
  drawing.addEventListener("pointermove", (event) => {
    const here = under(event);
    move(nearest(here));
    if (begun === null || !about.zoom) return;
    const [low, high] = [Math.min(begun, here), Math.max(begun, here)];
    part.setAttribute("x", about.x(low));
    part.setAttribute("width", about.x(high) - about.x(low));
    part.setAttribute("visibility", "visible");
  });
  drawing.addEventListener("pointerdown", (event) => {
    begun = under(event);
  });
  drawing.addEventListener("pointerup", (event) => {
    const here = under(event);
    const wide = begun !== null && Math.abs(here - begun) > (about.at.right - about.at.left) / 50;
    if (wide && about.zoom) about.zoom(Math.min(begun, here), Math.max(begun, here));
    else if (about.pick) about.pick(points[nearest(here)]);
    begun = null;
    part.setAttribute("visibility", "hidden");
  });
  drawing.addEventListener("pointerleave", () => {
    begun = null;
    part.setAttribute("visibility", "hidden");
  });
  if (about.pick) {
    drawing.setAttribute("tabindex", "0");
    drawing.setAttribute("role", "application");
    drawing.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
      if (by) move(index < 0 ? 0 : index + by);
      else if (event.key === "Home") move(0);
      else if (event.key === "End") move(points.length - 1);
      else if (event.key === "Enter" && index >= 0) about.pick(points[index]);
      else return;
      event.preventDefault();
    });
    figure.append(told);
  }
  if (about.told) figure.append(el("p", { class: "quiet" }, about.told));
  return figure;
}

// Of points that reach as far the nearest to a place.
function nearestOf(points, x) {
  if (x < points[0].x || x > points[points.length - 1].x) return null;
  return points.reduce((best, point) =>
    Math.abs(point.x - x) < Math.abs(best.x - x) ? point : best,
  );
}

// The values of all curves at a point of the first. Another run has its steps elsewhere.
function reading(about, point) {
  const told = about.curves.map((curve) => {
    const near = curve.other
      ? nearestOf(curve.points, point.x)
      : curve.points.find((one) => one.x === point.x);
    if (!near) return null;
    const spread = near.low === undefined ? "" : ` (${decimal(near.low)} to ${decimal(near.high)})`;
    const place = near.step === point.step ? "" : ` at step ${count(near.step)}`;
    return `${plain(curve.name)} ${decimal(near.y)}${spread}${place}`;
  });
  const place =
    point.last > point.step
      ? `steps ${count(point.step)} to ${count(point.last)}`
      : `step ${count(point.step ?? point.x)}`;
  const last = point.last ?? point.step;
  const marks = (about.marks || []).filter((mark) => mark.step >= point.step && mark.step <= last);
  told.push(...marks.map((mark) => mark.name));
  return `${place}: ${told.filter(Boolean).join(", ")}`;
}

// Bars for counts, as rows of a table that can be read without the picture.
function bars(caption, head, rows) {
  const most = Math.max(...rows.map((row) => row[1]), 1);
  return table(
    caption,
    [head, "documents", "share"],
    rows.map(([name, number]) => [
      name,
      count(number),
      el(
        "svg",
        { class: "bar", viewBox: "0 0 100 8", "aria-hidden": "true", preserveAspectRatio: "none" },
        el("rect", { width: (100 * number) / most, height: 8 }),
      ),
    ]),
    [1],
  );
}
