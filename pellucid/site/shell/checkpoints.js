"use strict";

page(async (about) => {
  const states = await value("states");
  const written = about.samples ? await value("samples") : null;
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
