"use strict";

const WAYS = [
  [
    "Verify",
    ["pellucid verify ."],
    "Reads everything and computes no step; needs no torch, and takes seconds to minutes.",
    "Proves that no file was changed, added or lost since the seal; that the ledger's " +
      "chain is whole; " +
      "that the texts, tokens and their order are those that the ledger committed to; " +
      "that every published number is the record's; " +
      "that these pages are Pellucid's own and show the record.",
  ],
  [
    "Audit",
    ["pellucid audit .", "pellucid audit . --step STEP"],
    "Replays steps, drawn at random or chosen, from the stored state before them.",
    "Proves that these steps were computed as the recipe says, from these texts, on any " +
      "processor, to the last bit. The more steps, the smaller " +
      "the chance that a false one is missed; the command prints the odds.",
  ],
  [
    "Diff",
    ["pellucid diff A B"],
    "Compares two runs, or a run with your own run of its recipe.",
    "Proves which step, which operation and which tensor was the first " +
      "to differ, where two runs of one recipe do not have one head.",
  ],
];

const WORDS = [
  ["recipe", "The file with everything that can change the bits of the run."],
  ["token", "A piece of a text, with a number: what the model reads and predicts."],
  ["batch, row", "The texts that one step trains on, in rows of equal length."],
  ["step", "One change of the model's numbers, made from one batch."],
  ["loss", "How badly the model predicted, in nats per token. Lower is better."],
  ["validation", "Texts that no step trains on, to measure the model with."],
  ["weights", "The model's numbers."],
  ["state", "The weights, and what the optimizer keeps for the next step."],
  ["anchor", "A stored state, from which later steps are computed again."],
  ["checkpoint", "The weights of a step, as files that other programs load."],
  ["ledger", "The list of all that the run computed. Each entry holds the digest of the last."],
  ["digest", "A short number that follows from some bytes; other bytes have another one."],
  ["head", "The digest of the ledger's last entry, which stands for the whole run."],
  ["seal", "The list of all files of the release with their digests."],
];

page(async (about) => {
  show(
    el("h1", {}, "How to check"),
    el(
      "p",
      {},
      "You need not trust these pages. Install Pellucid, and run these commands " +
        "in the folder above this site:",
    ),
    command("pip install pellucid"),
    WAYS.map(([name, lines, needs, proves]) =>
      section(name, command(...lines), el("p", {}, needs), el("p", {}, proves)),
    ),
    section(
      "Make it again",
      el("p", {}, "Everybody who runs this recipe on this corpus gets this head:"),
      facts([["Head of this run", about.head ? digest(about.head) : "–"]]),
    ),
    section(
      "Prove one thing to somebody who has no copy",
      command(
        "pellucid prove . step 1 --output proof.json",
        `pellucid check-proof proof.json --head ${about.head || "HEAD"}`,
      ),
    ),
    section("Words of these pages", table("Words", ["word", "meaning"], WORDS)),
  );
});
