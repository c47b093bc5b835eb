// The tokenizer of a run in the browser: a text becomes the ids that training would give it.
// Byte-level BPE with the patterns of pellucid/data/patterns.py, bytes, and characters. The letters
// that stand for bytes are in words.js.
"use strict";

// ---- patterns ----

const ENDINGS = "'s|'t|'re|'ve|'m|'ll|'d";
const SPACES = String.raw`|\s+(?!\S)|\s+`;
const LINES = String.raw`|\s*[\r\n]+` + SPACES;
const BEFORE = String.raw`[^\r\n\p{L}\p{N}]?`;
const UPPER = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`;
const LOWER = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`;
const EACH = String.raw`[\s\S]`;
const GPT2 = ENDINGS + String.raw`| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+` + SPACES;

function cl100k(digits) {
  return (
    `(?i:${ENDINGS})|${BEFORE}` + String.raw`\p{L}+|${digits}| ?[^\s\p{L}\p{N}]+[\r\n]*` + LINES
  );
}

function cased(ending, digits) {
  const words = `${BEFORE}${UPPER}*${LOWER}+${ending}|${BEFORE}${UPPER}+${LOWER}*${ending}`;
  return words + String.raw`|${digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*` + LINES;
}

function ours(longest) {
  const [space, rest] = longest > 1 ? [" ?", longest - 1] : ["", 1];
  return [
    String.raw`${space}\p{L}{1,${rest}}`,
    String.raw`${space}\p{N}{1,${Math.min(3, rest)}}`,
    String.raw`${space}[^\s\p{L}\p{N}]{1,${rest}}`,
    String.raw`\s{1,${longest}}(?!\S)`,
    String.raw`\s{1,${longest}}`,
  ].join("|");
}

const PATTERNS = new Set([
  cl100k(String.raw`\p{N}{1,3}`),
  cl100k(String.raw`\p{N}{1,2}`),
  cl100k(String.raw`\p{N}`),
  GPT2,
  cased(`(?i:${ENDINGS})?`, String.raw`\p{N}{1,3}`),
  cased("", String.raw`\p{N}`),
]);

// The expression for a file's pattern; undefined for one that is not known. Browsers count U+FEFF
// as white space, and not all have (?i:…).
function expression(pattern) {
  const longest = /\\s\{1,([1-9][0-9]{0,4})\}$/.exec(pattern);
  if (!PATTERNS.has(pattern) && !(longest && pattern === ours(Number(longest[1]))))
    return undefined;
  const any = (letter) => `[${letter}${letter.toUpperCase()}${letter === "s" ? "\u017f" : ""}]`;
  const spelled = pattern.replaceAll(`(?i:${ENDINGS})`, `(?:${ENDINGS.replace(/[a-z]/g, any)})`);
  return new RegExp(
    spelled.replaceAll("\\s", "\\p{White_Space}").replaceAll("\\S", "\\P{White_Space}"),
    "gu",
  );
}

// A text in the pieces of an expression; what lies between two matches is a piece too.
function split(text, cut) {
  const pieces = [];
  let at = 0;
  for (const match of asTrained(text).matchAll(cut)) {
    if (match.index > at) pieces.push(text.slice(at, match.index));
    at = match.index + match[0].length;
    pieces.push(text.slice(match.index, at));
  }
  if (at < text.length) pieces.push(text.slice(at));
  return pieces;
}

// Characters that Unicode 17 made letters, numbers or marks. The tokenizers library splits by
// Unicode 16, where they are none, and where U+0295 is a small letter.
const NEWER = new RegExp(
  `[${[
    String.raw`\u088f\u0c5c\u0cdc\u1acf-\u1add\u1ae0-\u1aeb\ua7ce\ua7cf\ua7d2\ua7d4\ua7f1`,
    String.raw`\u{10940}-\u{10959}\u{10ec5}-\u{10ec7}\u{10efa}\u{10efb}\u{11b60}-\u{11b67}`,
    String.raw`\u{11db0}-\u{11ddb}\u{11de0}-\u{11de9}\u{16ea0}-\u{16eb8}\u{16ebb}-\u{16ed3}`,
    String.raw`\u{16ff2}-\u{16ff6}\u{187f8}-\u{187ff}\u{18d09}-\u{18d1e}\u{18d80}-\u{18df2}`,
    String.raw`\u{1e6c0}-\u{1e6de}\u{1e6e0}-\u{1e6f5}\u{1e6fe}\u{1e6ff}\u{2b73a}-\u{2b73f}`,
    String.raw`\u{2cea2}-\u{2cead}\u{323b0}-\u{33479}`,
  ].join("")}]`,
  "gu",
);

// A text of the same length, in which every character is of the kind that it was in training.
function asTrained(text) {
  return text
    .replace(NEWER, (letter) => (letter.length === 1 ? "\ue000" : "\u{f0000}"))
    .replaceAll("\u0295", "\u0250");
}

// ---- byte pairs ----

const MOST_IDS = 2 ** 26; // So that a pair of ids is a number.

function bytePairs(model) {
  const plain =
    !model.dropout &&
    !model.byte_fallback &&
    !model.continuing_subword_prefix &&
    !model.end_of_word_suffix;
  if (!model.merges || !plain) throw new Unfit("its model is not byte-level BPE");
  const ids = new Map(Object.entries(model.vocab));
  if (ids.size >= MOST_IDS) throw new Unfit("its vocabulary is too large");
  const merges = new Map();
  model.merges.forEach((merge, rank) => {
    const [left, right] = typeof merge === "string" ? merge.split(" ") : merge;
    merges.set(ids.get(left) * MOST_IDS + ids.get(right), { rank, id: ids.get(left + right) });
  });
  const ofByte = LETTERS.map((letter) => ids.get(letter));
  if (ofByte.includes(undefined)) throw new Unfit("its vocabulary lacks a byte");
  const encoder = new TextEncoder();
  return (piece) => {
    const encoded = encoder.encode(piece);
    const known = model.ignore_merges
      ? ids.get(Array.from(encoded, (byte) => LETTERS[byte]).join(""))
      : undefined;
    return known === undefined ? merged(encoded, ofByte, merges) : [[known, encoded]];
  };
}

// The tokens of a piece: [id, its bytes] each. The pair of least rank is merged first, of equal
// ones the first.
function merged(encoded, ofByte, merges) {
  const size = encoded.length;
  const ids = Array.from(encoded, (byte) => ofByte[byte]);
  const after = ids.map((_, at) => at + 1); // Where the next token begins; -1 of a merged one.
  const before = ids.map((_, at) => at - 1);
  const heap = [];
  const propose = (at) => {
    if (at < 0 || after[at] >= size) return;
    const merge = merges.get(ids[at] * MOST_IDS + ids[after[at]]);
    if (merge) push(heap, { rank: merge.rank, at, id: merge.id });
  };
  for (let at = 0; at < size; at += 1) propose(at);
  while (heap.length) {
    const { at, id } = pop(heap);
    const next = after[at];
    if (next < 0 || next >= size || merges.get(ids[at] * MOST_IDS + ids[next])?.id !== id) continue;
    ids[at] = id;
    after[at] = after[next];
    after[next] = -1;
    if (after[at] < size) before[after[at]] = at;
    propose(before[at]);
    propose(at);
  }
  const tokens = [];
  for (let at = 0; at < size; at = after[at])
    tokens.push([ids[at], encoded.subarray(at, after[at])]);
  return tokens;
}

function sooner(one, other) {
  return one.rank < other.rank || (one.rank === other.rank && one.at < other.at);
}

function push(heap, merge) {
  let at = heap.length;
  for (let up = (at - 1) >> 1; at > 0 && sooner(merge, heap[up]); up = (at - 1) >> 1) {
    heap[at] = heap[up];
    at = up;
  }
  heap[at] = merge;
}

function pop(heap) {
  const first = heap[0];
  const last = heap.pop();
  if (!heap.length) return first;
  let at = 0;
  for (let down = 1; down < heap.length; down = 2 * at + 1) {
    if (down + 1 < heap.length && sooner(heap[down + 1], heap[down])) down += 1;
    if (!sooner(heap[down], last)) break;
    heap[at] = heap[down];
    at = down;
  }
  heap[at] = last;
  return first;
}

// ---- tokenizers ----

class Unfit extends Error {}

// From the parsed tokenizer.json: a function that gives the tokens of a text, [id, its bytes] each.
// Throws Unfit for a file whose ids this script cannot compute.
function tokenizer(parsed) {
  if (parsed.normalizer) throw new Unfit("it changes a text before it splits it");
  const added = (parsed.added_tokens || []).filter((token) => !token.special);
  const { model } = parsed;
  const steps = flat(parsed.pre_tokenizer);
  const words = model.type === "WordLevel";
  const cut = words ? lettersOf(steps) : cutOf(steps);
  const encode = words ? wholeWords(model) : bytePairs(model);
  return (text) => {
    const spelled = added.find((token) => text.includes(token.content));
    if (spelled) throw new Unfit(`this text contains its added token ${spelled.content}`);
    return (cut ? split(text, cut) : [text]).filter(Boolean).flatMap(encode);
  };
}

function flat(part) {
  if (!part) return [];
  return part.type === "Sequence" ? part.pretokenizers.flatMap(flat) : [part];
}

function splitsBy(step) {
  return step.type === "Split" && step.behavior === "Isolated" && !step.invert
    ? step.pattern.Regex
    : undefined;
}

// The expression of a byte-level file: GPT-2's stands in the last step itself; kind "bytes" has
// none.
function cutOf(steps) {
  const last = steps.at(-1);
  if (!last || last.type !== "ByteLevel" || last.add_prefix_space || steps.length > 2)
    throw new Unfit("its tokens are not bytes");
  if (steps.length === 1) return last.use_regex === false ? null : expression(GPT2);
  const cut = last.use_regex === false ? expression(String(splitsBy(steps[0]))) : undefined;
  if (!cut) throw new Unfit("its way of splitting texts is not known here");
  return cut;
}

function lettersOf(steps) {
  if (steps.length !== 1 || splitsBy(steps[0]) !== EACH)
    throw new Unfit("its words are not single characters");
  return /[^]/gu;
}

function wholeWords(model) {
  const ids = new Map(Object.entries(model.vocab));
  const unknown = ids.get(model.unk_token);
  const encoder = new TextEncoder();
  return (piece) => [[ids.get(piece) ?? unknown, encoder.encode(piece)]];
}

// ---- the part of the page ----

const LONGEST = 20000;
const DRAWN = 4000; // Tokens that are drawn.

// A field for a text, and its tokens below. The file is read with the first text: it may be large.
function tokenField() {
  const field = el("textarea", {
    id: "typed",
    rows: 4,
    maxlength: LONGEST,
    spellcheck: "false",
    dir: "auto",
  });
  const told = el("p", { role: "status", id: "counted" });
  const drawn = el("ol", { class: "tokens", dir: "auto" });
  let encode;
  const draw = async () => {
    try {
      encode ??= value("tokenizer").then(tokenizer);
      const tokens = (await encode)(field.value.toWellFormed());
      told.replaceChildren(inNumbers(tokens, field.value));
      drawn.replaceChildren(...pieces(tokens.slice(0, DRAWN)));
    } catch (error) {
      told.replaceChildren(...unfit(error));
      drawn.replaceChildren();
    }
  };
  field.addEventListener("input", draw);
  return section(
    "The tokenizer",
    el("label", { for: "typed" }, "Type a text, see its tokens"),
    field,
    told,
    drawn,
  );
}

function inNumbers(tokens, text) {
  const size = tokens.reduce((sum, [, own]) => sum + own.length, 0);
  if (!tokens.length) return "";
  const more = tokens.length > DRAWN ? ` The first ${count(DRAWN)} are shown.` : "";
  const most =
    text.length >= LONGEST ? ` A text has at most ${count(LONGEST)} characters here.` : "";
  return (
    `${counted(tokens.length, "token")}, ` +
    `${decimal(size / tokens.length, 2)} bytes a token.${more}${most}`
  );
}

function unfit(error) {
  if (!(error instanceof Unfit)) return [error.message];
  return [
    `This page cannot compute the ids of this tokenizer: ${error.message}. In Python: `,
    el("code", {}, 'pellucid.open(".").shown.tokenizer.encode("…")'),
  ];
}

// What each token stands for; of a character that is cut by it, the bytes.
function pieces(tokens) {
  const reader = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  return tokens.map(([id, own], at) => {
    let shown;
    try {
      shown = foreign(reader.decode(own).replaceAll("\n", "⏎\n").replaceAll("\t", "⇥\t"));
    } catch {
      shown = el(
        "span",
        { class: "hidden" },
        Array.from(own, (byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" "),
      );
    }
    return el("li", { class: `l${(at * 3) % 10}` }, shown, el("span", { class: "id" }, id));
  });
}
