"use strict";

const LONGEST = 1000; // Characters of a text that is asked for.
const SHOWN = 10; // Places that are told at once.
const STEPS = 20; // Rows of steps, of a place.

const search = { reader: null, finder: null, busy: false, mark: "", can: false, drawn: "" };

// A search that takes long ends where another text is asked for, before that one begins.
addEventListener("hashchange", () => {
  if (!search.busy) return;
  search.reader.stop();
  search.finder = null;
});

page(async (about, wanted) => {
  const can = about.stages.index && location.protocol.startsWith("http");
  const same = document.getElementById("told") && search.can === can;
  if (same && search.drawn === wanted) return; // While a run goes on, what is typed stays.
  if (!same) drawForm(can);
  [search.can, search.drawn] = [can, wanted];
  if (!can) {
    const why = about.stages.index ? elsewhere(wanted) : noIndex();
    document.getElementById("told").replaceChildren(why);
    return;
  }
  const field = document.getElementById("wanted");
  if (wanted || !field.value) field.value = wanted;
  await answer(about, wanted);
  field.focus();
});

function drawForm(can) {
  const field = el("textarea", {
    id: "wanted",
    rows: 2,
    maxlength: LONGEST,
    autocomplete: "off",
    "aria-describedby": "keys",
    onkeydown: (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      field.form.requestSubmit();
    },
  });
  const ask = (event) => {
    event.preventDefault();
    location.hash = encodeURIComponent(field.value.toWellFormed());
  };
  show(
    el("h1", {}, "Search"),
    el("p", {}, "Which training texts contain a text, letter by letter, and which steps saw it."),
    can
      ? el(
          "form",
          { class: "controls", onsubmit: ask },
          el("label", { for: "wanted" }, "Text "),
          field,
          el("button", {}, "Search"),
          el(
            "span",
            { id: "keys", class: "quiet" },
            "Enter searches, Shift+Enter breaks the line.",
          ),
        )
      : null,
    el("div", { id: "told", role: "status", "aria-live": "polite" }),
    el("div", { id: "hits" }),
    el("p", { id: "cost", class: "quiet" }),
  );
}

function noIndex() {
  return el(
    "p",
    {},
    "This run has no index of its texts. Make it with: pellucid run . --set placement.trace=true",
  );
}

// Of a site that was opened from a folder, where browsers forbid reading files.
function elsewhere(wanted) {
  return el(
    "div",
    {},
    el(
      "p",
      {},
      "From a folder, a browser cannot read the index. Search from a web server, or with " +
        "Pellucid in the folder above this site, or with the address of the release:",
    ),
    commands(wanted),
  );
}

function commands(wanted) {
  const word = wanted && shellWord(wanted);
  return command("pellucid view .", `pellucid where . -- ${word || "'some text'"}`);
}

async function answer(about, wanted) {
  const [told, hits, cost] = ["told", "hits", "cost"].map((id) => document.getElementById(id));
  [told, hits, cost].forEach((part) => part.replaceChildren());
  if (!wanted) return;
  told.append(el("p", { class: "quiet" }, "Searching …"));
  await reading(wanted, async () => {
    const found = await foundOf(about, wanted);
    const first = await found.hits.next(SHOWN);
    told.replaceChildren(summary(found));
    hits.append(...drawnAll(first), more(found, wanted, first.length));
  });
}

// Read something of the index, and tell what it took, or why it could not be read.
async function reading(wanted, read) {
  const [told, hits, cost] = ["told", "hits", "cost"].map((id) => document.getElementById(id));
  search.busy = true;
  try {
    await read();
    const { requests, bytes: size } = search.reader;
    cost.replaceChildren(`${counted(requests, "request")}, ${bytes(size)}`);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Unread)) throw error;
    told.replaceChildren(el("p", { role: "alert" }, plain(error.message)));
    hits.replaceChildren(el("p", {}, "Search with Pellucid instead:"), commands(wanted));
  } finally {
    search.busy = false;
  }
}

// What the index tells of a text. Throws Unread.
async function foundOf(about, wanted) {
  if ([...wanted].length > LONGEST || wanted.includes("\0")) {
    throw new Unread(`A text to look for has at most ${count(LONGEST)} characters, and no NUL.`);
  }
  if (!search.finder || search.mark !== load.mark) {
    search.mark = load.mark;
    search.reader = new Reader();
    search.finder = await opened(search.reader, about);
  }
  search.reader.begin();
  return search.finder.find(wanted);
}

function summary(found) {
  const shown = Math.min(found.count, SHOWN);
  return el(
    "p",
    {},
    `${counted(found.count, "place")} in the run's training texts; ` +
      `${count(found.validation)} in those of validation.`,
    shown < found.count ? ` The first ${count(shown)}:` : null,
    found.count + found.validation
      ? null
      : " Capitals, blanks and line breaks count. Try fewer words.",
    found.seams ? null : " Places across the cuts of long texts are not looked for.",
  );
}

// A button for the next places, where all of them are looked up.
function more(found, wanted, shown) {
  if (found.hits.often || shown >= found.count) return "";
  const button = el("button", { type: "button" });
  button.append(`Show more: ${count(shown)} of ${count(found.count)} are shown`);
  button.addEventListener("click", async () => {
    button.disabled = true;
    await reading(wanted, async () => {
      const articles = drawnAll(await found.hits.next(SHOWN));
      button.replaceWith(...articles, more(found, wanted, shown + articles.length));
      articles[0]?.querySelector("a").focus();
    });
  });
  return button;
}

// Those that a step saw come before the others.
function drawnAll(hits) {
  const seen = (hit) => (hit.steps.length ? 0 : 1);
  return hits.toSorted((one, other) => seen(one) - seen(other)).map(drawn);
}

function drawn(hit) {
  const [before, own, after] = hit.context;
  return el(
    "article",
    { class: "row" },
    el(
      "h2",
      {},
      link(`document.html#${hit.index}:${hit.offset}-${hit.end}`, foreign(hit.document)),
    ),
    el(
      "pre",
      { class: "text", dir: "auto" },
      ...visible(before),
      el("mark", {}, ...visible(own)),
      ...visible(after),
    ),
    el("p", {}, seenIn(hit.steps)),
  );
}

function seenIn(steps) {
  if (!steps.length)
    return "No step trained on it: a run may stop before it has read all its texts.";
  const links = steps
    .slice(0, STEPS)
    .flatMap(([step, row]) => [rowLink(step, row, `step ${count(step)}, row ${count(row)}`), " "]);
  const left = steps.length - STEPS;
  return ["Seen in ", links, left > 0 ? `and ${count(left)} more.` : null];
}
