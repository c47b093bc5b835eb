// Which places of the training texts hold a text, as `pellucid where` tells them: from the files of
// the release, by ranges. A text stands in tokens in three ways: docs/adr/0019-index.md.
"use strict";

const MOST = 1000; // Places of a text that are all looked up; of one with more the first few.
const FEW = 2000; // Suffixes among which a token is looked for; of more, the text is read.
const MANY = 300; // Suffixes before each of which a token is read; of more, fewer are found first,
const HEADS = 400; // by so many tokens at most.
const SCAN = 1 << 14; // Tokens that are read at once, to begin with.
const MOST_SCAN = 1 << 20;

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
// begin with it, what crossing tells, and tokens that hold it.
async function heldBy(piece, query) {
  if (piece instanceof TextPiece) {
    const [low, high] = await piece.between(query.content);
    return { count: high - low, low, high, cuts: [], inside: [] };
  }
  const [[low, high], inside, ...cuts] = await Promise.all([
    piece.between(query.content),
    insideTokens(piece, query),
    ...query.cuts.map((size) => crossing(piece, query.content, size)),
  ]);
  const over = cuts.reduce((sum, { near, places }) => sum + near.length + places.length, 0);
  const within = inside.reduce((sum, [, , times]) => sum + times, 0);
  return { count: high - low + over + within, low, high, cuts, inside };
}

// [token, offset, how often] of the tokens in the piece that hold a text behind their first byte.
async function insideTokens(piece, query) {
  const { counts } = piece;
  await counts.ready(query.inside.map(([id]) => [id * 4, id * 4 + 4]));
  return query.inside
    .map(([id, offset]) => [id, offset, counts.number(id * 4, 4)])
    .filter(([, , times]) => times > 0);
}

// Where the first `size` bytes of a text end a token that begins before it, and the others follow:
// places, [token, offset]; and near, suffixes that stand behind such tokens by the byte before them
// alone, which is told of tokens of two bytes and more.
async function crossing(piece, content, size) {
  const tail = content.slice(size);
  const [from, to, sure] = await suffixesOf(piece, tail);
  if (from === to) return { near: [], places: [] };
  await Promise.all([
    piece.before.ready([[from, to]]),
    to - from <= 8 * KEY_EVERY ? piece.placesReady(from, to) : null,
  ]);
  const last = content.charCodeAt(size - 1);
  const before = piece.before.slice(from, to);
  const [near, open] = [[], []];
  for (let at = 0; at < before.length; at += 1) {
    if (before[at] !== last) continue;
    const known = size === 1 && sure[0] <= from + at && from + at < sure[1];
    (known ? near : open).push(from + at);
  }
  const head = content.slice(0, size);
  const asked = open.length > MANY ? await behindTokens(piece, open, head, tail) : open;
  return { near, places: await following(piece, asked, sure, tail, head) };
}

// The suffixes [from, to) that may begin with a string, and those that do by the keys alone. What
// lies between the two is told by the bytes before it sooner than by comparing.
async function suffixesOf(piece, tail) {
  const { low, high } = await piece.bounds(tail);
  const sure = [low[1], Math.max(low[1], high[0])];
  const open = high[1] - low[0] - (sure[1] - sure[0]);
  if (tail.length <= KEY && open <= 2 * KEY_EVERY) return [low[0], high[1], sure];
  const exact = await piece.between(tail);
  return [...exact, exact];
}

// Of many suffixes those before which a token may end with `head`: where such a token and the tail
// stand together, as the keys tell, and a suffix among these begins one token before.
async function behindTokens(piece, open, head, tail) {
  const ids = piece.words.ending(head);
  await piece.counts.ready(ids.map((id) => [id * 4, id * 4 + 4]));
  const there = ids.filter((id) => piece.counts.number(id * 4, 4));
  if (there.length > HEADS) return open;
  const bounds = await Promise.all(there.map((id) => piece.bounds(piece.words.words[id] + tail)));
  const spans = bounds.map(({ low, high }) => [low[0], high[1]]);
  await Promise.all([
    piece.positions.ready(open.map((at) => [at * piece.width, (at + 1) * piece.width])),
    ...spans.map((span) => piece.placesReady(...span)),
  ]);
  const begun = new Set();
  for (const [from, to] of spans) {
    for (let at = from; at < to; at += 1) begun.add(piece.placeAt(at));
  }
  return open.filter((at) => begun.has(piece.placeAt(at) - 1));
}

// Of some suffixes the places before which a token ends with `head`, and behind it `tail` follows.
async function following(piece, near, sure, tail, head) {
  const places = await placesBefore(piece, near);
  const kept = await Promise.all(
    places.map((place, at) => {
      if (!piece.words.ends(piece.id(place - 1), head)) return false;
      if (sure[0] <= near[at] && near[at] < sure[1]) return true;
      return piece.comparePlace(place, tail).then((order) => order === 0);
    }),
  );
  return places
    .filter((_, at) => kept[at])
    .map((place) => [place - 1, piece.word(place - 1).length - head.length]);
}

// Where a piece holds a text, in order, the first `most` places: [token, offset], or of a piece
// that keeps its text [byte, 0].
async function placesIn(piece, query, held, most) {
  if (!held.count) return [];
  const wanted = Math.min(held.count, most);
  const within = held.count <= MOST ? await insidePlaces(piece, held.inside) : null;
  if (!within) return scanned(piece, query.content, wanted);
  const [begun, behind] = await Promise.all([
    piece.places(held.low, held.high),
    placesBehind(
      piece,
      held.cuts.flatMap(({ near }) => near),
    ),
  ]);
  return [begun.map((place) => [place, 0]), behind, held.cuts.flatMap((cut) => cut.places), within]
    .flat()
    .sort((one, other) => one[0] - other[0] || one[1] - other[1])
    .slice(0, wanted);
}

// The last bytes of the tokens before some suffixes.
async function placesBehind(piece, near) {
  const places = await placesBefore(piece, near);
  return places.map((place) => [place - 1, piece.word(place - 1).length - 1]);
}

// Where some suffixes begin, with the token before each read. Throws Unread where there is none.
async function placesBefore(piece, near) {
  if (!near.length) return [];
  await piece.positions.ready(near.map((at) => [at * piece.width, (at + 1) * piece.width]));
  const places = near.map((at) => piece.placeAt(at));
  if (places.includes(0)) throw new Unread(`${piece.before.path} is not that of its tokens.`);
  await piece.shard.ready(places.map((place) => piece.span(place - 1, place)));
  return places;
}

// The places inside tokens; null where too many other tokens begin as these do.
async function insidePlaces(piece, inside) {
  const ids = [...new Set(inside.map(([id]) => id))];
  if (ids.length > WIDE) return null;
  const ranges = await Promise.all(ids.map((id) => piece.between(piece.words.words[id])));
  if (ranges.some(([low, high]) => high - low > FEW)) return null;
  const places = (await Promise.all(ranges.map((range) => piece.places(...range)))).flat();
  if (places.length) await piece.shard.ready(places.map((place) => piece.span(place, place + 1)));
  return [...new Set(places)].flatMap((place) =>
    inside.filter(([id]) => id === piece.id(place)).map(([, offset]) => [place, offset]),
  );
}

// The first places of a text that stands there often, by reading from the beginning.
async function scanned(piece, content, most) {
  const places = [];
  for (let [from, size] = [0, SCAN]; from < piece.size && places.length < most;) {
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
