// Points of the series of a run, from the files data/curves: a page loads those of the level that
// it shows.
"use strict";

const BINS = 512; // Of a file.
const FACTOR = 4;

// Of every series of a run its points in [low, high] steps, of the finest level that has at most so
// many.
async function seriesBetween({ about, place }, low, high, most = 1024) {
  const steps = about.steps_done - about.first;
  if (steps < 1 || low > high) return {};
  let level = 0;
  while (level < about.curves && (high - low) / FACTOR ** level > most) level += 1;
  const span = FACTOR ** level * BINS;
  const last = Math.floor((Math.min(high, about.steps_done) - about.first - 1) / span);
  const first = Math.max(Math.floor((low - about.first - 1) / span), 0);
  const made = {};
  for (let part = first; part <= last; part += 1) {
    const loaded = await value(numbered(`curves/level${level}`, part), place);
    for (const [name, bins] of Object.entries(loaded.series)) {
      (made[name] = made[name] || []).push(...points(loaded, bins, about));
    }
  }
  return made;
}

function points(part, bins, about) {
  return bins.flatMap((bin, number) => {
    const step = part.first + number * part.width;
    const last = Math.min(step + part.width - 1, about.steps_done);
    return bin === null ? [] : [{ step, x: step, last, ...ofBin(bin) }];
  });
}

function ofBin(bin) {
  return Array.isArray(bin) ? { y: bin[0], low: bin[1], high: bin[2] } : { y: bin };
}

// The same over steps, tokens or time, in a range of these. Null: all of the run.
async function seriesOver(run, axis, range) {
  const { first, steps_done: done } = run.about;
  if (axis === "steps") {
    const [low, high] = range || [first, done];
    return seriesBetween(run, Math.max(low, first), Math.min(high, done));
  }
  const all = over(await seriesBetween(run, first, done), axis);
  if (!range) return all;
  const known = all.loss || [];
  const before = known.filter((point) => point.x <= range[0]).pop();
  const behind = known.find((point) => point.x >= range[1]);
  return over(
    await seriesBetween(run, before ? before.step : first, behind ? behind.last : done),
    axis,
  );
}

// Points over another axis, which a series tells by step.
function over(made, axis) {
  const along = new Map((made[axis] || []).map((point) => [point.step, point.y]));
  return Object.fromEntries(
    Object.entries(made).map(([name, own]) => [
      name,
      own
        .filter((point) => along.has(point.step))
        .map((point) => ({ ...point, x: along.get(point.step) })),
    ]),
  );
}

// The losses of steps that rollbacks abandoned, as faint curves in their place.
function abandoned(about, made) {
  return about.rollbacks
    .filter((one) => made[`abandoned ${one.branch}`])
    .map((one) => ({
      name: `abandoned: steps ${count(one.to + 1)} to ${count(one.step)}`,
      points: made[`abandoned ${one.branch}`],
      faint: true,
    }));
}

// The losses by source, under the sources' names.
function bySource(made) {
  return Object.entries(made)
    .filter(([name]) => name.startsWith("loss of "))
    .map(([name, own]) => ({ name: name.slice(8), points: own }));
}

// The curves of a run's validations: over all sources, and of each. width: how many of them a point
// stands for.
async function validated({ about, place }, axis) {
  if (!about.validation) return { all: [], sources: [], width: 1 };
  const made = await value("validation", place);
  const along = { steps: made.step, tokens: made.tokens, time: made.time }[axis];
  const points = (bins) =>
    bins.flatMap((bin, number) => {
      if (bin === null || along[number] === null) return [];
      return [{ step: made.step[number], x: along[number], ...ofBin(bin) }];
    });
  const sources = Object.entries(made.sources).map(([name, bins]) => ({
    name,
    points: points(bins),
  }));
  return { all: points(made.all), sources, width: made.width };
}

// Bits per byte of gzip and xz on the texts of the validation, as levels of a chart, and in words.
async function packers(about) {
  const none = { levels: [], told: null };
  if (!about.data_made || !about.validation || !about.lossless) return none;
  const { bytes: size, of, gzip, xz } = await value("baselines");
  if (!size) return none;
  const named = { gzip, xz };
  const part =
    size === of
      ? `the same ${count(size)} bytes of text`
      : `${count(size)} of the same ${count(of)} bytes of text, an equal share of each source`;
  return {
    levels: Object.entries(named).map(([name, packed]) => ({ name, y: (8 * packed) / size })),
    told: `gzip and xz pack ${part}; their versions differ by up to 2 %.`,
  };
}
