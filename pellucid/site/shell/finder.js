// The index of a release, opened: its pieces, and what they tell of a text together.
"use strict";

const MOST_PIECES = 1 << 12;
const MOST_TOKENS = 2 ** 40; // Of a shard.
const NAME = /^[0-9]{5,9}\.(?:train|validation)(?:\.documents)?\.bin$/;

// Open the index of the release that these pages lie in. Throws Unread.
async function opened(reader, about) {
  const names = ["trace", "data/shards", "data/tokenizer"].map((name) => `${name}/manifest.json`);
  const [index, shards, tokenizer] = await Promise.all(names.map((name) => reader.json(name)));
  if (index.every !== KEY_EVERY || index.key !== KEY) {
    throw new Unread(
      "The index of this run is of another version. " +
        "Remove its folder trace and make it again with: pellucid run . --only index",
    );
  }
  require(Array.isArray(shards.parts) && shards.parts.every(isPart), names[1]);
  require(Array.isArray(index.pieces) && index.pieces.length <= MOST_PIECES, names[0]);
  require(inOrder(index.pieces, shards.parts), names[0]);
  const counted = index.pieces.some((entry) => entry.kind === "tokens");
  const words = counted ? new Words(await value("tokenizer"), tokenizer.document_token) : null;
  return new Finder(reader, about, index.pieces, shards, words);
}

function require(fits, path) {
  if (!fits) throw new Unread(`${path} does not describe an index that this page reads.`);
}

function isCount(number, most) {
  return Number.isInteger(number) && number >= 0 && number <= most;
}

function isPart(part) {
  return (
    NAME.test(part.file) &&
    NAME.test(part.documents_file) &&
    isCount(part.tokens, MOST_TOKENS) &&
    isCount(part.documents, MOST_TOKENS)
  );
}

// Whether pieces stand one behind the other, in the shards.
function inOrder(pieces, parts) {
  let at = { shard: -1, last: 0, stop: 0 };
  return pieces.every((piece, number) => {
    const { shard, first, last, start, stop, text } = piece;
    const begins = shard === at.shard + 1 && first === 0 && start === 0;
    const goesOn = shard === at.shard && first === at.last && start === at.stop;
    at = piece;
    return (
      (begins || goesOn) &&
      piece.number === number &&
      (piece.kind === "tokens" || piece.kind === "text") &&
      isCount(last, parts[shard]?.documents ?? -1) &&
      isCount(stop, parts[shard].tokens) &&
      isCount(text, 2 ** 32) &&
      stop - start < 2 ** 32 &&
      first < last &&
      start < stop
    );
  });
}

class Finder {
  constructor(reader, about, entries, shards, words) {
    this.reader = reader;
    this.about = about;
    this.documents = about.documents;
    this.parts = shards.parts;
    this.words = words;
    this.packs = new Map(); // Of the site's data, unpacked.
    const idBytes = shards.token_type === "uint32" ? 4 : 2;
    this.pieces = entries.map((entry) => {
      const part = this.parts[entry.shard];
      return entry.kind === "text"
        ? new TextPiece(reader, entry, part)
        : new TokenPiece(reader, entry, part, words, idBytes);
    });
    const tables = this.pieces.map((piece) => this.rows(piece));
    const all = tables.reduce((sum, [from, to]) => sum + to - from, 0);
    this.early = all <= SMALL; // The documents' tables cost less than one more round.
    // HTTP/1.1 sends few requests at once: then each search asks for less of them.
    const protocol = performance.getEntriesByType("navigation")[0]?.nextHopProtocol;
    const ways = Math.max(Math.floor(CONNECTIONS / this.pieces.length), 1);
    if (protocol === "http/1.1") for (const piece of this.pieces) piece.ways = ways;
  }

  // How often a text stands in training and in validation, and where in training.
  async find(text) {
    const query = new Query(text, this.words);
    this.seams ??= await seamsOf(this.about);
    const [held, over] = await Promise.all([
      Promise.all(this.pieces.map((piece) => heldBy(piece, query))),
      overSeams(this, this.seams || [], query.content),
      ...(this.early
        ? this.pieces.map((piece) => this.table(piece).ready([this.rows(piece)]))
        : []),
    ]);
    const total = (train) =>
      this.pieces.reduce(
        (sum, { part }, number) => sum + ((part.split === "train") === train && held[number].count),
        over.filter(([number]) => this.isTrain(this.seams[number].shard) === train).length,
      );
    return {
      count: total(true),
      validation: total(false),
      seams: this.seams !== null,
      hits: new Hits(this, query, held, over, total(true) > MOST),
    };
  }

  isTrain(shard) {
    return this.parts[shard].split === "train";
  }

  // The piece that holds a token of a shard.
  pieceAt(shard, token) {
    const held = ({ entry }) => entry.shard === shard && entry.start <= token && token < entry.stop;
    const piece = this.pieces.find(held);
    if (!piece) throw new Unread("The site's data name a token that no shard has.");
    return piece;
  }

  // The piece and the token that follow the end of a document in its stream.
  following(shard, end) {
    let at = shard;
    if (end === this.parts[shard].tokens) {
      const { source, split } = this.parts[shard];
      const next = (part, number) =>
        number > shard && part.source === source && part.split === split;
      [at, end] = [this.parts.findIndex(next), 0];
    }
    const piece = this.pieceAt(at, end);
    return [piece, end - piece.entry.start];
  }

  table({ part }) {
    return this.reader.file(`data/shards/${part.documents_file}`, part.documents * ROW);
  }

  // Where the rows of a piece's documents lie in the table.
  rows({ entry }) {
    return [entry.first * ROW, entry.last * ROW];
  }

  // What the site's data tell of a document.
  async document(index) {
    const number = Math.floor(index / this.about.documents_per_pack);
    if (!this.packs.has(number)) {
      if (this.packs.size >= KEPT) this.packs.delete(this.packs.keys().next().value);
      this.packs.set(number, this.pack(number));
    }
    const pack = await this.packs.get(number);
    const at = index - pack.first;
    if (!(at >= 0 && at < pack.count)) {
      throw new Unread(`The site's data have no document ${count(index)}.`);
    }
    return pack.document(at);
  }

  async pack(number) {
    const name = numbered("documents", number);
    const known = cache.has(name);
    const size = (await load(name)).reduce((sum, piece) => sum + piece.length, 0);
    if (!known) this.reader.spend(1, size);
    return documentsPack(number);
  }
}

// The places of a text in the order of the documents, looked up as they are asked for.
class Hits {
  constructor(finder, query, held, over, often) {
    this.finder = finder;
    this.query = query;
    this.held = held;
    this.over = over;
    this.often = often; // Then few are looked up.
    this.piece = 0; // The next to look into.
    this.known = [];
  }

  // The next `most` places.
  async next(most) {
    while (this.known.length < most && this.piece < this.held.length) {
      const asked = this.upTo(most - this.known.length);
      const places = await Promise.all(
        asked.map((number) => this.placesIn(number, most - this.known.length)),
      );
      this.known.push(...places.flat());
      this.piece += asked.length;
    }
    const asked = this.known.splice(0, most);
    const { content } = this.query;
    return Promise.all(
      asked.map(({ piece, place, over }) => hitAt(this.finder, piece, content, place, over)),
    );
  }

  // The next pieces, which hold `most` places together.
  upTo(most) {
    const asked = [];
    for (let [at, sum] = [this.piece, 0]; at < this.held.length && sum < most; at += 1) {
      asked.push(at);
      if (this.finder.pieces[at].part.split === "train") sum += this.held[at].count;
    }
    return asked;
  }

  async placesIn(number, wanted) {
    const piece = this.finder.pieces[number];
    if (piece.part.split !== "train") return [];
    const most = this.often ? wanted : MOST;
    const [found, ...over] = await Promise.all([
      placesIn(piece, this.query, this.held[number], most),
      ...this.overIn(piece)
        .slice(0, most)
        .map((at) => this.reach(at)),
    ]);
    const places = over.length ? await settledAll(piece, found) : found;
    return [...places.map((place) => ({ piece, place })), ...over.filter(Boolean)]
      .sort(({ place: one }, { place: other }) => one[0] - other[0] || one[1] - other[1])
      .slice(0, most);
  }

  overIn({ entry }) {
    return this.over.filter(([number]) => {
      const { shard, end } = this.finder.seams[number];
      return shard === entry.shard && entry.start < end && end <= entry.stop;
    });
  }

  async reach([number, size]) {
    const { finder, query } = this;
    const over = await reaching(finder, finder.seams, number, query.content, size);
    return over && { piece: over.piece, place: over.place, over };
  }
}
