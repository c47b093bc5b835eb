// Packs of steps, documents and texts: columns of numbers become what a page draws.
"use strict";

const LOSS = 1000; // Parts of a nat in which packs tell losses.

// Every number of a column of differences.
function summed(column) {
  let sum = 0;
  return column.map((one) => (sum += one));
}

// The rows [from, to) of some columns: {a: [1, 2], b: [3, 4]} as [{a: 1, b: 3}, {a: 2, b: 4}].
function rowsOf(columns, from = 0, to = Infinity) {
  const names = Object.keys(columns);
  return (columns[names[0]] || [])
    .slice(from, to)
    .map((_, row) => Object.fromEntries(names.map((name) => [name, columns[name][from + row]])));
}

// Hands out parts of a list, one after the other.
function cut(list) {
  let at = 0;
  return (size) => list.slice(at, (at += size));
}

// ---- steps ----

// What a pack tells of one of its steps: {rows, documents, entries}. first: the run's first step.
async function stepOf(number, step, first) {
  const name = numbered("steps", number);
  const [text, content] = await Promise.all([
    firstText(name),
    load(name).then((pieces) => unpacked(pieces[1])),
  ]);
  const pack = JSON.parse(text);
  const steps = summed(pack.rows.step);
  const [from, to] = [steps.indexOf(step), steps.lastIndexOf(step) + 1];
  const columns = { ...pack.rows, step: steps, row: summed(pack.rows.row) };
  const rows = from < 0 ? [] : rowsOf(columns, from, to);
  const document = summed(pack.segments.document);
  const count = (sum, segments) => sum + segments;
  let begin = pack.rows.segments.slice(0, Math.max(from, 0)).reduce(count, 0);
  for (const row of rows) {
    const end = begin + row.segments;
    row.source = pack.sources[row.source];
    row.segments = rowsOf({ ...pack.segments, document }, begin, end);
    begin = end;
    // The last one tells how many more tokens it has than the row has left.
    const last = row.segments[row.segments.length - 1];
    if (last) last.tokens += row.tokens - row.segments.slice(0, -1).reduce(tokensOf, 0);
    for (const one of row.segments) {
      one.end = one.begin + one.length;
      one.loss = one.loss === null ? NaN : one.loss / LOSS;
    }
  }
  return {
    rows,
    documents: documentsOf(pack, document),
    entries: entriesOf(pack, content, (own) => (own ?? first) === step),
  };
}

// The documents of a pack of steps by their numbers, which come in the order of the segments.
function documentsOf(pack, numbers) {
  const places = placesOf(pack);
  const { id, licence } = pack.documents;
  return new Map(
    [...new Set(numbers)].map((number, at) => [
      number,
      { id: id[at], licence: pack.licences[licence[at]], ...places[at] },
    ]),
  );
}

function tokensOf(sum, segment) {
  return sum + segment.tokens;
}

// The mean loss of what some segments read; NaN where one of their losses is not finite.
function meanLoss(segments) {
  const sum = segments.reduce((before, one) => before + one.loss * one.tokens, 0);
  return sum / segments.reduce(tokensOf, 0);
}

// Entries of the ledger, with their digests: those of the steps that are wanted. Marks stand for
// bytes of their own.
function entriesOf(pack, content, wanted) {
  const entries = [];
  let [at, before] = [0, -32];
  const digits = (from, size) =>
    Array.from(content.subarray(from, from + size), (byte) =>
      byte.toString(16).padStart(2, "0"),
    ).join("");
  for (const [shape, ...values] of pack.entries) {
    const [own, names] = [at, pack.keys[shape]];
    at += 32;
    const places = values.map((value) => {
      const place = at;
      at += value === null ? 32 : value === false ? 8 : 0;
      return place;
    });
    if (wanted(values[names.indexOf("step")])) {
      const stood = values.map((value, number) => {
        if (value === true) return digits(before, 32);
        if (value === null) return digits(places[number], 32);
        return value === false ? digits(places[number], 8) : value;
      });
      const body = Object.fromEntries(names.map((name, number) => [name, stood[number]]));
      entries.push({ digest: digits(own, 32), body });
    }
    before = own;
  }
  return entries;
}

// The number whose bits an entry tells in hex.
function ofBits(bits) {
  return new DataView(BigUint64Array.of(BigInt(`0x${bits}`)).buffer).getFloat64(0, true);
}

// ---- documents ----

// A pack of documents: {first, count, document}, of which the last tells one by its place.
async function documentsPack(number) {
  const pack = await value(numbered("documents", number));
  const places = placesOf(pack);
  const ends = summed(pack.documents.times);
  const document = (at) => {
    const [own] = rowsOf(pack.documents, at, at + 1);
    const source = pack.sources[own.source];
    return {
      ...own,
      ...places[at],
      source,
      split: pack.splits[own.split],
      licence: pack.licences[own.licence],
      origin: own.origin ?? own.id.slice(source.length + 1),
      bytes: own.characters + own.bytes,
      times: timesOf(own, rowsOf(pack.times, ends[at] - own.times, ends[at])),
    };
  };
  return { first: pack.first, count: ends.length, document };
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
