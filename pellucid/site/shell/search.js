"use strict";

const LONGEST = 1000;

page(async (about, wanted) => {
  const field = el("input", {
    type: "search",
    id: "wanted",
    maxlength: LONGEST,
    value: wanted,
    autocomplete: "off",
  });
  const told = el("div", { id: "told", role: "status" });
  const ask = (event) => {
    event.preventDefault();
    location.hash = encodeURIComponent(field.value);
  };
  const can = about.stages.index && about.live !== undefined;
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
        )
      : null,
    told,
  );
  if (!about.stages.index) told.append(noIndex());
  else if (!can) told.append(elsewhere(wanted));
  else if (wanted) await answer(told, wanted);
  if (can) field.focus();
});

function noIndex() {
  return el(
    "p",
    {},
    "This run has no index of its texts. Make it with: pellucid run . --set placement.trace=true",
  );
}

// Of a site without `pellucid view` behind it.
function elsewhere(wanted) {
  return el(
    "div",
    {},
    el(
      "p",
      {},
      "Searching needs Pellucid on your machine. In the folder above this site, " +
        "or with the address of the release:",
    ),
    command(
      "pellucid view .",
      `pellucid where . -- ${shellWord(wanted) && wanted ? shellWord(wanted) : "'some text'"}`,
    ),
  );
}

async function answer(told, wanted) {
  told.replaceChildren(el("p", { class: "quiet" }, "Searching …"));
  const response = await fetch(`where?text=${encodeURIComponent(wanted)}`);
  const found = await response.json();
  if (found.error) {
    told.replaceChildren(el("p", { role: "alert" }, found.error));
    return;
  }
  told.replaceChildren(
    el(
      "p",
      {},
      `${counted(found.count, "place")} in the texts of training; ` +
        `${count(found.validation)} in those of validation.`,
      found.hits.length < found.count ? ` The first ${count(found.hits.length)}:` : null,
    ),
  );
  told.append(...found.hits.map(drawn));
}

function drawn(hit) {
  const [before, own, after] = hit.context;
  return el(
    "article",
    { class: "row" },
    el(
      "h2",
      {},
      link(
        `document.html#${hit.index}:${hit.offset}-${hit.offset + [...own].length}`,
        foreign(hit.document),
      ),
    ),
    el(
      "pre",
      { class: "text", dir: "auto" },
      ...visible(before),
      el("mark", {}, ...visible(own)),
      ...visible(after),
    ),
    el(
      "p",
      {},
      hit.steps.length
        ? ["Seen in ", hit.steps.flatMap((time) => [stepLink(time.step), " "])]
        : "No step trained on it.",
    ),
  );
}
