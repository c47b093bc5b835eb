// One piece of the index: the order of its suffixes, and which of them begin with some bytes.
// docs/format.md, "The index".
"use strict";

const KEY_EVERY = 64; // Of so many suffixes one stands in the keys,
const TOP_EVERY = 64; // and of so many keys one in the top.
const KEY = 32; // Bytes of each.
const AHEAD = 8; // Tokens or bytes that a comparison reads more than it is expected to need.
const SMALL = 32 << 10; // Bytes of a table that cost less than one more round.
const CONNECTIONS = 48; // Requests of a round, by which a host that speaks HTTP/1.1 is not slowed.
const WIDE = 7; // Suffixes that are compared at once: two rounds of it decide the 64 of a key.
const WIDEST = 63; // The same where more of them have one key.
const NEAR = 4096; // Suffixes whose positions cost less than one more round.

class Piece {
  // entry: of the index's manifest; part: of the shards'; atoms: how many suffixes there are.
  constructor(reader, entry, part, atoms) {
    this.reader = reader;
    this.entry = entry;
    this.part = part;
    this.size = atoms;
    this.width = atoms <= 1 << 24 ? 3 : 4;
    this.keyCount = Math.ceil(atoms / KEY_EVERY);
    this.topCount = Math.ceil(this.keyCount / TOP_EVERY);
    this.positions = this.own("positions", atoms * this.width);
    this.keys = this.own("keys", this.keyCount * KEY);
    this.top = this.own("top", this.topCount * KEY);
    this.ways = WIDE;
  }

  own(kind, size) {
    return this.reader.file(`trace/${String(this.entry.number).padStart(5, "0")}.${kind}`, size);
  }

  // Between which numbers [from, to] the first suffix lies that begins with a prefix, and the
  // first behind all that do, as the keys alone tell.
  async bounds(prefix) {
    const key = prefix.slice(0, KEY);
    await this.top.ready([[0, this.top.size]]);
    const [low, high] = await Promise.all([this.keysBelow(key), this.keysBelow(after(key))]);
    const first = (at) => (at > 0 ? (at - 1) * KEY_EVERY + 1 : 0);
    const last = (at) => Math.min(at * KEY_EVERY, this.size);
    return prefix.length <= KEY
      ? { low: [first(low), last(low)], high: [first(high), last(high)] }
      : { low: [first(low), last(high)], high: [first(low), last(high)] };
  }

  // How many keys come before a string.
  async keysBelow(key) {
    const at = (file, number) => lettersIn(file.slice(number * KEY, (number + 1) * KEY));
    const block = below(0, this.topCount, (number) => at(this.top, number) < key);
    if (block === 0) return 0;
    const [begin, end] = [block - 1, block].map((one) => Math.min(one * TOP_EVERY, this.keyCount));
    await this.keys.ready([[begin * KEY, end * KEY]]);
    return below(begin, end, (number) => at(this.keys, number) < key);
  }

  // The suffixes [low, high) that begin with a prefix.
  async between(prefix) {
    const { low, high } = await this.bounds(prefix);
    const spans = high[1] - low[0] <= NEAR ? [[low[0], high[1]]] : [low, high];
    await Promise.all(
      spans.filter(([from, to]) => to - from <= NEAR).map((span) => this.placesReady(...span)),
    );
    const [first, last] = await Promise.all([
      this.search(low, (order) => order < 0, prefix),
      this.search(high, (order) => order <= 0, prefix),
    ]);
    return [first, Math.max(first, last)];
  }

  // The first suffix of [from, to] that is not before what is looked for: some are compared at
  // once, so that two rounds decide, and few requests wait for each other.
  async search([from, to], before, prefix) {
    const wide = Math.min(Math.ceil(Math.sqrt(to - from + 1)) - 1, WIDEST);
    const ways = this.ways < WIDE ? this.ways : Math.max(this.ways, wide);
    while (from < to) {
      const step = Math.max(Math.ceil((to - from) / (ways + 1)), 1);
      const asked = [];
      for (let at = from + step - 1; at < to && asked.length < ways; at += step) asked.push(at);
      const orders = await Promise.all(asked.map((at) => this.compare(at, prefix)));
      const number = orders.findIndex((order) => !before(order));
      const known = number < 0 ? asked.length : number;
      if (number >= 0) to = asked[number];
      if (known > 0) from = asked[known - 1] + 1;
    }
    return from;
  }

  // -1, 0 or 1: the suffix lies before, begins with, or lies behind the prefix.
  async compare(number, prefix) {
    return this.comparePlace(await this.place(number), prefix);
  }

  async comparePlace(place, prefix) {
    for (let atoms = this.atomsOf(prefix.length); ; atoms *= 4) {
      const own = await this.text(place, Math.min(place + atoms, this.size));
      if (own.startsWith(prefix)) return 0;
      if (!prefix.startsWith(own)) return own < prefix ? -1 : 1;
      if (place + atoms >= this.size) return -1;
    }
  }

  // How many tokens or bytes hold about so many bytes of text.
  atomsOf(size) {
    return Math.min(Math.ceil((size * this.size) / Math.max(this.entry.text, 1)), size) + AHEAD;
  }

  // Where a suffix begins: a token of the piece, or a byte of its text.
  async place(number) {
    await this.placesReady(number, number + 1);
    return this.placeAt(number);
  }

  placesReady(from, to) {
    return this.positions.ready([[from * this.width, to * this.width]]);
  }

  placeAt(number) {
    const place = this.positions.number(number * this.width, this.width);
    if (place >= this.size) {
      throw new Unread(`${this.positions.path} has a position after the end of its text.`);
    }
    return place;
  }

  async places(from, to) {
    await this.placesReady(from, to);
    return Array.from({ length: to - from }, (_, at) => this.placeAt(from + at));
  }
}

// A piece whose positions count tokens.
class TokenPiece extends Piece {
  constructor(reader, entry, part, words, idBytes) {
    super(reader, entry, part, entry.stop - entry.start);
    this.words = words;
    this.idBytes = idBytes;
    this.shard = reader.file(`data/shards/${part.file}`, part.tokens * idBytes);
    this.before = this.own("before", this.size);
    this.counts = this.own("counts", words.words.length * 4);
  }

  span(from, to) {
    return [(this.entry.start + from) * this.idBytes, (this.entry.start + to) * this.idBytes];
  }

  textReady(from, to) {
    return this.shard.ready([this.span(from, to)]);
  }

  async text(from, to) {
    await this.textReady(from, to);
    return this.spelled(from, to);
  }

  // What the tokens [from, to) spell, which are there.
  spelled(from, to) {
    const parts = [];
    for (let at = from; at < to; at += 1) parts.push(this.word(at));
    return parts.join("");
  }

  word(at) {
    return this.words.words[this.id(at)];
  }

  id(at) {
    const id = this.shard.number(this.span(at, at)[0], this.idBytes);
    if (!this.words.words[id]) {
      throw new Unread(`${this.shard.path} has a token that is not in the vocabulary.`);
    }
    return id;
  }
}

// A piece that keeps its text, and whose positions count bytes.
class TextPiece extends Piece {
  constructor(reader, entry, part) {
    super(reader, entry, part, entry.text);
    this.content = this.own("text", entry.text);
    this.starts = this.own("starts", (entry.stop - entry.start) * 4);
  }

  textReady(from, to) {
    return this.content.ready([[from, to]]);
  }

  async text(from, to) {
    return lettersIn(await this.content.read(from, to));
  }

  // Where a token begins in the text.
  async begin(token) {
    if (token === this.entry.stop - this.entry.start) return this.size;
    await this.starts.ready([[token * 4, token * 4 + 4]]);
    return this.starts.number(token * 4, 4);
  }

  // The token that holds a byte: of several that begin at one place the last, or the first.
  async tokenOf(place, first = false) {
    const tokens = this.entry.stop - this.entry.start;
    const last = (await ranked(this.starts, 4, tokens, (begin) => begin <= place)) - 1;
    if (last < 0) throw new Unread(`${this.starts.path} does not begin with the first token.`);
    if (!first) return last;
    const begin = await this.begin(last);
    return ranked(this.starts, 4, tokens, (other) => other < begin);
  }
}

// How many numbers of [from, to) are before what is looked for.
function below(from, to, before) {
  while (from < to) {
    const middle = Math.floor((from + to) / 2);
    if (before(middle)) from = middle + 1;
    else to = middle;
  }
  return from;
}

// The same of the first numbers of the rows of a file, which ascend.
async function ranked(file, row, rows, before, column = 0, width = 4) {
  const at = (number) => number * row + column;
  let [from, to] = [0, rows];
  while ((to - from) * row > SMALL) {
    const step = Math.ceil((to - from) / (WIDE + 1));
    const asked = [];
    for (let number = from + step; number < to; number += step) asked.push(number);
    await file.ready(asked.map((number) => [at(number), at(number) + width]));
    const known = below(0, asked.length, (one) => before(file.number(at(asked[one]), width)));
    if (known < asked.length) to = asked[known];
    if (known > 0) from = asked[known - 1] + 1;
  }
  await file.ready([[from * row, to * row]]);
  return below(from, to, (number) => before(file.number(at(number), width)));
}
