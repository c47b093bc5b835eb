// What is told of a place of a text: its document, the character it begins at, the steps that
// trained on it, and what stands around it.
"use strict";

const WIDTH = 160; // Bytes of context on either side.
const BEHIND = 64; // Bytes of it behind a text that goes over a cut.
const EARLIER = 2048; // Tokens, or bytes, before a place that are read with it.
const ROW = 32; // Bytes of a row of a document table.
const GUESSED = 128; // Rows of it on either side of where one is looked for.
const ANCHORS = 4; // Segments that are tried as the place from which characters are counted.

// found: [token, offset], or [byte, 0]; over: what seams.js tells of a text that goes over a cut.
async function hitAt(finder, piece, content, found, over = null) {
  const size = over ? over.size : content.length;
  const held = documentAt(finder, piece, found).then(async ([index, begin]) => [
    index,
    begin,
    await finder.document(index),
  ]);
  // The character of a place is counted from the beginning of a segment, which seldom lies further
  // before it.
  const before = Math.max(found[0] - EARLIER, 0);
  const behind = Math.min(found[0] + size + WIDTH + 1, piece.size);
  const [[index, begin, own]] = await Promise.all([held, piece.textReady(before, behind)]);
  const place = settled(piece, found);
  const [[first, last], around] = await Promise.all([
    tokensAt(piece, place, size),
    contextOf(piece, place, content, over),
  ]);
  const end = over ? Infinity : last - begin;
  const steps = [own, ...(await partsOf(finder, over))].flatMap((part, number) =>
    number ? covering(part.own, 0, part.last) : covering(part, first - begin, end),
  );
  const offset = await characterOf(piece, own, begin, first, place);
  const characters = begun(over ? content.slice(0, over.size) : content);
  return {
    document: own.id,
    index,
    source: own.source,
    licence: own.licence,
    origin: own.origin,
    date: own.date,
    offset,
    end: offset + characters, // In this document.
    context: around,
    steps: sorted(steps),
  };
}

// The tokens of the piece in which some bytes begin and end.
async function tokensAt(piece, [place, offset], size) {
  if (piece instanceof TextPiece) {
    return Promise.all([piece.tokenOf(place, true), piece.tokenOf(place + size - 1)]);
  }
  await piece.text(place, Math.min(place + offset + size, piece.size));
  let last = place;
  for (let left = offset + size; (left -= piece.word(last).length) > 0;) last += 1;
  return [place, last];
}

// The later parts that a text over a cut reaches, each with the last of its tokens that it does.
function partsOf(finder, over) {
  return Promise.all(
    (over?.parts || []).map(async ({ document, piece, first, size }) => {
      const place = piece instanceof TextPiece ? (await piece.begin(first)) + 1 : first + 1;
      const [, last] = await tokensAt(piece, [place, 0], size);
      return { own: await finder.document(document), last: last - first };
    }),
  );
}

// The number of the document of a place, and where it begins in the piece.
async function documentAt(finder, piece, [place]) {
  const token = piece instanceof TextPiece ? await piece.tokenOf(place, true) : place;
  const { first, start } = piece.entry;
  const table = finder.table(piece);
  const rows = await rowsBefore(finder, piece, start + token);
  const row = rows - 1;
  await table.ready(row >= first ? [[row * ROW, rows * ROW]] : []);
  const [index, begin] = [0, 8].map((column) => table.number(row * ROW + column, 8));
  if (!(row >= first && begin >= start && index < finder.documents)) {
    throw new Unread(`${table.path} is not the table of this index's documents.`);
  }
  return [index, begin - start];
}

// How many documents of the shard begin at a token or before it. Those of a piece are about equally
// long, together: the place of the token in the piece tells where in the table to look first.
async function rowsBefore(finder, piece, token) {
  const { first, last, start, stop } = piece.entry;
  const table = finder.table(piece);
  const begin = (row) => table.number(row * ROW + 8, 8);
  const guess = first + Math.floor(((token - start) / (stop - start)) * (last - first));
  const [from, to] = finder.early
    ? [first, last]
    : [Math.max(guess - GUESSED, first), Math.min(guess + GUESSED, last)];
  await table.ready([[from * ROW, to * ROW]]);
  const rows = below(from, to, (row) => begin(row) <= token);
  if ((rows > from || from === first) && (rows < to || to === last)) return rows;
  return ranked(table, ROW, last, (other) => other <= token, 8, 8);
}

// The times that steps trained on some of a document's tokens [first, last].
function covering(own, first, last) {
  return own.times
    .filter((time) => !time.branch && time.first <= last && first < time.first + time.tokens)
    .map((time) => [time.step, time.row]);
}

function sorted(steps) {
  const once = new Map(steps.map((time) => [time.join(":"), time]));
  return [...once.values()].sort((one, other) => one[0] - other[0] || one[1] - other[1]);
}

// The character of its document at which a place lies: counted from the beginning of the nearest
// segment that some step trained on, whose character the site's data have.
async function characterOf(piece, own, begin, token, place) {
  const anchors = own.times
    .filter((time) => time.first > 0 && begin + time.first <= token)
    .sort((one, other) => other.first - one.first)
    .slice(0, ANCHORS)
    .map((time) => [time.first, time.begin]);
  for (const [from, character] of [...anchors, [1, 0]]) {
    const text = await textUpTo(piece, begin, from, place);
    // Of a token that begins inside a character, characters are counted in two ways.
    if (from === 1 || !/^[\x80-\xbf]/.test(text)) return character + begun(text) - 1;
  }
  return NaN;
}

// The text of a document from one of its tokens on, up to the first byte of a place.
async function textUpTo(piece, begin, from, [place, offset]) {
  if (piece instanceof TextPiece) {
    const first = from === 1 ? (await piece.begin(begin)) + 1 : await piece.begin(begin + from);
    return piece.text(first, place + 1);
  }
  const token = begin + from;
  await piece.text(token, place + 1);
  return piece.spelled(token, place) + piece.word(place).slice(0, offset + 1);
}

// What stands before a text, the text, and what stands behind it, in its document.
async function contextOf(piece, [place, offset], content, over) {
  const from = Math.max(place - WIDTH, 0);
  const size = over ? over.size : content.length;
  const to = Math.min(place + size + WIDTH + 1, piece.size);
  const text = await piece.text(from, to);
  const at = piece instanceof TextPiece ? place - from : piece.spelled(from, place).length + offset;
  const before = text.slice(0, at).split(SEPARATOR).at(-1).slice(-WIDTH);
  const behind = over ? await behindOf(over) : text.slice(at + size).split(SEPARATOR, 1)[0];
  return [readable(before), readable(content), readable(behind.slice(0, WIDTH))];
}

async function behindOf(over) {
  const { piece, first, size } = over.parts.at(-1);
  return (await textBehind(piece, first + 1, size + BEHIND)).slice(size);
}
