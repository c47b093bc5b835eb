// The bytes that tokens stand for. A string of bytes has one letter for each of them, U+0000 to
// U+00FF: such strings compare as bytes do.
"use strict";

const SEPARATOR = "\xff"; // Stands for the document token: no byte of UTF-8.
const MOST_WORDS = 1 << 24;

// The letter that stands for each byte in vocabularies.
const LETTERS = (() => {
  const printable = (byte) => (byte >= 0x21 && byte < 0x7f) || (byte >= 0xa1 && byte !== 0xad);
  let other = 256;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(printable(byte) ? byte : other++),
  );
})();

function lettersIn(content) {
  const parts = [];
  for (let at = 0; at < content.length; at += 8192) {
    parts.push(String.fromCharCode(...content.subarray(at, at + 8192)));
  }
  return parts.join("");
}

function bytesOf(letters) {
  return Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
}

function encoded(text) {
  return lettersIn(new TextEncoder().encode(text));
}

// A text of bytes without the characters that are cut at its ends.
function readable(letters) {
  const inner = letters
    .replace(/^[\x80-\xbf]{1,3}/, "")
    .replace(/(?:[\xc0-\xff]|[\xe0-\xff][\x80-\xbf]|[\xf0-\xff][\x80-\xbf]{2})$/, "");
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytesOf(inner));
}

// How many characters begin in a string of bytes.
function begun(letters) {
  return letters.replace(/[\x80-\xbf]/g, "").length;
}

// The least string behind all that begin with another, which has no byte 0xFF.
function after(prefix) {
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}

class Words {
  // parsed: tokenizer.json; separator: the id of the document token.
  constructor(parsed, separator) {
    const ids = idsOf(parsed);
    const plain = new Set(levelOfBytes(parsed.decoder) ? addedTo(parsed) : ids.keys());
    const byLetter = new Map(LETTERS.map((letter, byte) => [letter, String.fromCharCode(byte)]));
    const most = [...ids.values()].reduce((one, other) => Math.max(one, other), separator);
    if (!(most < MOST_WORDS)) throw new Error("The vocabulary is too large for a page.");
    this.words = new Array(most + 1).fill("");
    for (const [token, id] of ids) {
      this.words[id] = plain.has(token)
        ? encoded(token)
        : Array.from(token, (letter) => byLetter.get(letter) ?? SEPARATOR).join("");
    }
    this.words[separator] = SEPARATOR;
    this.longest = this.words.reduce((one, word) => Math.max(one, word.length), 0);
    this.byEnd = byEnd(this.words);
    this.sheet = null;
  }

  // Whether a token ends with these bytes and is longer.
  ends(id, ending) {
    const word = this.words[id];
    return word.length > ending.length && word.endsWith(ending);
  }

  // All such tokens.
  ending(ending) {
    const last = ending.charCodeAt(ending.length - 1);
    return (this.byEnd.get(last) || []).filter((id) => this.ends(id, ending));
  }

  // Whether the token before `tail` ends with `head` and is longer, wherever a text has a token's
  // bytes and the tail behind them, and a token's end before a tail.
  isClear(word, tail, head) {
    const told = word + tail;
    return this.words.every((other, id) => {
      if (!other || !(told.startsWith(other) || other.startsWith(told))) return true;
      const both = other + tail;
      return !(both.startsWith(told) || told.startsWith(both)) || this.ends(id, head);
    });
  }

  // Every place of a string inside a token, behind its first byte: [token, offset].
  holding(query) {
    this.sheet ??= this.words.join(SEPARATOR);
    const places = [];
    let [id, begin] = [0, 0];
    for (let at = this.sheet.indexOf(query); at >= 0; at = this.sheet.indexOf(query, at + 1)) {
      while (begin + this.words[id].length < at) begin += this.words[id++].length + 1;
      if (at > begin) places.push([id, at - begin]);
    }
    return places;
  }
}

function byEnd(words) {
  const ids = new Map();
  words.forEach((word, id) => {
    const last = word.charCodeAt(word.length - 1);
    if (!ids.has(last)) ids.set(last, []);
    ids.get(last).push(id);
  });
  return ids;
}

// Every token of a tokenizer.json as the file spells it, and its id.
function idsOf(parsed) {
  const { vocab } = parsed.model;
  const named = Array.isArray(vocab) ? vocab.map(([token], id) => [token, id]) : [];
  const ids = new Map(Array.isArray(vocab) ? named : Object.entries(vocab));
  for (const token of parsed.added_tokens || []) ids.set(token.content, token.id);
  return ids;
}

function addedTo(parsed) {
  return (parsed.added_tokens || []).map((token) => token.content);
}

function levelOfBytes(decoder) {
  if (!decoder) return false;
  return decoder.type === "Sequence"
    ? decoder.decoders.some(levelOfBytes)
    : decoder.type === "ByteLevel";
}
