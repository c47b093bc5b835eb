"use strict";

const AT_ONCE = 20000; // Characters shown at first, and by each further click.
const TIMES = 100;

page(async (about, hash) => {
  if (!about.data_made) throw new Error("The documents are not prepared yet.");
  const listed = /^(?:from-(\d+))?$/.exec(hash);
  if (listed) return list(about, Number(listed[1] || 0));
  const match = /^(\d+)(?::(\d+)-(\d+))?$/.exec(hash);
  const number = match ? Number(match[1]) : NaN;
  if (!(number < about.documents)) {
    throw new Error(`There is no document ${hash}: documents are numbered from 0 to ${count(about.documents - 1)}.`);
  }
  const pack = await value(numbered("documents", Math.floor(number / about.documents_per_pack)));
  const own = pack.documents[number - pack.first];
  document.title = `${own.id} · ${about.run}`;
  const span = match[2] ? [Number(match[2]), Number(match[3])] : null;
  show(
    el("h1", { class: "long" }, foreign(own.id)),
    el("p", { class: "controls" }, link(`#from-${number}`, "all documents"), number > 0 ? link(`document.html#${number - 1}`, "previous") : null,
      number + 1 < about.documents ? link(`document.html#${number + 1}`, "next") : null),
    facts([
      ["Source", foreign(own.source)], ["Split", own.split], ["Licence", foreign(own.licence)],
      ["Origin", foreign(own.origin)], ["Date", own.date ? foreign(own.date) : null],
      ["Size", `${count(own.characters)} characters, ${bytes(own.bytes)}, ${count(own.tokens)} tokens`],
      ["SHA-256", digest(own.sha256)],
    ]),
    seen(about, own),
    about.texts ? await texts(own, span) : section("Text", el("p", {}, "This site holds no texts. Run pellucid view . in the folder, or read data/documents.")),
    section("Ask for it", command(`pellucid show . document ${quoted(own.id)}`)),
  );
  const marked = document.querySelector("mark");
  if (marked) marked.scrollIntoView({ block: "center" });
  return null;
});

// The documents from one on, as many as lie in its pack.
async function list(about, from) {
  const size = about.documents_per_pack;
  if (from >= about.documents) throw new Error(`There is no document ${from}.`);
  const pack = await value(numbered("documents", Math.floor(from / size)));
  const last = pack.first + pack.documents.length - 1;
  const go = (event) => { event.preventDefault(); location.hash = `from-${event.target.elements.number.value}`; };
  show(
    el("h1", {}, "Documents"),
    el("p", {}, `Documents ${count(pack.first)} to ${count(last)} of ${count(about.documents)}, in the order of the sources. To find one by its words, use `, link("search.html", "Search"), "."),
    el("form", { class: "controls", onsubmit: go },
      pack.first > 0 ? link(`#from-${pack.first - size}`, "previous") : null,
      last + 1 < about.documents ? link(`#from-${last + 1}`, "next") : null,
      el("label", { for: "number" }, "From number "),
      el("input", { type: "number", id: "number", name: "number", min: 0, max: about.documents - 1, value: pack.first }),
      el("button", {}, "Go")),
    table("Documents", ["number", "document", "source", "split", "tokens", "times seen", "first seen"],
      pack.documents.map((own, index) => {
        const times = own.times.filter(([branch]) => branch === null);
        return [count(pack.first + index), link(`#${pack.first + index}`, foreign(own.id)), foreign(own.source), own.split,
          count(own.tokens), count(times.length), times.length ? stepLink(times[0][1]) : "–"];
      }), [0, 4, 5]),
  );
  return null;
}

// An argument for a shell, as one line of letters that it shows.
function quoted(id) {
  return `'${id.replaceAll("'", "'\\''")}'`;
}

// Every step that trained on something of it, with the mean loss of what it saw.
function seen(about, own) {
  if (own.split !== "train") {
    return section("When it was seen", el("p", {}, "Never in training: the document belongs to validation."));
  }
  const kept = own.times.filter(([branch]) => branch === null);
  if (!kept.length) return section("When it was seen", el("p", {}, "No recorded step trained on it."));
  const steps = new Map();
  for (const [, step, , , , tokens, sum] of kept) {
    const before = steps.get(step) || [0, 0];
    steps.set(step, [before[0] + tokens, before[1] + (sum ?? NaN)]);
  }
  const points = [...steps].map(([step, [tokens, sum]]) => ({ step, x: step, y: sum / tokens }))
    .filter((point) => Number.isFinite(point.y));
  const abandoned = own.times.length - kept.length;
  return section("When it was seen",
    el("p", {}, `${count(steps.size)} ${steps.size === 1 ? "step" : "steps"} trained on something of it`,
      abandoned ? `; ${count(abandoned)} more times in steps that a rollback abandoned.` : "."),
    chart({ title: "Loss of what each step saw of it", unit: "nats per token", axis: "steps",
      range: [Math.max(about.first, 1), Math.max(about.steps_done, 2)],
      curves: [{ name: "loss", points, dots: true }],
      pick: (point) => { location.href = `step.html#${point.step}`; } }),
    times(own, kept));
}

function times(own, kept) {
  const row = ([, step, number, begin, end, tokens, sum]) => [stepLink(step), count(number),
    link(`#${location.hash.slice(1).split(":")[0] || 0}:${begin}-${end}`, `${count(begin)} to ${count(end)}`), count(tokens), decimal(sum === null ? null : sum / tokens, 3)];
  const heads = ["step", "row", "characters", "tokens", "loss"];
  const drawn = (most) => table("Every time", heads, kept.slice(0, most).map(row), [1, 3, 4]);
  const box = el("div", {}, drawn(TIMES));
  if (kept.length > TIMES) {
    box.append(el("button", { type: "button", onclick: () => box.replaceChildren(drawn(kept.length)) },
      `Show all ${count(kept.length)} times`));
  }
  return box;
}

async function texts(own, span) {
  const body = el("pre", { class: "text", dir: "auto", tabindex: "0" });
  const more = el("button", { type: "button" });
  let end = 0;
  const grow = async (to) => {
    const from = end;
    end = Math.min(to, own.characters);
    if (span && span[0] >= from && span[1] <= end) {
      body.append(...visible(await text(own, from, span[0])),
        el("mark", {}, ...visible(await text(own, span[0], span[1]))),
        ...visible(await text(own, span[1], end)));
    } else body.append(...visible(await text(own, from, end)));
    more.hidden = end >= own.characters;
    more.textContent = `Show more: ${count(own.characters - end)} characters follow`;
  };
  more.addEventListener("click", () => grow(end + AT_ONCE));
  await grow(Math.max(AT_ONCE, span ? span[1] + 2000 : 0));
  return section("Text", body, more);
}
