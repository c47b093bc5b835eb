// What every page needs: data files, elements, numbers. Classic scripts: pages also work from a
// folder, where browsers forbid modules and reading files. Texts become text nodes, never HTML.
"use strict";

const waiting = new Map(); // The data files that are on their way: name -> [resolve, reject].
const cache = new Map(); // The opened ones, the last used at the end.
const KEPT = 64;

// Data files call this function: data/NAME.js holds pellucid("NAME", ["BASE64", …]).
function pellucid(name, pieces) {
  const ready = waiting.get(name);
  if (ready) ready[0](pieces);
}

// The packed pieces of a data file. A live run adds a mark to the address, so that none is stale.
function load(name) {
  if (cache.has(name)) {
    const known = cache.get(name);
    cache.delete(name);
    cache.set(name, known);
    return known;
  }
  const loaded = new Promise((resolve, reject) => {
    waiting.set(name, [resolve, reject]);
    const script = document.createElement("script");
    script.src = `data/${name}.js${load.mark ? `?${load.mark}` : ""}`;
    script.onload = () => {
      waiting.delete(name);
      script.remove();
      reject(new Error(`data/${name}.js is not a data file of this site`));
    };
    script.onerror = () => {
      waiting.delete(name);
      script.remove();
      cache.delete(name);
      reject(new Error(`data/${name}.js is missing`));
    };
    document.head.append(script);
  });
  cache.set(name, loaded);
  if (cache.size > KEPT) cache.delete(cache.keys().next().value);
  return loaded;
}
load.mark = "";

async function inflate(base64) {
  const packed = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const opened = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(opened).text();
}

// The value of a data file of JSON.
async function value(name) {
  return JSON.parse(await inflate((await load(name))[0]));
}

function numbered(folder, number) {
  return `${folder}/${String(number).padStart(5, "0")}`;
}

// The characters [begin, end) of a document, whose first piece lies in a pack. Positions count
// code points, as the record does.
const PIECE = 16384;

async function text(place, begin, end) {
  const first = Math.floor(begin / PIECE);
  const last = Math.floor((Math.max(end, begin + 1) - 1) / PIECE);
  const wanted = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  const packed = await Promise.all(wanted.map((number) => pieceOf(place, number)));
  const letters = Array.from((await Promise.all(packed.map(inflate))).join(""));
  return letters.slice(begin - first * PIECE, end - first * PIECE).join("");
}

// A piece of a document's text. From a host a page reads the piece alone, where its place is
// known; else the pack that holds it, and the packs before it from the document's first piece on.
async function pieceOf(place, number) {
  const at = place.at && place.at[number - place.from];
  if (at && !ranged.refused && location.protocol.startsWith("http")) return ranged(...at);
  let [pack, left] = [place.pack, place.piece + number];
  let pieces = await load(numbered("texts", pack));
  while (left >= pieces.length) {
    left -= pieces.length;
    pack += 1;
    pieces = await load(numbered("texts", pack));
  }
  return pieces[left];
}

async function ranged(pack, begin, size) {
  const name = numbered("texts", pack);
  const response = await fetch(`data/${name}.js`, { headers: { Range: `bytes=${begin}-${begin + size - 1}` } });
  if (!response.ok) throw new Error(`data/${name}.js is missing`);
  ranged.refused = response.status !== 206; // A host that sends the file whole is asked once.
  const body = await response.text();
  return ranged.refused ? body.slice(begin, begin + size) : body;
}
ranged.refused = false;

// ---- elements ----

// An element: el("a", {href: "x", class: "y"}, "text", other). Strings become text nodes.
function el(tag, attributes, ...children) {
  const svg = ["svg", "path", "line", "circle", "rect", "g", "polygon", "title", "text"];
  const made = svg.includes(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, given] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), given);
    else if (given !== null && given !== undefined && given !== false) {
      made.setAttribute(name, given === true ? "" : given);
    }
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

function table(caption, heads, rows, numeric = []) {
  const kind = (column) => (numeric.includes(column) ? "number" : null);
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {},
        heads.map((head, column) => el("th", { scope: "col", class: kind(column) }, head)))),
      el("tbody", {}, rows.map((row) => el("tr", {},
        row.map((cell, column) => el("td", { class: kind(column) }, cell)))))));
}

function facts(pairs) {
  return el("dl", { class: "facts" }, pairs.filter((pair) => pair[1] !== null).map(
    ([name, ...told]) => el("div", {}, el("dt", {}, name), el("dd", {}, ...told))));
}

function section(title, ...children) {
  const id = title.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  return el("section", { "aria-labelledby": id }, el("h2", { id }, title), ...children);
}

function command(...lines) {
  return el("pre", { class: "command", tabindex: "0" }, el("code", {}, lines.join("\n")));
}

function digest(hex) {
  return el("code", { class: "digest" }, hex);
}

function link(href, ...children) {
  return el("a", { href }, ...children);
}

function stepLink(step) {
  return link(`step.html#${step}`, `step ${count(step)}`);
}

// Somebody else's text, in a direction of its own. What has no picture gets one: control
// characters, and the marks that change the direction of what follows.
function foreign(told) {
  return el("bdi", {}, ...visible(told));
}

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/u;

function visible(told) {
  const parts = [];
  for (const part of told.split(new RegExp(`(${HIDDEN.source})`, "u"))) {
    if (part.length === 1 && HIDDEN.test(part)) {
      const code = part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      parts.push(el("span", { class: "hidden" }, `U+${code}`));
    } else if (part) parts.push(part);
  }
  return parts;
}

// ---- numbers ----

function count(number) {
  return Number(number).toLocaleString("en");
}

function decimal(number, digits = 4) {
  if (number === null || number === undefined) return "–";
  const size = Math.abs(number);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return number.toExponential(2);
  return number.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function bytes(size) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  let at = 0;
  let shown = Number(size);
  while (shown >= 1000 && at < units.length - 1) {
    shown /= 1000;
    at += 1;
  }
  return `${at ? shown.toFixed(1) : count(shown)} ${units[at]}`;
}

// ---- the page ----

const main = () => document.getElementById("main");

function show(...children) {
  main().replaceChildren(...children.flat().filter(Boolean));
}

function failed(error) {
  show(el("h1", {}, "This page cannot be shown"), el("p", { role: "alert" }, error.message),
    el("p", {}, "The site may be incomplete. Check it with:"), command("pellucid verify ."));
}

function whole(about) {
  document.getElementById("run").replaceChildren(foreign(about.run));
  document.title = `${document.title.split(" · ")[0]} · ${about.run}`;
}

// Draw a page: again when its address changes, and while a run goes on when it has new steps.
async function page(draw) {
  let about;
  const again = async () => {
    try {
      about = await value("overview");
      whole(about);
      await draw(about, decodeURIComponent(location.hash.slice(1)));
    } catch (error) {
      failed(error);
    }
  };
  addEventListener("hashchange", async () => {
    await again();
    scrollTo(0, 0);
  });
  await again();
  if (about && about.live) follow(about, again);
}

const EVERY = 2000; // Milliseconds between two questions to `pellucid view`.

function follow(about, again) {
  let mark = null;
  const ask = async () => {
    if (document.hidden) return; // A page that nobody looks at asks nothing.
    try {
      const told = await (await fetch("live")).json();
      if (mark !== null && told.mark !== mark) {
        load.mark = told.mark;
        for (const name of [...cache.keys()]) if (!name.startsWith("texts/")) cache.delete(name);
        await again();
      }
      mark = told.mark;
      if (told.ended) clearInterval(timer);
    } catch {
      document.getElementById("run").classList.add("lost"); // The server has ended.
      clearInterval(timer);
    }
  };
  const timer = setInterval(ask, EVERY);
  ask();
}
