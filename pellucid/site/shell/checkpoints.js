"use strict";

page(async (about) => {
  const states = await value("states");
  const last = about.checkpoints.at(-1);
  const validated = new Map(about.validation.map((one) => [one.step, one]));
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
        validated.has(one.step) ? decimal(validated.get(one.step).bits_per_byte) : "–",
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
    section(
      "The loss of one text at several steps",
      command("pellucid show . document ID --at every=100 --plot life.png"),
    ),
  );
});
