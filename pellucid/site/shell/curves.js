// Points of the series of a run, from the files data/curves: a page loads those of the level that
// it shows.
"use strict";

const BINS = 512; // Of a file.
const FACTOR = 4;

// Of every series its points in [low, high] steps, of the finest level that has at most so many.
async function seriesBetween(about, low, high, most = 1024) {
  const steps = about.steps_done - about.first;
  if (steps < 1) return {};
  let level = 0;
  while (level < about.curves && (high - low) / FACTOR ** level > most) level += 1;
  const span = FACTOR ** level * BINS;
  const last = Math.floor((Math.min(high, about.steps_done) - about.first - 1) / span);
  const first = Math.max(Math.floor((low - about.first - 1) / span), 0);
  const made = {};
  for (let part = first; part <= last; part += 1) {
    const loaded = await value(numbered(`curves/level${level}`, part));
    for (const [name, bins] of Object.entries(loaded.series)) {
      (made[name] = made[name] || []).push(...points(loaded, bins, about));
    }
  }
  return made;
}

function points(part, bins, about) {
  return bins.flatMap((bin, number) => {
    if (bin === null) return [];
    const step = part.first + number * part.width;
    const place = { step, x: step, last: Math.min(step + part.width - 1, about.steps_done) };
    return [
      Array.isArray(bin)
        ? { ...place, y: bin[0], low: bin[1], high: bin[2] }
        : { ...place, y: bin },
    ];
  });
}

// The same points over another axis: tokens, which a series tells by step.
function over(made, axis) {
  if (axis === "steps" || !made.tokens) return made;
  const tokens = new Map(made.tokens.map((point) => [point.step, point.y]));
  return Object.fromEntries(
    Object.entries(made).map(([name, own]) => [
      name,
      own
        .filter((point) => tokens.has(point.step))
        .map((point) => ({ ...point, x: tokens.get(point.step) })),
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

// A number of each validation, where there is one. made: the series, for an axis of tokens.
function validations(about, made, numberOf) {
  const tokens =
    made && made.tokens ? new Map(made.tokens.map((point) => [point.step, point.y])) : null;
  return about.validation
    .map((one) => ({
      step: one.step,
      x: tokens ? (tokens.get(one.step) ?? (one.step === about.first ? 0 : NaN)) : one.step,
      y: numberOf(one),
    }))
    .filter((point) => Number.isFinite(point.x) && Number.isFinite(point.y))
    .sort((a, b) => a.x - b.x);
}

// Bits per byte of gzip and xz on the texts of the validation, as levels of a chart, and in words.
async function packers(about) {
  const none = { levels: [], told: null };
  if (!about.data_made || !about.validation.length || !about.lossless) return none;
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
