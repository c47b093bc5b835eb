// Where a text that was cut goes on: occurrences that begin in one of its parts and end in a later
// one. The site's data have what stands at either side of each cut; of a longer text, the tokens
// there are read.
"use strict";

const MOST_SEAMS = 1 << 16; // That a page looks through.

// The cuts of a split, in order: [document, shard, end, before, after], where `end` is the token of
// the shard behind the part, and the next part is the next document.
async function seamsOf(about) {
  const packs = Math.ceil(about.seams / about.seams_per_pack);
  if (about.seams > MOST_SEAMS) return null;
  const loaded = Array.from({ length: packs }, (_, number) => value(numbered("seams", number)));
  return (await Promise.all(loaded))
    .flatMap((pack) => pack.seams)
    .map(([document, shard, end, before, next]) => ({
      document,
      shard,
      end,
      before: encoded(before),
      after: encoded(next),
    }));
}

// How many bytes of a text may stand before a cut, by what is at hand.
function* sizesAt(seam, content) {
  const { before, after: behind } = seam;
  const last = before.charCodeAt(before.length - 1);
  for (let size = 1; size < content.length; size += 1) {
    if (content.charCodeAt(size - 1) !== last) continue;
    const rest = content.slice(size, size + behind.length);
    if (
      before.endsWith(content.slice(Math.max(size - before.length, 0), size)) &&
      behind.startsWith(rest)
    )
      yield size;
  }
}

// The cuts that a text goes over, and how many of its bytes stand before each: [number, size], in
// order. What is at hand tells it of a short text; of a longer one the tokens are read.
async function overSeams(finder, seams, content) {
  const near = seams.flatMap((seam, number) =>
    Array.from(sizesAt(seam, content), (size) => [number, size]).reverse(),
  );
  const kept = await Promise.all(
    near.map(([number, size]) => {
      const { before, after: behind } = seams[number];
      if (size <= before.length && content.length - size <= behind.length) return true;
      return reaching(finder, seams, number, content, size);
    }),
  );
  return near.filter((_, at) => kept[at]);
}

// Where a text goes over a cut, with `size` of its bytes before it: the place it begins at, and
// the parts that follow, each with how many bytes of it lie in that part. Null where it does not.
async function reaching(finder, seams, number, content, size) {
  const { document, shard, end } = seams[number];
  const piece = finder.pieceAt(shard, end - 1);
  const begin = await textBefore(piece, end - piece.entry.start, size);
  if (!begin?.text.endsWith(content.slice(0, size))) return null;
  let left = content.slice(size);
  const parts = [];
  for (let next = number; seams[next]?.document === document + next - number; next += 1) {
    const [following, first] = finder.following(seams[next].shard, seams[next].end);
    const head = await textBehind(following, first + 1, left.length);
    parts.push({ document: seams[next].document + 1, piece: following, first, size: head.length });
    if (head === left) return { document, piece, place: begin.place, size, parts };
    if (!head || !left.startsWith(head)) return null;
    left = left.slice(head.length);
  }
  return null;
}

// The last `size` bytes before a token of a piece, and where they begin: [token, offset], or
// [byte, 0]. Null where the document is shorter.
async function textBefore(piece, end, size) {
  if (piece instanceof TextPiece) {
    const place = (await piece.begin(end)) - size;
    const text = place < 0 ? SEPARATOR : await piece.text(place, place + size);
    return text.includes(SEPARATOR) ? null : { text, place: [place, 0] };
  }
  let [token, text] = [Math.max(end - size, 0), ""];
  await piece.shard.ready([piece.span(token, end)]);
  for (token = end; text.length < size && token > 0;) {
    token -= 1;
    text = piece.word(token) + text;
    if (text.startsWith(SEPARATOR)) return null;
  }
  if (text.length < size) return null;
  return { text, place: [token, text.length - size] };
}

// Up to `size` bytes from a token of a piece on, in its document.
async function textBehind(piece, token, size) {
  const from = piece instanceof TextPiece ? await piece.begin(token) : token;
  const own = await piece.text(from, Math.min(from + size, piece.size));
  return own.split(SEPARATOR, 1)[0].slice(0, size);
}
