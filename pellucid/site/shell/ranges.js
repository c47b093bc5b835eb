// Files of the release by ranges. Pages of a file are kept, and what is asked for in one moment is
// asked for together.
"use strict";

const PAGE = 512; // Bytes that are read and kept together.
const GAP = 16; // Pages between two reads that cost less than one more request.
const WHOLE = 4 << 20; // A file of so many bytes is taken whole from a host without ranges.
const BUDGET = 32 << 20; // Bytes that one search may read.
const KEEP = 64 << 20; // Bytes that are kept from one search to the next.
const SLOTS = 32; // Requests at once.

// Why a search has no answer, in words for the reader of the page.
class Unread extends Error {}

class Reader {
  constructor() {
    this.files = new Map();
    this.kept = 0;
    this.free = SLOTS;
    this.queue = [];
    this.stopped = new AbortController();
    this.begin();
  }

  // A search begins.
  begin() {
    this.requests = 0;
    this.bytes = 0;
    if (this.kept > KEEP) {
      for (const file of this.files.values()) file.pages.clear();
      this.kept = 0;
    }
  }

  // Nothing more is read.
  stop() {
    this.stopped.abort();
  }

  // The file at a path of the release, which has so many bytes.
  file(path, size) {
    const known = this.files.get(path);
    if (known && known.size === size) return known;
    const made = new Ranged(this, path, size);
    this.files.set(path, made);
    return made;
  }

  async json(path) {
    const response = await this.fetch(path, {}, 0);
    const content = await body(response, path, WHOLE);
    this.bytes += content.length;
    try {
      return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(content));
    } catch {
      throw new Unread(`${path} is not JSON.`);
    }
  }

  async fetch(path, headers, size) {
    this.spend(1, size);
    const { signal } = this.stopped;
    if (this.free > 0) this.free -= 1;
    else await new Promise((resolve) => this.queue.push(resolve));
    try {
      // The browser's own cache would answer requests for one file one after the other.
      const response = await fetch(`../${path}`, { headers, signal, cache: "no-store" });
      if (response.status === 404) throw new Unread(`${path} is missing from this host.`);
      if (response.status === 416) throw new Unread(`${path} is shorter than its index says.`);
      if (!response.ok) throw new Unread(`${path}: the host answers ${response.status}.`);
      return response;
    } catch (error) {
      if (error instanceof Unread || error.name === "AbortError") throw error;
      throw new Unread(`${path} could not be read: ${error.message}.`);
    } finally {
      const next = this.queue.shift();
      if (next) next();
      else this.free += 1;
    }
  }

  // Count what a search reads. Throws Unread for more than one search may.
  spend(requests, size) {
    this.requests += requests;
    this.bytes += size;
    if (this.bytes > BUDGET) {
      throw new Unread(`This search would read more than ${bytes(BUDGET)}: ask for a longer text.`);
    }
  }

  // Resolves when everybody who goes on now has said what to read.
  moment() {
    this.tick ??= new Promise((resolve) => {
      setTimeout(() => {
        this.tick = null;
        resolve();
      });
    });
    return this.tick;
  }
}

// What a response holds: no more than so many bytes.
async function body(response, path, most) {
  const parts = [];
  let size = 0;
  const stream = response.body.getReader();
  for (;;) {
    const { done, value: part } = await stream.read();
    if (done) break;
    size += part.length;
    if (size > most) {
      await stream.cancel();
      throw new Unread(`${path} has more than the ${count(most)} bytes that were asked for.`);
    }
    parts.push(part);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

class Ranged {
  constructor(reader, path, size) {
    this.reader = reader;
    this.path = path;
    this.size = size;
    this.pages = new Map();
    this.coming = new Map(); // Pages that were asked for.
    this.wanted = new Set(); // Pages that will be.
  }

  // Read what of some spans [begin, end) is not there yet.
  async ready(spans) {
    const missing = this.missing(spans);
    if (!missing.size) return;
    for (const page of missing) if (!this.coming.has(page)) this.wanted.add(page);
    await this.reader.moment();
    this.send();
    await Promise.all(new Set([...missing].map((page) => this.coming.get(page))));
  }

  missing(spans) {
    const missing = new Set();
    for (const [begin, end] of spans) {
      if (!(begin >= 0 && begin <= end && end <= this.size)) {
        throw new Unread(`${this.path} ends before byte ${count(end)}: the index does not fit it.`);
      }
      for (let page = Math.floor(begin / PAGE); page * PAGE < end; page += 1) {
        if (!this.pages.has(page)) missing.add(page);
      }
    }
    return missing;
  }

  send() {
    const pages = [...this.wanted].sort((one, other) => one - other);
    this.wanted.clear();
    for (let at = 0; at < pages.length;) {
      let end = at + 1;
      while (end < pages.length && pages[end] - pages[end - 1] <= GAP) end += 1;
      this.request(pages[at], pages[end - 1] + 1);
      at = end;
    }
  }

  request(first, stop) {
    const coming = this.get(first * PAGE, Math.min(stop * PAGE, this.size)).finally(() => {
      for (let page = first; page < stop; page += 1) {
        if (this.coming.get(page) === coming) this.coming.delete(page);
      }
    });
    for (let page = first; page < stop; page += 1) this.coming.set(page, coming);
  }

  async get(begin, end) {
    const asked = { Range: `bytes=${begin}-${end - 1}` };
    const response = await this.reader.fetch(this.path, asked, end - begin);
    if (response.status === 200) {
      this.keep(0, await this.whole(response, end - begin));
      return;
    }
    const told = response.headers.get("Content-Range") || "";
    if (Number(/\/(\d+)$/.exec(told)?.[1]) < this.size) {
      throw new Unread(`${this.path} is shorter than its index says.`);
    }
    const content = await body(response, this.path, end - begin);
    const sizes = [String(this.size), "*"].map((size) => `bytes ${begin}-${end - 1}/${size}`);
    if (!sizes.includes(told) || content.length !== end - begin) {
      throw new Unread(
        `${this.path}: the host sends other bytes than those that were asked for ` +
          `(of ${count(this.size)} bytes, ${count(begin)} to ${count(end - 1)}).`,
      );
    }
    this.keep(begin, content);
  }

  // What a host sends that knows no ranges.
  async whole(response, counted) {
    if (this.size > WHOLE) {
      await response.body.cancel();
      throw new Unread(
        "This host does not send parts of files (HTTP Range), " +
          `and ${this.path} has ${bytes(this.size)}.`,
      );
    }
    this.reader.spend(0, this.size - counted);
    const content = await body(response, this.path, this.size);
    if (content.length !== this.size) {
      throw new Unread(`${this.path} is shorter than its index says.`);
    }
    return content;
  }

  keep(begin, content) {
    for (let at = 0; at < content.length; at += PAGE) {
      this.pages.set((begin + at) / PAGE, content.subarray(at, at + PAGE));
    }
    this.reader.kept += content.length;
  }

  // Bytes that are there.
  slice(begin, end) {
    const first = Math.floor(begin / PAGE);
    if (end <= (first + 1) * PAGE) {
      return this.pages.get(first)?.subarray(begin - first * PAGE, end - first * PAGE) ?? EMPTY;
    }
    const whole = new Uint8Array(end - begin);
    for (let at = begin; at < end;) {
      const page = Math.floor(at / PAGE);
      const stop = Math.min((page + 1) * PAGE, end);
      whole.set(this.slice(at, stop), at - begin);
      at = stop;
    }
    return whole;
  }

  // The number, little-endian, of so many bytes, that is there.
  number(begin, width) {
    const own = this.slice(begin, begin + width);
    let sum = 0;
    for (let at = width - 1; at >= 0; at -= 1) sum = sum * 256 + own[at];
    return sum;
  }

  async read(begin, end) {
    await this.ready([[begin, end]]);
    return this.slice(begin, end);
  }
}

const EMPTY = new Uint8Array();
