// What every page needs: data files, elements, numbers. Classic scripts: pages also work from a
// folder, where browsers forbid modules and reading files. Texts become text nodes, never HTML.
"use strict";

const cache = new Map(); // The data files that were asked for, the last used at the end.
const KEPT = 64;

// Data files call this function: data/NAME.js holds pellucid("NAME", ["BASE64", …]). The page
// itself asks for the first one that it needs.
function pellucid(name, pieces) {
  const script = document.currentScript;
  if (script.wanted === name) script.received(pieces);
  else if (!script.wanted && name === "overview") {
    cache.set(name, Promise.resolve(pieces));
    pieces.text = inflate(pieces[0]); // While the other scripts begin.
  }
}

// The packed pieces of a data file. A live run adds a mark to the address, so that none is stale.
// place: of another run that `pellucid view` shows beside this one: others/N/.
function load(name, place = "") {
  const key = place + name;
  const known = cache.get(key) || requested(name, place);
  cache.delete(key);
  cache.set(key, known);
  if (cache.size > KEPT) cache.delete(cache.keys().next().value);
  return known;
}
load.mark = "";

function requested(name, place) {
  const script = document.createElement("script");
  const address = `${place}data/${name}.js`;
  script.src = `${address}${load.mark ? `?${load.mark}` : ""}`;
  const loaded = received(script, name, place + name, address);
  document.head.append(script);
  return loaded;
}

// What a script hands over that asks for a data file.
function received(script, name, key, address) {
  const loaded = new Promise((resolve, reject) => {
    const failed = (what) => () => {
      if (cache.get(key) === loaded) cache.delete(key);
      reject(new Error(`${address} ${what}`));
    };
    script.wanted = name;
    script.received = resolve;
    script.onload = failed("is not a data file of this site"); // Too late, where it was received.
    script.onerror = failed("is missing");
  });
  return loaded.finally(() => script.remove());
}

// The bytes of a piece, which may be packed behind others.
async function unpacked(base64, before = []) {
  const letters = atob(base64);
  const packed = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at += 1) packed[at] = letters.charCodeAt(at);
  const { readable, writable } = new DecompressionStream("deflate-raw");
  const writer = writable.getWriter();
  const given = [...before, packed].map((part) => writer.write(part));
  const [content] = await Promise.all([
    new Response(readable).arrayBuffer(),
    ...given,
    writer.close(),
  ]);
  return new Uint8Array(content);
}

function decoded(content) {
  // U+FEFF at the beginning of a text is a part of it.
  return new TextDecoder("utf-8", { ignoreBOM: true, fatal: true }).decode(content);
}

async function inflate(base64) {
  return decoded(await unpacked(base64));
}

// The text of the first piece of a data file.
async function firstText(name, place = "") {
  const pieces = await load(name, place);
  pieces.text ??= inflate(pieces[0]);
  return pieces.text;
}

// The value of a data file of JSON.
async function value(name, place = "") {
  return JSON.parse(await firstText(name, place));
}

// What early.js has got, or waits for: it is unpacked while the other scripts begin. If it is
// missing, the page asks for it again where it needs it, and tells so.
function takeEarly({ name, script, over, pieces }) {
  if (pieces) cache.set(name, Promise.resolve(pieces));
  else if (!over) cache.set(name, received(script, name, name, `data/${name}.js`));
  if (cache.has(name)) firstText(name).catch(() => {});
}
if (globalThis.early?.name) takeEarly(early);

function numbered(folder, number) {
  return `${folder}/${String(number).padStart(5, "0")}`;
}

// ---- elements ----

const SVG = new Set("svg path line circle rect g polygon title text".split(" "));

// An element: el("a", {href: "x", class: "y"}, "text", other). Strings become text nodes.
function el(tag, attributes, ...children) {
  const made = SVG.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, given] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), given);
    else if (given !== null && given !== undefined && given !== false) {
      made.setAttribute(name, given === true ? "" : given);
    }
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

function table(caption, heads, rows, numeric = []) {
  const kind = (column) => (numeric.includes(column) ? "number" : null);
  return scrolling(
    caption,
    el(
      "table",
      {},
      el("caption", {}, caption),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          heads.map((head, column) => el("th", { scope: "col", class: kind(column) }, head)),
        ),
      ),
      el(
        "tbody",
        {},
        rows.map((row) =>
          el(
            "tr",
            {},
            row.map((cell, column) => el("td", { class: kind(column) }, cell)),
          ),
        ),
      ),
    ),
  );
}

// A table of which a button shows the rows behind the first ones. drawn: makes it with so many.
function shortened(size, most, nouns, drawn) {
  const box = el("div", {}, drawn(most));
  if (size > most) {
    box.append(
      el(
        "button",
        { type: "button", onclick: () => box.replaceChildren(drawn(size)) },
        `Show all ${count(size)} ${nouns}`,
      ),
    );
  }
  return box;
}

// A part that scrolls sideways where it is wider than the window. It says so, and takes the keys.
function scrolling(label, ...children) {
  const box = el("div", { class: "wide", role: "region", "aria-label": label }, ...children);
  new ResizeObserver(() => {
    const wide = box.scrollWidth > box.clientWidth;
    box.classList.toggle("scrolls", wide);
    if (wide) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }).observe(box);
  return box;
}

// Go on with the keyboard, and look, from an element.
function goTo(element) {
  element.tabIndex = -1;
  element.focus({ preventScroll: true });
  // A smooth way would load what lies on it.
  element.scrollIntoView({ behavior: "instant" });
}

function facts(pairs) {
  return el(
    "dl",
    { class: "facts" },
    pairs
      .filter((pair) => pair[1] !== null)
      .map(([name, ...told]) => el("div", {}, el("dt", {}, name), el("dd", {}, ...told))),
  );
}

function idOf(title) {
  return title.toLowerCase().replace(/[^a-z0-9]+/g, "-");
}

function section(title, ...children) {
  const id = idOf(title);
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

// To a row of the batch of a step.
function rowLink(step, row, told) {
  return link(`step.html#${step}:${row}`, told);
}

// Somebody else's text, in a direction of its own. What has no picture gets one: control
// characters, and the marks that change the direction of what follows.
function foreign(told) {
  return el("bdi", {}, ...visible(told));
}

// But for joiners and the selectors of emoji, without which many scripts cannot be read.
const WITHOUT_PICTURE = String.raw`\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}`;
const CONTROLS = String.raw`\u0000-\u0008\u000b-\u001f\u007f-\u009f`;
const JOINERS = String.raw`\u200c\u200d\ufe0e\ufe0f`;
const HIDDEN = new RegExp(`(?![${JOINERS}])[${WITHOUT_PICTURE}${CONTROLS}]`, "u");
const PARTS = new RegExp(`(${HIDDEN.source})`, "u");

function code(letter) {
  return `U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

const SIMPLE = /^[\n\t -~]*$/; // Most texts: the other patterns take long to begin with.

function visible(told) {
  if (SIMPLE.test(told)) return told ? [told] : [];
  return told
    .split(PARTS)
    .filter((part) => part)
    .map((part) => (HIDDEN.test(part) ? el("span", { class: "hidden" }, code(part)) : part));
}

// The same where there are no elements, as in a title.
function plain(told) {
  if (SIMPLE.test(told)) return told;
  return told
    .split(PARTS)
    .map((part) => (HIDDEN.test(part) ? code(part) : part))
    .join("");
}

// A text as one word of a shell; null where a terminal could take a letter of it for a command.
function shellWord(told) {
  return HIDDEN.test(told) || /[\n\t]/.test(told) ? null : `'${told.replaceAll("'", "'\\''")}'`;
}

// ---- numbers ----

// A decimal number with commas between thousands. Browsers' own formats take long to begin with.
function grouped(digits) {
  const [whole, ...rest] = digits.split(".");
  return [whole.replace(/\B(?=(\d{3})+$)/g, ","), ...rest].join(".");
}

function count(number) {
  return grouped(String(Number(number)));
}

// A number with its noun: 1 step, 2 steps.
function counted(number, noun, nouns = `${noun}s`) {
  return `${count(number)} ${Number(number) === 1 ? noun : nouns}`;
}

function decimal(number, digits = 4) {
  if (number === null || number === undefined || Number.isNaN(number)) return "–";
  const size = Math.abs(number);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return number.toExponential(2);
  return grouped(number.toFixed(digits));
}

function bytes(size) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  let at = 0;
  let shown = Number(size);
  while (shown >= 999.95 && at < units.length - 1) {
    shown /= 1000;
    at += 1;
  }
  return `${at ? shown.toFixed(1) : count(shown)} ${units[at]}`;
}

// ---- the page ----

const main = () => document.getElementById("main");

// Whoever is at a field with the keyboard stays there when the page is drawn again.
function show(...children) {
  const held = document.activeElement?.id;
  main().replaceChildren(...children.flat().filter(Boolean));
  if (held) document.getElementById(held)?.focus({ preventScroll: true });
}

// Resolves when the browser has drawn what is there: what comes behind it lies below the window.
function drawnFirst() {
  return new Promise((resolve) => {
    requestAnimationFrame(() => setTimeout(resolve));
    setTimeout(resolve, 250); // A window that nobody sees is not drawn.
  });
}

// What an address asks for is not in this run.
class Nowhere extends Error {}

// What an address asks for is not in this run yet.
class Early extends Error {}

function whole(asked, what) {
  if (!/^\d{1,15}$/.test(asked))
    throw new Nowhere(`There is no ${what} ${plain(asked.slice(0, 80))}.`);
  return Number(asked);
}

function failed(error) {
  if (error instanceof Nowhere) {
    show(
      el("h1", {}, "Nothing is here"),
      el("p", { role: "alert" }, error.message),
      el(
        "p",
        {},
        link("step.html", "The first step"),
        ", ",
        link("document.html", "the documents"),
        ".",
      ),
    );
    return;
  }
  if (error instanceof Early) {
    show(el("h1", {}, "Nothing is here yet"), el("p", { role: "status" }, error.message));
    return;
  }
  show(
    el("h1", {}, "This page cannot be shown"),
    el("p", { role: "alert" }, error.message),
    el("p", {}, "The site may be incomplete. Check it with:"),
    command("pellucid verify ."),
  );
}

// Draw a page: again when its address changes, and while a run goes on when it has new steps. One
// drawing follows the other, so that the page never shows an address that was left.
let redraw = async () => {};

async function page(draw) {
  const name = document.title;
  let [busy, again, drawn, about] = [false, false, false, null];
  redraw = async () => {
    again = true;
    if (busy) return;
    busy = true;
    main().setAttribute("aria-busy", "true");
    while (again) {
      again = false;
      try {
        about = await value("overview");
        document.getElementById("run").replaceChildren(foreign(about.run));
        document.title = `${name} · ${plain(about.run)}`;
        await draw(about, asked());
        drawn = true;
      } catch (error) {
        // What a page shows of a run stays where the server has ended.
        const expected = error instanceof Nowhere || error instanceof Early;
        if (drawn && about && about.live && !expected) lost();
        else failed(error);
      }
    }
    busy = false;
    main().removeAttribute("aria-busy");
  };
  addEventListener("hashchange", redraw);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // What stands behind # is a step or a document.
    goTo(main());
  });
  await redraw();
  if (about && about.live) follow(about.live);
}

function asked() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    throw new Nowhere("This address is not a valid one.");
  }
}

function lost() {
  document.getElementById("run").classList.add("lost");
}

const LASTING = /^(texts\/|dictionary$)/; // Data that no step changes.
const EVERY = 2000; // Milliseconds between two questions to `pellucid view`.

// mark: of the run as it is drawn, so that no step is missed that came before the first question.
function follow(mark) {
  const ask = async () => {
    if (document.hidden) return; // A page that nobody looks at asks nothing.
    try {
      const answer = await fetch("live");
      if (!answer.ok) return; // Too many pages at once, or a file that is being written.
      const told = await answer.json();
      if (told.mark !== mark) {
        load.mark = told.mark;
        for (const name of [...cache.keys()]) if (!LASTING.test(name)) cache.delete(name);
        await redraw();
      }
      mark = told.mark;
      if (told.ended) clearInterval(timer);
    } catch {
      lost(); // The server has ended.
      clearInterval(timer);
    }
  };
  const timer = setInterval(ask, EVERY);
  ask();
}
