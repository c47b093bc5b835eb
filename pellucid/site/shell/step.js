"use strict";

const COLOURS = 10;
const PRINTED = 16; // Rows, each on a page at most: style.css.

page(async (about, hash) => {
  const number = hash === "" ? Math.min(about.first + 1, about.steps_done) : whole(hash, "step");
  if (number < about.first || number > about.steps_done) {
    throw new Nowhere(
      `There is no step ${count(number)}: the run goes from step ` +
        `${count(about.first)} to step ${count(about.steps_done)}.`,
    );
  }
  const [pack] = await Promise.all([
    stepsPack(Math.floor((number - about.first) / about.steps_per_pack)),
    about.texts ? dictionary() : null,
  ]);
  const entries = pack.entries.filter(({ body }) => (body.step ?? about.first) === number);
  if (!entries.length) throw new Error(`Step ${number} is not in the record.`);
  document.title = `Step ${number} · ${plain(about.run)}`;
  const begins = number === about.first;
  const fills = [];
  show(
    el("h1", {}, `Step ${count(number)}`),
    neighbours(about, number),
    begins
      ? el("p", {}, "The state that the run begins with. No batch belongs to it.")
      : numbers(entries),
    begins ? null : batch(about, pack, number, fills),
    el("div", { id: "behind" }, neighbourLinks(about, number, "p")),
    section(
      "Take it out and check it",
      command(
        `pellucid show . step ${number}`,
        ...(begins ? [] : [`pellucid audit . --step ${number}`]),
        `pellucid export . --step ${number} --as hf --to step${number}`,
      ),
    ),
    section(
      "In the ledger",
      entries.map((entry) =>
        el(
          "details",
          {},
          el(
            "summary",
            {},
            `${entry.body.kind}, entry ${count(entry.body.n)}, digest `,
            digest(entry.digest),
          ),
          el(
            "pre",
            { tabindex: "0" },
            el("code", {}, ...visible(JSON.stringify(entry.body, null, 2))),
          ),
        ),
      ),
    ),
  );
  main().append(
    el(
      "p",
      { class: "controls" },
      button("Back to the top", () => goTo(main())),
    ),
  );
  await Promise.all(fills.map((fill) => fill()));
});

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
  });
  const go = (event) => {
    event.preventDefault();
    location.hash = field.value;
  };
  return el(
    "form",
    { class: "controls", onsubmit: go },
    neighbourLinks(about, number, "span"),
    el("label", { for: "goto" }, "Go to step "),
    field,
    el("button", {}, "Go"),
  );
}

function neighbourLinks(about, number, tag) {
  const to = (step, name) =>
    step < about.first || step > about.steps_done || step === number
      ? null
      : link(`#${step}`, name);
  return el(
    tag,
    { class: "controls" },
    to(about.first, "first"),
    to(number - 1, "previous"),
    to(number + 1, "next"),
    to(about.steps_done, "last"),
  );
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

function batch(about, pack, number, fills) {
  const rows = pack.rows.filter((row) => row.step === number);
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
  const losses = rows.flatMap((row) => row.segments.map((segment) => segment.loss));
  const known = losses.filter(Number.isFinite);
  const scale = [Math.min(...known), Math.max(...known)];
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
      " nats per token. Each token is predicted from what stands before it in the row; " +
        "the first token of a row is only read, and is not shown.",
    ),
    el(
      "p",
      { class: "controls" },
      button("Skip the texts", () => goTo(document.getElementById("behind"))),
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
    rows.map((row) => drawnRow(about, pack, row, scale, fills)),
  );
}

function level(loss, [low, high]) {
  if (!Number.isFinite(loss)) return COLOURS - 1;
  return Math.min(Math.floor(((loss - low) / (high - low || 1)) * COLOURS), COLOURS - 1);
}

function shade(loss, scale) {
  return el("span", { class: `shade l${level(loss, scale)}` }, decimal(loss, 3));
}

function drawnRow(about, pack, row, scale, fills) {
  return el(
    "article",
    { class: "row" },
    el(
      "h3",
      {},
      `Row ${count(row.row)}`,
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
}

// fills: what puts the texts in their places, once the page is drawn.
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
