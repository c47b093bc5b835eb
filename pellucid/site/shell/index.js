"use strict";

const SOURCES = 5; // That the first lines name.

page(async (about, asked) => {
  const { axis } = viewed(asked);
  const runs = await runsOf(about, { axis, range: null });
  const shown = shownOf(runs);
  const common = {
    axis,
    range: wholeOf(shown, axis),
    pick: (point) => {
      location.href = `step.html#${point.step}`;
    },
  };
  const { levels, told } = await packers(about);
  show(
    el("h1", {}, foreign(about.run)),
    el("p", { class: "lead" }, lead(about)),
    about.data_made ? el("p", {}, ...corpus(about)) : null,
    facts([
      ["Steps", `${count(about.steps_done)} of ${count(about.steps)}`],
      ["Tokens trained on", count(about.tokens)],
      ["Training loss", about.loss === null ? "–" : `${decimal(about.loss)} nats per token`],
      ["Validation", validationTold(about.validation)],
      ["Documents", about.data_made ? count(about.documents) : "being prepared"],
      ["Arithmetic", `${about.arithmetic}, ${about.precision}`],
    ]),
    section(
      "Curves",
      runControls(runs),
      el("p", { class: "controls" }, axisSelect(axis)),
      chart({
        ...common,
        title: "Training loss",
        unit: "nats per token",
        curves: curvesOf(shown, "loss", (run) => run.made.loss || []),
        marks: marks(shown[0], axis),
      }),
      chart({
        ...common,
        title: "Validation",
        unit: "bits per byte",
        curves: curvesOf(shown, "validation", (run) => run.validated.all),
        levels,
        told,
      }),
      el("p", {}, link(`timeline.html#${addressOf(axis, null)}`, "All curves, with zoom")),
    ),
    about.pages.length || about.pages_invalid ? section("Pages", pages(about)) : null,
    about.incidents.length ? section("Incidents", incidents(about)) : null,
    loading(about),
    section(
      "Check it",
      command(
        "pip install pellucid",
        "pellucid verify .        # files, chain, data, batches and numbers; needs no torch",
        `pellucid audit . --step ${middle(about)}   # replays this step and compares its bits`,
      ),
      el("p", {}, link("check.html", "What each command proves")),
    ),
    section("What is open, and what is missing", open(about)),
    section(
      "Record",
      facts([
        ["Head of the ledger", about.head ? digest(about.head) : "–"],
        ["Digest of the weights", about.weights ? digest(about.weights) : "–"],
        ["Data root", about.data ? digest(about.data) : "–"],
        ["Digest of the recipe", digest(about.recipe_digest)],
      ]),
    ),
    section("Recipe", el("pre", { tabindex: "0" }, el("code", {}, ...visible(about.recipe)))),
  );
});

function lead(about) {
  const { family, layers, width, context } = about.model;
  const size = about.parameters ? ` of ${count(about.parameters)} parameters` : "";
  const shape =
    `A language model${size}, of the family ${family}: ` +
    `${layers} layers of width ${width}, context ${count(context)}.`;
  if (about.fork) {
    return (
      `${shape} A fork: training began after step ${count(about.fork.step)} of another run, ` +
      `and what came before is not in this release.`
    );
  }
  return about.finished
    ? `${shape} Trained in the open: every text, every step ` +
        `and every state below can be checked and replayed.`
    : `${shape} Training goes on, or was stopped at step ${count(about.steps_done)}.`;
}

// The texts of training, and how many of their tokens the steps read.
function corpus(about) {
  const named = about.sources
    .slice(0, SOURCES)
    .flatMap((one, number) => [
      number ? ", " : "",
      foreign(one.name),
      ` (${counted(one.documents - one.validation_documents, "document")}, `,
      one.licence_by_record ? "licences by record" : ["licence ", foreign(one.licence)],
      ")",
    ]);
  const left = about.sources.length - SOURCES;
  const training = about.streams.filter((one) => one.split === "train");
  const held = training.reduce((sum, one) => sum + Number(one.tokens), 0);
  const taken = Number(about.tokens) - Number(about.genesis?.tokens || 0);
  return [
    "Training texts: ",
    ...named,
    left > 0 ? ` and ${counted(left, "more source", "more sources")}` : "",
    `. They have ${count(held)} tokens. The steps read ${count(taken)} tokens, repeats included.`,
  ];
}

function middle(about) {
  return about.first + Math.max(1, Math.floor((about.steps_done - about.first) / 2));
}

function loading(about) {
  const stored = about.checkpoints[about.checkpoints.length - 1];
  if (!about.finished && stored === undefined) return null;
  const folder = about.finished ? "." : `checkpoints/step${stored}`;
  return section(
    "Load it",
    command(
      `from transformers import AutoModelForCausalLM, ${about.loader}`,
      "",
      `model = AutoModelForCausalLM.from_pretrained("${folder}")  # in the folder above this site`,
      `tokenizer = ${about.loader}.from_pretrained("${folder}")`,
    ),
  );
}

function validationTold(told) {
  if (!told) return "–";
  const { last, best } = told;
  const before =
    best.step === last.step ? "" : `; best ${decimal(best.bits_per_byte)} at step ${best.step}`;
  return `${decimal(last.bits_per_byte)} bits per byte${before}`;
}

function marks(run, axis) {
  return run.about.incidents.map((one) => ({
    x: placeOf(run, axis, one.step),
    kind: "incident",
    name: `${one.rule}: ${plain(one.why)}`,
  }));
}

function incidents(about) {
  return table(
    "What the rules of the recipe decided",
    ["step", "rule", "action", "why"],
    about.incidents.map((one) => [stepLink(one.step), one.rule, one.action, foreign(one.why)]),
    [0],
  );
}

// Of whoever made the run. While they are written one of them can be invalid.
function pages(about) {
  if (about.pages_invalid) return el("p", { role: "alert" }, foreign(about.pages_invalid));
  return el(
    "ul",
    {},
    about.pages.map((one) =>
      el(
        "li",
        {},
        link(`pages/${one.name}.html`, foreign(one.title)),
        one.excerpt ? [". ", foreign(one.excerpt)] : [],
      ),
    ),
  );
}

// What a release can hold, and whether this one does.
function open(about) {
  const unknown = Object.values(about.unknown_licences || {}).reduce((sum, each) => sum + each, 0);
  const sealed = about.live === undefined || about.sealed;
  const rows = [
    ["Texts, with licence and origin", about.data_made, "data/documents"],
    [
      "Licence of every text",
      about.data_made && unknown === 0,
      unknown ? `unknown for ${count(unknown)} documents` : "data/documents",
    ],
    ["Tokens and their order", about.stages.shards, "data/shards"],
    ["Ledger of every step", about.head !== null, "record/ledger.jsonl"],
    ...(about.fork
      ? [[`Steps up to ${count(about.fork.step)}`, false, "in the run that this one is a fork of"]]
      : []),
    [
      "Full states, with optimizer",
      about.anchors.length > 0,
      `${count(about.anchors.length)} stored; any other step by replay`,
    ],
    [
      "Checkpoints",
      about.checkpoints.length > 0,
      `${count(about.checkpoints.length)} stored; any other step by replay`,
    ],
    [
      "Index: which steps saw a text",
      about.stages.index,
      about.stages.index ? "trace" : "make it with: pellucid run . --set placement.trace=true",
    ],
    [
      "Texts in this site",
      about.texts,
      about.texts ? "site/data/texts" : "publish with --offline-text",
    ],
    ["Sealed: a manifest of all files", sealed, sealed ? "manifest.jsonl" : "pellucid publish ."],
  ];
  return table(
    "Parts of this run",
    ["part", "here", "where"],
    rows.map(([part, here, where]) => [part, here ? "yes" : "no", where]),
  );
}
