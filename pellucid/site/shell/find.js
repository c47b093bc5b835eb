// Which places of the training texts hold a text, as `pellucid where` tells them: from the files of
// the release, by ranges. A text stands in tokens in three ways: docs/adr/0019-index.md.
"use strict";

const MOST = 1000; // Places of a text that are all looked up; of one with more the first few.
const FEW = 2000; // Suffixes among which a token is looked for; of more, the text is read.
const LISTED = 20000; // Places of which all positions are read; of more, the text is read.
const OFTEN = 1024; // Suffixes of which so many may begin alike that tokens are looked for first.
const MANY = 64; // Suffixes before each of which a token is read; of more, few are left first,
const HEADS = 400; // by so many tokens at most; of more than these here, those of the piece.
const LISTED_HEADS = 32;
const EDGES = 24; // Suffixes that are read rather than that two rounds decide.
const SCAN = 1 << 14; // Tokens that are read at once, to begin with.
const MOST_SCAN = 1 << 20;
const CUT = 2 ** 40; // Stands before how many bytes of a place lie in the token that it begins in.

// A text that is asked for, with what the vocabulary alone tells of it.
class Query {
  constructor(text, words) {
    this.content = encoded(text);
    this.cuts = []; // How many bytes of it may end a token that begins before it.
    this.inside = []; // Tokens that hold it behind their first byte, and where.
    if (!words) return;
    for (let size = 1; size < Math.min(this.content.length, words.longest); size += 1) {
      if (words.ending(this.content.slice(0, size)).length) this.cuts.push(size);
    }
    this.inside = words.holding(this.content);
  }
}

// What a piece holds of a text: how often (count), and for `placesIn` the suffixes [low, high) that
// begin with it, what crossing tells, and tokens that hold it, with where these may be found.
async function heldBy(piece, query) {
  if (piece instanceof TextPiece) {
    const [low, high] = await piece.between(query.content);
    return { count: high - low, low, high, cuts: [], inside: [], ranges: [] };
  }
  const [[low, high], inside, ranges, ...cuts] = await Promise.all([
    piece.between(query.content),
    insideTokens(piece, query),
    insideRanges(piece, query),
    ...query.cuts.map((size) => crossing(piece, query.content, size)),
  ]);
  const over = cuts.reduce((sum, { near }) => sum + near.length, 0);
  const within = inside.reduce((sum, [, , times]) => sum + times, 0);
  return { count: high - low + over + within, low, high, cuts, inside, ranges };
}

// [token, offset, how often] of the tokens in the piece that hold a text behind their first byte.
async function insideTokens(piece, query) {
  const { counts } = piece;
  await counts.ready(query.inside.map(([id]) => [id * 4, id * 4 + 4]));
  return query.inside
    .map(([id, offset]) => [id, offset, counts.number(id * 4, 4)])
    .filter(([, , times]) => times > 0);
}

// The suffixes that begin with each of these tokens; null where it is easier to read the text.
async function insideRanges(piece, query) {
  const ids = [...new Set(query.inside.map(([id]) => id))];
  if (ids.length > WIDE) return null;
  const words = ids.map((id) => piece.words.words[id]);
  const bounds = await Promise.all(words.map((word) => piece.bounds(word)));
  if (bounds.some(({ low, high }) => high[0] - low[1] > LISTED)) return null;
  return Promise.all(words.map(async (word, at) => [ids[at], ...(await piece.between(word))]));
}

// Where the first `size` bytes of a text end a token that begins before it, and the others follow:
// the suffixes behind such tokens (near). The byte before each leaves few to look at. Of a head of
// one byte it is the answer, for that byte is told of tokens of two bytes and more.
async function crossing(piece, content, size) {
  const [head, tail] = [content.slice(0, size), content.slice(size)];
  const [from, to, sure] = await suffixesOf(piece, tail);
  const isSure = (at) => sure[0] <= at && at < sure[1];
  const early = size > 1 && sure[1] - sure[0] > OFTEN ? spansBefore(piece, head, tail) : null;
  await Promise.all([
    piece.before.ready([[from, to]]),
    to - from <= NEAR ? piece.placesReady(from, to) : null,
    early,
  ]);
  const before = piece.before.slice(from, to);
  const open = [];
  for (let at = from; at < to; at += 1) {
    if (before[at - from] === head.charCodeAt(size - 1)) open.push(at);
  }
  if (size === 1) return { size, near: await behindByte(piece, open, isSure, tail, head) };
  if (open.filter(isSure).length <= MANY) {
    return { size, near: await following(piece, open, isSure, tail, head) };
  }
  const spans = await (early || spansBefore(piece, head, tail));
  const [told, asked] = spans ? await behindTokens(piece, open, isSure, spans) : [[], open];
  return { size, near: told.concat(await following(piece, asked, isSure, tail, head)) };
}

// The same of a head of one byte, where the byte before a suffix is known to be that one.
async function behindByte(piece, open, isSure, tail, head) {
  const told = open.filter(isSure);
  const asked = open.filter((at) => !isSure(at));
  if (asked.length <= EDGES) {
    return told.concat(await following(piece, asked, isSure, tail, head));
  }
  const [low, high] = await piece.between(tail);
  return open.filter((at) => low <= at && at < high);
}

// The suffixes [from, to) that may begin with a string, and those that do by the keys alone. What
// lies between the two is told by the bytes before it sooner than by comparing.
async function suffixesOf(piece, tail) {
  const { low, high } = await piece.bounds(tail);
  const sure = [low[1], Math.max(low[1], high[0])];
  const open = high[1] - low[0] - (sure[1] - sure[0]);
  if (open <= 4 * KEY_EVERY) return [low[0], high[1], sure];
  const exact = await piece.between(tail);
  return [...exact, exact];
}

// The suffixes that begin with a token that ends with `head`, and `tail` behind it: as the keys
// tell, [low, high, whether nothing but that token can stand there]. Null of too many tokens.
async function spansBefore(piece, head, tail) {
  let ids = piece.words.ending(head);
  if (ids.length > LISTED_HEADS) {
    await piece.counts.ready(ids.map((id) => [id * 4, id * 4 + 4]));
    ids = ids.filter((id) => piece.counts.number(id * 4, 4));
  }
  if (ids.length > HEADS) return null;
  const words = ids.map((id) => piece.words.words[id]);
  return Promise.all(
    words.map(async (word) => {
      const { low, high } = await piece.bounds(word + tail);
      return { low, high, clear: piece.words.isClear(word, tail, head) };
    }),
  );
}

// Of many suffixes those before which such a token stands: that are told, and that are to be read.
async function behindTokens(piece, open, isSure, spans) {
  await Promise.all([
    piece.positions.ready(open.map((at) => [at * piece.width, (at + 1) * piece.width])),
    ...spans.map(({ low, high }) => piece.placesReady(low[0], high[1])),
  ]);
  const begun = new Map(); // Whether what begins at a place is told.
  for (const { low, high, clear } of spans) {
    for (let at = low[0]; at < high[1]; at += 1) {
      begun.set(piece.placeAt(at), clear && low[1] <= at && at < high[0]);
    }
  }
  const known = (at) => begun.get(piece.placeAt(at) - 1);
  return [
    open.filter((at) => known(at) && isSure(at)),
    open.filter((at) => known(at) !== undefined && !(known(at) && isSure(at))),
  ];
}

// Of some suffixes those before which a token ends with `head`, and that begin with `tail`.
async function following(piece, near, isSure, tail, head) {
  const size = piece.atomsOf(tail.length);
  const places = await placesBefore(piece, near, (at) => (isSure(at) ? 0 : size));
  const kept = await Promise.all(
    places.map((place, at) => {
      if (!piece.words.ends(piece.id(place - 1), head)) return false;
      return isSure(near[at]) || piece.comparePlace(place, tail).then((order) => order === 0);
    }),
  );
  return near.filter((_, at) => kept[at]);
}

// Where some suffixes begin, with the token before each read, and so many behind it. Throws Unread
// where there is none before.
async function placesBefore(piece, near, behind = () => 0) {
  if (!near.length) return [];
  await piece.positions.ready(near.map((at) => [at * piece.width, (at + 1) * piece.width]));
  const places = near.map((at) => piece.placeAt(at));
  if (places.includes(0)) throw new Unread(`${piece.before.path} is not that of its tokens.`);
  await piece.shard.ready(
    places.map((place, at) =>
      piece.span(place - 1, Math.min(place + behind(near[at]), piece.size)),
    ),
  );
  return places;
}

// Where a piece holds a text, in order, the first `most` places: [token, offset], or of a piece
// that keeps its text [byte, 0]. An offset of CUT and less is settled when the token is read.
async function placesIn(piece, query, held, most) {
  if (!held.count) return [];
  const wanted = Math.min(held.count, most);
  const within = held.count <= LISTED ? await insidePlaces(piece, held) : null;
  if (!within) return scanned(piece, query.content, wanted, held.count);
  const [begun, ...cuts] = await Promise.all([
    piece.places(held.low, held.high),
    ...held.cuts.map((cut) => placesCut(piece, cut)),
  ]);
  return [begun.map((place) => [place, 0]), ...cuts, within]
    .flat()
    .sort((one, other) => one[0] - other[0] || one[1] - other[1])
    .slice(0, wanted);
}

// The tokens before some suffixes, in which a text begins. Where in them is told by their lengths.
async function placesCut(piece, { size, near }) {
  await piece.positions.ready(near.map((at) => [at * piece.width, (at + 1) * piece.width]));
  return near.map((at) => [piece.placeAt(at) - 1, CUT - size]);
}

// A place whose token is there, with the offset in it.
function settled(piece, [token, offset]) {
  return [token, offset > CUT / 2 ? piece.word(token).length - (CUT - offset) : offset];
}

async function settledAll(piece, places) {
  if (piece instanceof TextPiece) return places;
  await piece.shard.ready(places.map(([token]) => piece.span(token, token + 1)));
  return places.map((place) => settled(piece, place));
}

// The places inside tokens; null where too many other tokens begin as these do.
async function insidePlaces(piece, { inside, ranges, count: all }) {
  if (!inside.length) return [];
  if (!ranges) return null;
  const spread = ranges.reduce((sum, [, low, high]) => sum + high - low, 0);
  const times = new Map(inside.map(([id, , own]) => [id, own]));
  const alone = spread === [...times.values()].reduce((sum, own) => sum + own, 0);
  if (!alone && (spread > FEW || all > MOST)) return null;
  const places = new Map(); // The token at each place, where no other begins as it does.
  for (const [id, low, high] of ranges) {
    for (const place of await piece.places(low, high)) places.set(place, id);
  }
  const read = alone ? [] : [...places.keys()];
  await piece.shard.ready(read.map((place) => piece.span(place, place + 1)));
  for (const place of read) places.set(place, piece.id(place));
  return [...places].flatMap(([place, own]) =>
    inside.filter(([id]) => id === own).map(([, offset]) => [place, offset]),
  );
}

// The first places of a text that stands there `times` times, by reading from the beginning.
async function scanned(piece, content, most, times) {
  const places = [];
  const first = Math.min(Math.max(SCAN, (8 * most * piece.size) / times), MOST_SCAN);
  for (let [from, size] = [0, Math.ceil(first)]; from < piece.size && places.length < most;) {
    const to = Math.min(from + size, piece.size);
    const text = await piece.text(from, Math.min(to + content.length, piece.size));
    const ends = piece instanceof TextPiece ? null : endsOf(piece, from, to);
    const stop = ends ? ends[ends.length - 1] : to - from;
    let at = text.indexOf(content);
    for (; at >= 0 && at < stop && places.length < most; at = text.indexOf(content, at + 1)) {
      const token = ends ? below(0, ends.length, (number) => ends[number] <= at) : at;
      const begin = ends && token > 0 ? ends[token - 1] : 0;
      places.push(ends ? [from + token, at - begin] : [from + at, 0]);
    }
    [from, size] = [to, Math.min(size * 4, MOST_SCAN)];
  }
  return places;
}

// Where each of the tokens [from, to) ends in their text.
function endsOf(piece, from, to) {
  const ends = new Float64Array(to - from);
  let sum = 0;
  for (let at = from; at < to; at += 1) {
    sum += piece.word(at).length;
    ends[at - from] = sum;
  }
  return ends;
}
