"use strict";

page(async (about) => {
  if (!about.data_made) throw new Early("The documents are not prepared yet.");
  // Data are made once: a new step changes nothing here.
  if (document.getElementById("typed")) return;
  const { least, lowest, highest } = await value("ranked");
  show(
    el("h1", {}, "Data"),
    el(
      "p",
      {},
      `${count(about.documents)} documents. `,
      link("document.html", "List them"),
      ", or ",
      link("search.html", "search them"),
      ".",
    ),
    table(
      "Sources",
      ["source", "weight", "licence", "format", "documents", "for validation", "text"],
      about.sources.map((one) => [
        foreign(one.name),
        one.weight === undefined ? "–" : decimal(one.weight, 2),
        one.licence_by_record ? "by record" : foreign(one.licence),
        one.format,
        count(one.documents),
        count(one.validation_documents),
        bytes(one.bytes),
      ]),
      [1, 4, 5, 6],
    ),
    reasons(about),
    licences(about),
    table(
      "Tokens",
      ["source", "split", "tokens", "blocks", "unused at the end"],
      about.streams.map((one) => [
        foreign(one.source),
        one.split,
        count(one.tokens),
        count(one.blocks),
        count(one.unused_tokens),
      ]),
      [2, 3, 4],
    ),
    section(
      "Lengths",
      Object.entries(about.lengths).map(([source, counts]) => lengths(source, counts)),
    ),
    lowest.length
      ? section(
          "Read well, and badly",
          el(
            "p",
            {},
            "The mean loss of a document in the last step that trained on something of it, " +
              `before the update, where that step read ${count(least)} tokens of it or more.`,
          ),
          readings("Lowest loss at the last reading", lowest),
          readings("Highest loss at the last reading", highest),
        )
      : null,
    tokenField(),
  );
});

function readings(caption, rows) {
  return table(
    caption,
    ["document", "step", "tokens", "loss"],
    rows.map(({ document, id, step, tokens, loss }) => [
      link(`document.html#${document}`, foreign(id)),
      stepLink(step),
      count(tokens),
      decimal(loss === null ? NaN : loss / 1000, 3),
    ]),
    [2, 3],
  );
}

function reasons(about) {
  const rows = about.sources.flatMap((one) =>
    one.reasons.map((reason) => [
      foreign(one.name),
      reason.kept ? "kept, changed" : "left out",
      reason.words,
      count(reason.count),
    ]),
  );
  return rows.length
    ? table("Left out, or kept with changes", ["source", "result", "reason", "count"], rows, [3])
    : el("p", {}, "Nothing was left out.");
}

function licences(about) {
  const rows = about.licences.map((one) => [
    foreign(one.name),
    count(one.documents),
    bytes(one.bytes),
    count(one.tokens),
  ]);
  if (about.other_licences) {
    const one = about.other_licences;
    rows.push(["other licences", count(one.documents), bytes(one.bytes), count(one.tokens)]);
  }
  return table(
    "Licences of the texts",
    ["licence", "documents", "text", "tokens"],
    rows,
    [1, 2, 3],
  );
}

function lengths(source, counts) {
  const rows = counts.map((number, power) => [
    power ? `${count(2 ** power)} to ${count(2 ** (power + 1) - 1)}` : "1",
    number,
  ]);
  const first = rows.findIndex((row) => row[1]);
  return bars(`Lengths of the documents of ${source}`, "characters", rows.slice(first));
}
