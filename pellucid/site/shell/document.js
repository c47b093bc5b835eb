"use strict";

const AT_ONCE = 20000; // Characters shown at first, and by each further click.
const TIMES = 100;

page(async (about, hash) => {
  if (!about.data_made) throw new Early("The documents are not prepared yet.");
  const listed = /^(?:from-(\d{1,15}))?$/.exec(hash);
  if (listed) return list(about, Number(listed[1] || 0));
  const match = /^(\d{1,15})(?::(\d{1,15})-(\d{1,15}))?$/.exec(hash);
  const number = match ? Number(match[1]) : NaN;
  if (!(number < about.documents)) {
    throw new Nowhere(
      `There is no document ${plain(hash.slice(0, 80))}: documents are numbered ` +
        `from 0 to ${count(about.documents - 1)}.`,
    );
  }
  const [pack] = await Promise.all([
    documentsPack(Math.floor(number / about.documents_per_pack)),
    about.texts ? dictionary() : null,
  ]);
  const own = pack.document(number - pack.first);
  document.title = `${plain(own.id)} · ${plain(about.run)}`;
  const span = match[2] ? [Number(match[2]), Number(match[3])] : null;
  if (span && !(span[0] <= span[1] && span[1] <= own.characters)) {
    throw new Nowhere(`This document has ${count(own.characters)} characters.`);
  }
  const fills = [];
  show(
    el("h1", { class: "long" }, foreign(own.id)),
    el(
      "p",
      { class: "controls" },
      link(`#from-${number}`, "all documents"),
      number > 0 ? link(`document.html#${number - 1}`, "previous") : null,
      number + 1 < about.documents ? link(`document.html#${number + 1}`, "next") : null,
    ),
    facts([
      ["Source", foreign(own.source)],
      ["Split", own.split],
      ["Licence", foreign(own.licence)],
      ["Origin", foreign(own.origin)],
      ["Date", own.date ? foreign(own.date) : null],
      [
        "Size",
        `${count(own.characters)} characters, ${bytes(own.bytes)}, ${count(own.tokens)} tokens`,
      ],
      [own.sha256.length < 64 ? "SHA-256 begins" : "SHA-256", digest(own.sha256)],
    ]),
  );
  await drawnFirst();
  main().append(
    seen(about, own),
    about.texts
      ? texts(own, span, fills)
      : section(
          "Text",
          el(
            "p",
            {},
            "This site holds no texts. Run pellucid view . in the folder, or read data/documents.",
          ),
        ),
    shellWord(own.id)
      ? section("Ask for it", command(`pellucid show . document ${shellWord(own.id)}`))
      : "",
  );
  await Promise.all(fills.map((fill) => fill()));
  const marked = document.querySelector("mark");
  if (marked) marked.scrollIntoView({ block: "center" });
  return null;
});

// The documents from one on, as many as lie in its pack.
async function list(about, from) {
  const size = about.documents_per_pack;
  if (from >= about.documents) throw new Nowhere(`There is no document ${count(from)}.`);
  const pack = await documentsPack(Math.floor(from / size));
  const last = pack.first + pack.count - 1;
  const go = (event) => {
    event.preventDefault();
    location.hash = `from-${event.target.elements.number.value}`;
  };
  show(
    el("h1", {}, "Documents"),
    el(
      "p",
      {},
      `Documents ${count(pack.first)} to ${count(last)} of ${count(about.documents)}, ` +
        "in the order of the sources. " +
        `To find one by its words, use `,
      link("search.html", "Search"),
      ".",
    ),
    el(
      "form",
      { class: "controls", onsubmit: go },
      pack.first > 0 ? link(`#from-${pack.first - size}`, "previous") : null,
      last + 1 < about.documents ? link(`#from-${last + 1}`, "next") : null,
      el("label", { for: "number" }, "From number "),
      el("input", {
        type: "number",
        id: "number",
        name: "number",
        min: 0,
        max: about.documents - 1,
        value: pack.first,
        required: true,
      }),
      el("button", {}, "Go"),
    ),
    table(
      "Documents",
      ["number", "document", "source", "split", "tokens", "steps that saw it", "mean loss"],
      Array.from({ length: pack.count }, (_, index) => {
        const own = pack.document(index);
        const kept = own.times.filter((time) => time.branch === 0);
        const steps = new Set(kept.map((time) => time.step)).size;
        return [
          count(pack.first + index),
          link(`#${pack.first + index}`, foreign(own.id)),
          foreign(own.source),
          own.split,
          count(own.tokens),
          count(steps),
          decimal(meanLoss(kept), 2),
        ];
      }),
      [0, 4, 5, 6],
    ),
  );
  return null;
}

// Every step that trained on something of it, with the mean loss of what it saw.
function seen(about, own) {
  if (own.split !== "train") {
    return section(
      "When it was seen",
      el("p", {}, "Never in training: the document belongs to validation."),
    );
  }
  const kept = own.times.filter((time) => time.branch === 0);
  if (!kept.length)
    return section("When it was seen", el("p", {}, "No recorded step trained on it."));
  const steps = new Map();
  for (const time of kept) steps.set(time.step, [...(steps.get(time.step) || []), time]);
  const points = [...steps]
    .map(([step, own]) => ({ step, x: step, y: meanLoss(own) }))
    .filter((point) => Number.isFinite(point.y));
  const abandoned = own.times.length - kept.length;
  return section(
    "When it was seen",
    el(
      "p",
      {},
      `${counted(steps.size, "step")} trained on something of it, ` +
        `in ${counted(kept.length, "part of a row", "parts of rows")}`,
      abandoned ? `; ${count(abandoned)} more times in steps that a rollback abandoned.` : ".",
    ),
    chart({
      title: "Loss of what each step saw of it",
      unit: "nats per token",
      axis: "steps",
      range: [Math.max(about.first, 1), Math.max(about.steps_done, 2)],
      curves: [{ name: "loss", points, dots: true }],
      pick: (point) => {
        location.href = `step.html#${point.step}`;
      },
    }),
    times(own, kept),
  );
}

function times(own, kept) {
  const line = ({ step, row, begin, end, tokens, loss }) => [
    rowLink(step, row, `step ${count(step)}`),
    count(row),
    link(
      `#${location.hash.slice(1).split(":")[0] || 0}:${begin}-${end}`,
      `${count(begin)} to ${count(end)}`,
    ),
    count(tokens),
    decimal(loss, 3),
  ];
  const heads = ["step", "row", "characters", "tokens", "loss"];
  return shortened(kept.length, TIMES, "times", (most) =>
    table("Every time", heads, kept.slice(0, most).map(line), [1, 3, 4]),
  );
}

// The text around a span, or from its beginning on; more of it by the buttons before and behind.
function texts(own, span, fills) {
  let [from, to] = span
    ? [Math.max(span[0] - AT_ONCE / 10, 0), Math.min(span[1] + AT_ONCE, own.characters)]
    : [0, Math.min(AT_ONCE, own.characters)];
  const body = el("pre", { class: "text", dir: "auto" });
  const button = (grow) =>
    el("button", {
      type: "button",
      onclick: async () => {
        grow();
        await fill();
      },
    });
  const before = button(() => {
    from = Math.max(from - AT_ONCE, 0);
  });
  const behind = button(() => {
    to = Math.min(to + AT_ONCE, own.characters);
  });
  const fill = async () => {
    const [begin, end] = span || [from, from];
    const letters = Array.from(await text(own, from, to));
    const part = (first, last) => visible(letters.slice(first - from, last - from).join(""));
    body.replaceChildren(
      ...part(from, begin),
      ...(span ? [el("mark", {}, ...part(begin, end))] : []),
      ...part(end, to),
    );
    [before.hidden, behind.hidden] = [from === 0, to === own.characters];
    before.textContent = `Show more: ${count(from)} characters stand before`;
    behind.textContent = `Show more: ${count(own.characters - to)} characters follow`;
  };
  fills.push(fill);
  return section("Text", before, body, behind);
}
