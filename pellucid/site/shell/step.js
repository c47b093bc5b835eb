"use strict";

const COLOURS = 10;
const PRINTED = 16; // Rows, each on a page at most: style.css. Their texts are loaded at once.
const FIRST = 4; // Rows that are drawn before all else, and fill a window.
const NEAR = "1500px"; // Of the window: nearer rows get their texts.

let waiting = new Map(); // Of the rows that wait for their texts what fills each.
const near = new IntersectionObserver(
  (seen) => {
    for (const { isIntersecting, target } of seen) if (isIntersecting) fillRow(target);
  },
  { rootMargin: NEAR },
);

// hash: a step, or with a row of its batch: 300:5.
page(async (about, address) => {
  const [hash, place] = address.split(/:(.*)/s);
  const wanted = place === undefined ? null : whole(place, "row");
  const number = hash === "" ? Math.min(about.first + 1, about.steps_done) : whole(hash, "step");
  if (number < about.first || number > about.steps_done) {
    throw new Nowhere(
      `There is no step ${count(number)}: the run goes from step ` +
        `${count(about.first)} to step ${count(about.steps_done)}.`,
    );
  }
  const [pack] = await Promise.all([
    stepOf(Math.floor(number / about.steps_per_pack), number, about.first),
    about.texts ? dictionary() : null,
  ]);
  const { entries, rows } = pack;
  if (!entries.length) throw new Error(`Step ${number} is not in the record.`);
  document.title = `Step ${number} · ${plain(about.run)}`;
  const begins = number === about.first;
  if (wanted !== null && rows.length && !rows.some(({ row }) => row === wanted)) {
    throw new Nowhere(`There is no row ${count(wanted)} in step ${count(number)}.`);
  }
  // While a run goes on, a step that is read stays as it is; others come behind it.
  const drawn = [number, wanted, entries.length, rows.length].join();
  if (main().dataset.drawn === drawn && document.getElementById("behind")) {
    for (const links of document.querySelectorAll(".neighbours")) {
      links.replaceChildren(...neighbourLinks(about, number));
    }
    return;
  }
  main().dataset.drawn = drawn;
  near.disconnect();
  waiting = new Map();
  const body = begins ? null : batch(about, rows);
  show(
    el("h1", {}, `Step ${count(number)}`),
    neighbours(about, number),
    begins
      ? el("p", {}, "The state that the run begins with. No batch belongs to it.")
      : numbers(entries),
    begins
      ? null
      : el(
          "p",
          { class: "quiet" },
          "Loss is how badly the model predicted the tokens of the batch, in nats per token: " +
            "lower is better.",
        ),
    body,
  );
  const scale = scaleOf(rows);
  const draw = (part) => {
    const articles = part.map((row) => drawnRow(about, pack, row, scale, wanted));
    body?.append(...articles);
    return articles;
  };
  const first = draw(rows.slice(0, wanted === null ? FIRST : rows.length));
  // Texts around the row come first: one that comes later would move it.
  const at = rows.findIndex(({ row }) => row === wanted);
  const soon = (_, other) => other < PRINTED || (at >= 0 && Math.abs(other - at) < PRINTED);
  const filling = Promise.all(first.filter(soon).map(filled));
  filling.catch(() => {}); // It is told below.
  await drawnFirst();
  const all = [...first, ...draw(rows.slice(first.length))];
  main().append(...behind(about, number, entries));
  for (const row of all.filter((...one) => !soon(...one))) near.observe(row);
  await Promise.all([filling, ...all.filter(soon).map(filled)]);
  if (at >= 0) goTo(all[at]);
});

// What stands behind the batch of a step.
function behind(about, number, entries) {
  const begins = number === about.first;
  return [
    el("div", { id: "behind" }, neighbourPlace(about, number, "p")),
    section(
      "Take it out and check it",
      command(
        `pellucid show . step ${number}`,
        ...(begins ? [] : [`pellucid audit . --step ${number}`]),
        `pellucid export . --step ${number} --as hf --to step${number}`,
      ),
    ),
    section("In the ledger", entries.map(drawnEntry)),
    el("p", { class: "controls" }, button("Back to the top", () => goTo(main()))),
  ];
}

function drawnEntry({ body, digest: own }) {
  return el(
    "details",
    {},
    el("summary", {}, `${body.kind}, entry ${count(body.n)}, digest `, digest(own)),
    el("pre", { tabindex: "0" }, el("code", {}, ...visible(JSON.stringify(body, null, 2)))),
  );
}

async function filled(row) {
  const fills = waiting.get(row) || [];
  waiting.delete(row);
  near.unobserve(row);
  const all = document.getElementById("behind"); // Of a part of the rows, others are to come.
  if (!waiting.size && all) document.getElementById("all-texts")?.remove();
  await Promise.all(fills.map((fill) => fill()));
}

// The same of a row that is reached later. An address may have been left meanwhile.
async function fillRow(row) {
  try {
    await filled(row);
  } catch (error) {
    if (row.isConnected) failed(error);
  }
}

async function fillAll() {
  for (const row of [...waiting.keys()]) await fillRow(row);
}

function button(name, act) {
  return el("button", { type: "button", onclick: act }, name);
}

function neighbours(about, number) {
  const field = el("input", {
    type: "number",
    id: "goto",
    min: about.first,
    max: about.steps_done,
    value: number,
    required: true,
  });
  const go = (event) => {
    event.preventDefault();
    location.hash = field.value;
  };
  return el(
    "form",
    { class: "controls", onsubmit: go },
    neighbourPlace(about, number, "span"),
    el("label", { for: "goto" }, "Go to step "),
    field,
    el("button", {}, "Go"),
  );
}

function neighbourPlace(about, number, tag) {
  return el(tag, { class: "controls neighbours" }, neighbourLinks(about, number));
}

function neighbourLinks(about, number) {
  return [
    [about.first, "first"],
    [number - 1, "previous"],
    [number + 1, "next"],
    [about.steps_done, "last"],
  ]
    .filter(([step]) => step >= about.first && step <= about.steps_done && step !== number)
    .map(([step, name]) => link(`#${step}`, name));
}

function numbers(entries) {
  const { body } = entries.find((entry) => entry.body.kind === "step");
  return facts([
    ["Loss", `${decimal(ofBits(body.loss))} nats per token`],
    ["Learning rate", decimal(ofBits(body.lr), 6)],
    ["Norm of the gradient", decimal(ofBits(body.grad_norm))],
    ["Norm of the weights", decimal(ofBits(body.weight_norm))],
    ["Tokens so far", count(body.tokens)],
    ["State after it", digest(body.state)],
    ["Weights after it", digest(body.weights)],
  ]);
}

// The lowest and the highest loss of some rows' segments.
function scaleOf(rows) {
  const losses = rows.flatMap((row) => row.segments.map((segment) => segment.loss));
  const known = losses.filter(Number.isFinite);
  return [Math.min(...known), Math.max(...known)];
}

function batch(about, rows) {
  if (!rows.length) {
    return section(
      "Batch",
      el(
        "p",
        {},
        "The rows of this step are not written yet. They appear with the next stored state.",
      ),
    );
  }
  const scale = scaleOf(rows);
  return section(
    "Batch",
    el(
      "p",
      {},
      `${count(rows.length)} rows. The colour of a text is its mean loss ` +
        `in this step, before the update: from `,
      shade(scale[0], scale),
      " to ",
      shade(scale[1], scale),
      " nats per token, the lowest and the highest of this step. Each token is predicted from " +
        "what stands before it in the row; " +
        "the first token of a row is only read, and is not shown.",
    ),
    scale[0] < scale[1] ? legend(scale) : null,
    el(
      "p",
      { class: "controls" },
      button("Skip the texts", () => goTo(document.getElementById("behind"))),
      about.texts && rows.length > PRINTED
        ? el(
            "span",
            { id: "all-texts", class: "controls" },
            "Texts appear as you scroll. To find a word in all of them: ",
            button("Load all texts", fillAll),
          )
        : null,
    ),
    rows.length > PRINTED
      ? el("p", { class: "printed" }, `Printed are the first ${PRINTED} rows.`)
      : null,
    about.texts
      ? null
      : el(
          "p",
          { class: "quiet" },
          "This site holds no texts. Run pellucid view . in the folder to see them.",
        ),
  );
}

// Every colour with the lowest loss that it stands for.
function legend(scale) {
  const [low, high] = scale;
  const bounds = Array.from({ length: COLOURS }, (_, at) => low + ((high - low) * at) / COLOURS);
  return el(
    "p",
    { id: "colours" },
    "Colours, each from this loss on:",
    bounds.map((loss, at) => [" ", el("span", { class: `shade l${at}` }, decimal(loss, 2))]),
  );
}

function level(loss, [low, high]) {
  if (!Number.isFinite(loss)) return COLOURS - 1;
  return Math.min(Math.floor(((loss - low) / (high - low || 1)) * COLOURS), COLOURS - 1);
}

function shade(loss, scale) {
  return el("span", { class: `shade l${level(loss, scale)}` }, decimal(loss, 3));
}

function drawnRow(about, pack, row, scale, wanted) {
  const fills = [];
  const name = `Row ${count(row.row)}`;
  const drawn = el(
    "article",
    { class: "row" },
    el(
      "h3",
      {},
      row.row === wanted ? el("mark", {}, name) : name,
      el(
        "span",
        { class: "quiet" },
        ` block ${count(row.block)} of `,
        foreign(row.source),
        `, epoch ${count(row.epoch)}, loss ${decimal(meanLoss(row.segments), 2)}`,
      ),
    ),
    row.segments.map((segment) => drawnSegment(about, pack, segment, scale, fills)),
  );
  waiting.set(drawn, fills);
  return drawn;
}

// fills: what puts the texts in their places, once they are wanted.
function drawnSegment(about, pack, { document, begin, end, tokens, loss }, scale, fills) {
  const known = pack.documents.get(document);
  const place = about.texts
    ? el("pre", { class: `text shade l${level(loss, scale)}`, dir: "auto" })
    : null;
  if (place) {
    fills.push(async () => place.replaceChildren(...visible(await text(known, begin, end))));
  }
  return el(
    "div",
    { class: "segment" },
    el(
      "p",
      { class: "head" },
      link(`document.html#${document}:${begin}-${end}`, foreign(known.id)),
      el(
        "span",
        { class: "quiet" },
        ` ${count(tokens)} tokens, `,
        foreign(known.licence),
        ", loss ",
      ),
      shade(loss, scale),
    ),
    place,
  );
}
