"use strict";

page(async (about) => {
  const states = await value("states");
  const written = about.samples ? await value("samples") : null;
  const known = about.evaluations ? await value("evaluations") : null;
  const last = about.checkpoints.at(-1);
  show(
    el("h1", {}, "Checkpoints"),
    el(
      "p",
      {},
      "A checkpoint is a folder that transformers loads. An anchor is a full " +
        "training state, with optimizer. Any other step can be replayed " +
        "from the anchor before it.",
    ),
    table(
      "Stored states",
      ["step", "stored", "loss", "validation, bits per byte", "weights", "state"],
      states.map((one) => [
        stepLink(one.step),
        one.kinds.join(", "),
        decimal(one.loss),
        decimal(one.bits_per_byte),
        digest(one.weights),
        digest(one.state),
      ]),
      [2, 3],
    ),
    section("What they know", known ? evaluated(about, known) : unasked()),
    section(
      "Load one",
      last !== undefined
        ? command(
            `from transformers import AutoModelForCausalLM, ${about.loader}`,
            "",
            `model = AutoModelForCausalLM.from_pretrained("checkpoints/step${last}")`,
          )
        : null,
      el("p", {}, "Any other step, as a folder of the same kind:"),
      command(`pellucid export . --step ${about.steps_done} --as hf --to step${about.steps_done}`),
    ),
    section("What they write", written ? samples(written) : unwritten(about)),
    section(
      "The loss of one text at several steps",
      command("pellucid show . document ID --at every=100 --plot life.png"),
    ),
  );
});

// Of each task the last step that was asked, and the course over steps where there are several.
function evaluated(about, { tasks, left_out: left, unreadable }) {
  if (unreadable) {
    return [
      el("p", { role: "alert" }, "The evaluations cannot be read. To see what is wrong:"),
      command("pellucid verify ."),
    ];
  }
  const methods = [...new Set(tasks.map((one) => one.method).filter(Boolean))].sort();
  return [
    el(
      "p",
      {},
      "A task asks the model of a step all of its examples. Its chance is what guessing gives. " +
        "Whoever published this asked the model, and verify rates the answers again, but for the " +
        "metric measured, whose numbers come from their harness alone. To ask the model some " +
        "examples again:",
    ),
    command("pellucid audit . --evaluations 20"),
    table(
      "The last answers to each task",
      ["task", "step", "number", "value", unbroken("95% interval"), "chance", "examples"],
      tasks.map((one) => [
        [foreign(one.task), el("span", { class: "quiet" }, " ", variantOf(one))],
        stepLink(one.step.at(-1)),
        foreign(one.number),
        decimal(one.value.at(-1)),
        one.low.at(-1) === null
          ? "–"
          : unbroken(`${decimal(one.low.at(-1))} to ${decimal(one.high.at(-1))}`),
        one.chance === null ? "–" : decimal(one.chance),
        count(one.examples),
      ]),
      [1, 3, 4, 5, 6],
    ),
    methods.length
      ? el("p", { class: "quiet" }, "Intervals: ", foreign(methods.join("; ")), ".")
      : null,
    left ? el("p", {}, `${counted(left, "more task")}: pellucid sql . "FROM evaluations"`) : null,
    tasks.filter((one) => one.step.length > 1).map((one) => course(about, one)),
  ];
}

function unbroken(text) {
  return el("span", { class: "unbroken" }, text);
}

// How a task was rated, and what tells it from others of its name: shots, a limit, the harness.
function variantOf({ metric, variant }) {
  return foreign([`metric ${metric}`, variant].filter(Boolean).join(", "));
}

function course(about, one) {
  return chart({
    title: plain(one.variant ? `${one.task} (${one.variant})` : one.task),
    unit: `${plain(one.number)}, with its 95% interval`,
    axis: "steps",
    range: [about.first, about.steps_done],
    curves: [
      {
        name: plain(one.number),
        dotted: true, // Between the steps that were asked nothing is known.
        points: one.step.map((step, at) => ({
          step,
          x: step,
          y: one.value[at],
          ...(one.low[at] === null ? {} : { low: one.low[at], high: one.high[at] }),
        })),
      },
    ],
    levels: one.chance === null ? [] : [{ name: "chance", y: one.chance }],
    pick: (point) => {
      location.href = `step.html#${point.step}`;
    },
  });
}

function unasked() {
  return [
    el("p", {}, "No evaluation is kept here. Whoever has the run folder can ask any step:"),
    command("pellucid evaluate . --steps log"),
  ];
}

// Behind each prompt the text of every state, with the command that computes it again.
function samples({ tokens, prompts, states }) {
  return [
    el(
      "p",
      {},
      `Up to ${counted(tokens, "token")} behind the first words of validation texts: each ` +
        "time the likeliest token. Whoever published this computed them, and verify does not. " +
        "To compute all of them again:",
    ),
    command("pellucid audit . --samples"),
    prompts.map((prompt, number) => [
      el("h3", {}, foreign(prompt), " …"),
      el(
        "div",
        { class: "samples" },
        states.map(({ step, texts }) => sample(step, prompt, texts[number], tokens)),
      ),
    ]),
  ];
}

function sample(step, prompt, told, tokens) {
  const word = shellWord(prompt);
  return el(
    "article",
    { class: "sample" },
    el("h4", {}, stepLink(step)),
    el(
      "pre",
      { class: "text", dir: "auto" },
      el("span", { class: "quiet" }, ...visible(prompt)),
      ...visible(told),
    ),
    word === null
      ? null
      : el(
          "details",
          {},
          el("summary", {}, "The command"),
          command(
            `pellucid sample . --step ${step} --prompt ${word} --temperature 0 --tokens ${tokens}`,
          ),
        ),
  );
}

function unwritten(about) {
  return [
    el(
      "p",
      {},
      about.live
        ? "pellucid publish --samples adds texts of the stored states to a release. "
        : "This site has no texts of the stored states. ",
      "To see what any step writes:",
    ),
    command(`pellucid sample . --step ${about.steps_done} --prompt 'SOME TEXT' --temperature 0`),
  ];
}
