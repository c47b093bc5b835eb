// Packs of steps, documents and texts: columns of numbers become what a page draws.
"use strict";

const LOSS = 1000; // Parts of a nat in which packs tell losses.

// Every number of a column of differences.
function summed(column) {
  let sum = 0;
  return column.map((one) => (sum += one));
}

// The rows of some columns: {a: [1, 2], b: [3, 4]} as [{a: 1, b: 3}, {a: 2, b: 4}].
function rowsOf(columns) {
  const names = Object.keys(columns);
  return (columns[names[0]] || []).map((_, row) =>
    Object.fromEntries(names.map((name) => [name, columns[name][row]])),
  );
}

// Hands out parts of a list, one after the other.
function cut(list) {
  let at = 0;
  return (size) => list.slice(at, (at += size));
}

// ---- steps ----

async function stepsPack(number) {
  const [packed, digests] = await load(numbered("steps", number));
  const [pack, content] = [JSON.parse(await inflate(packed)), await unpacked(digests)];
  const rows = rowsOf({
    ...pack.rows,
    step: summed(pack.rows.step),
    row: summed(pack.rows.row),
    source: pack.rows.source.map((one) => pack.sources[one]),
  });
  const segments = rowsOf({ ...pack.segments, document: summed(pack.segments.document) });
  const places = placesOf(pack);
  const documents = new Map();
  for (const { document } of segments) {
    if (documents.has(document)) continue;
    const at = documents.size;
    const { id, licence } = pack.documents;
    documents.set(document, { id: id[at], licence: pack.licences[licence[at]], ...places[at] });
  }
  const nextSegments = cut(segments);
  for (const row of rows) {
    row.segments = nextSegments(row.segments);
    // The last one tells how many more tokens it has than the row has left.
    const last = row.segments[row.segments.length - 1];
    if (last) last.tokens += row.tokens - row.segments.slice(0, -1).reduce(tokensOf, 0);
    for (const one of row.segments) {
      one.end = one.begin + one.length;
      one.loss = one.loss === null ? NaN : one.loss / LOSS;
    }
  }
  return { rows, documents, entries: entriesOf(pack, content) };
}

function tokensOf(sum, segment) {
  return sum + segment.tokens;
}

// The mean loss of what some segments read; NaN where one of their losses is not finite.
function meanLoss(segments) {
  const sum = segments.reduce((before, one) => before + one.loss * one.tokens, 0);
  return sum / segments.reduce(tokensOf, 0);
}

// The entries of the ledger, with their digests. Marks stand for bytes of their own.
function entriesOf(pack, content) {
  const next = cut(Array.from(content, (byte) => byte.toString(16).padStart(2, "0")));
  const digits = (size) => next(size).join("");
  let before = "";
  return pack.entries.map(([shape, ...values]) => {
    const own = digits(32);
    const stood = values.map((value) => {
      if (value === true) return before;
      return value === null ? digits(32) : value === false ? digits(8) : value;
    });
    before = own;
    const body = Object.fromEntries(pack.keys[shape].map((name, at) => [name, stood[at]]));
    return { digest: own, body };
  });
}

// The number whose bits an entry tells in hex.
function ofBits(bits) {
  return new DataView(BigUint64Array.of(BigInt(`0x${bits}`)).buffer).getFloat64(0, true);
}

// ---- documents ----

async function documentsPack(number) {
  const pack = await value(numbered("documents", number));
  const places = placesOf(pack);
  const nextTimes = cut(rowsOf(pack.times));
  const documents = rowsOf(pack.documents).map((own, at) => ({
    ...own,
    ...places[at],
    source: pack.sources[own.source],
    split: pack.splits[own.split],
    licence: pack.licences[own.licence],
    origin: own.origin ?? own.id.slice(pack.sources[own.source].length + 1),
    bytes: own.characters + own.bytes,
    times: timesOf(own, nextTimes(own.times)),
  }));
  return { first: pack.first, documents };
}

// In the order of steps. Packs have them in the order of places.
function timesOf(own, times) {
  let [before, tokensBefore] = [0, 0];
  for (const time of times) {
    time.first += tokensBefore;
    tokensBefore = time.first + time.tokens;
    time.begin += before;
    time.end = before = own.characters - time.left;
    time.loss = time.loss === null ? NaN : time.loss / LOSS;
  }
  return times.sort((a, b) => a.step - b.step || a.row - b.row || a.begin - b.begin);
}

// ---- texts ----

const PIECE = 8192; // Characters. Positions count code points, as the record does.
const APART = 3; // Bytes between two pieces of a file.

// Of each document of a pack where its pieces lie: {from: the first one's number, at: [{pack,
// piece, first, size}, …]}. Without first and size the pack is read whole.
function placesOf(pack) {
  if (!pack.documents.pieces) return [];
  const columns = { pack: summed(pack.pieces.pack), piece: summed(pack.pieces.piece) };
  if (pack.pieces.size) {
    columns.size = pack.pieces.size;
    let end = 0;
    columns.first = pack.pieces.gap.map((gap, at) => {
      const first = end + gap;
      end = first + columns.size[at] + APART;
      return first;
    });
  }
  const next = cut(rowsOf(columns));
  return pack.documents.pieces.map((size, at) => ({
    from: pack.documents.from[at],
    at: next(size),
  }));
}

// The characters [begin, end) of a document.
async function text(place, begin, end) {
  if (begin >= end) return "";
  const first = Math.floor(begin / PIECE);
  const wanted = place.at.slice(first - place.from, Math.floor((end - 1) / PIECE) + 1 - place.from);
  const runs = ranged.refused || !location.protocol.startsWith("http") ? [] : runsOf(wanted);
  const reads = runs.length ? runs.map(ranged) : wanted.map(pieceOf);
  const [before, ...packed] = await Promise.all([dictionary(), ...reads]);
  const texts = packed
    .flat()
    .map(async (piece) => decoded((await unpacked(piece, before)).subarray(before[1].length)));
  const letters = Array.from((await Promise.all(texts)).join(""));
  return letters.slice(begin - first * PIECE, end - first * PIECE).join("");
}

// What stands before every piece, as a block of DEFLATE: its head, and its bytes.
async function dictionary() {
  const pieces = await load("dictionary");
  if (dictionary.of !== pieces) {
    dictionary.of = pieces;
    dictionary.made = unpacked(pieces[0]).then((content) => {
      const [low, high] = [content.length & 255, content.length >> 8];
      return [Uint8Array.of(0, low, high, 255 - low, 255 - high), content];
    });
  }
  return dictionary.made;
}

// Pieces that follow each other in a file are read together; nothing where their places are not
// known.
function runsOf(wanted) {
  const runs = [];
  for (const { pack, first, size } of wanted) {
    if (!size) return [];
    const last = runs[runs.length - 1];
    if (last && last.pack === pack && last.end + APART === first) last.end = first + size;
    else runs.push({ pack, first, end: first + size });
  }
  return runs;
}

async function ranged({ pack, first, end }) {
  const name = numbered("texts", pack);
  const response = await fetch(`data/${name}.js`, {
    headers: { Range: `bytes=${first}-${end - 1}` },
  });
  if (!response.ok) throw new Error(`data/${name}.js is missing`);
  ranged.refused = response.status !== 206; // A host that sends the file whole is asked once.
  const body = await response.text();
  return (ranged.refused ? body.slice(first, end) : body).split('","');
}
ranged.refused = false;

async function pieceOf({ pack, piece }) {
  return (await load(numbered("texts", pack)))[piece];
}
