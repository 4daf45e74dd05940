// A mock of `profpipe ui`: the contract over seeded data, for developing and testing the page without a
// server. Each scenario is a base address of its own: /small, /large, /hostile, /empty, /history, /broken,
// /slow, /malformed. It answers with the real server's security headers, so that the page is tested under them.
//
//   node mock.mjs [PORT]     prints the address

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { BadRequest, diff, functions, loss, select, type Row, series, term_test, tree, type Selection } from "./query";
import { empty, hostile, large, small, type Data, type Sample } from "./data";

const MAKERS: Record<string, () => Data> = {
  small, large, hostile, empty, slow: small, broken: small, malformed: small,
  history: () => ({ ...small(), source: "history", title: "/var/lib/profpipe" }),
};
const made = new Map<string, Data>();
const answered = new Map<string, unknown>();
const TYPE = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";
const KINDS: Record<string, string> = { "index.html": "text/html; charset=utf-8", "app.js": "text/javascript; charset=utf-8", "app.css": "text/css; charset=utf-8" };

const selected = new Map<string, Sample[]>();
const functions_of = new WeakMap<Sample[], Row[]>();

function remember(key: string, make: () => Sample[]): Sample[] {
  let samples = selected.get(key);
  if (samples === undefined) selected.set(key, (samples = make()));
  if (selected.size > 30) selected.delete(selected.keys().next().value as string);
  return samples;
}

class Query {
  constructor(readonly params: URLSearchParams, readonly data: Data) {}
  text(name: string): string {
    return this.params.get(name) ?? "";
  }
  number(name: string, or: number): number {
    const value = this.params.get(name);
    return value === null ? or : Number(value);
  }
  selection(prefix = ""): Selection {
    return {
      query: this.text(`${prefix}query`), from: this.number(`${prefix}from`, -Infinity), until: this.number(`${prefix}until`, Infinity),
      focus: this.text("focus"), hide: this.text("hide"), fold: this.text("fold"),
    };
  }
  samples(prefix = ""): Sample[] {
    return remember(`${this.data.title} ${JSON.stringify(this.selection(prefix))}`, () => select(this.data, this.selection(prefix)));
  }
  functions(samples: Sample[]): Row[] {
    let rows = functions_of.get(samples);
    if (rows === undefined) functions_of.set(samples, (rows = functions(this.data, samples)));
    return [...rows];
  }
}

const weight = (samples: Sample[]) => samples.reduce((a, s) => a + s.weight, 0);
const UNIT = "nanoseconds";

const ANSWERS: Record<string, (q: Query) => unknown> = {
  session: ({ data }) => ({
    version: "0.0.0-mock", source: data.source, title: data.title, files: [{ name: data.title, bytes: 123456 }],
    types: [
      { id: TYPE, name: "cpu", unit: UNIT, total: weight(data.samples), samples: data.samples.length },
      { id: "process_cpu:samples:count:cpu:nanoseconds", name: "samples", unit: "count", total: data.samples.length, samples: data.samples.length },
    ],
    default_type: TYPE, from: data.from, until: data.until, timed: data.timed,
    labels: [...new Set(data.samples.slice(0, 50).flatMap((s) => Object.keys(s.labels)))], loss: loss(data.samples),
    environment: { "host.name": "web-1", "os.kernel": "6.18.2", "cpu.model": "AMD EPYC 9454P", "profpipe.version": "0.1.0" },
    formats: ["pprof", "otlp", "json", "folded", "svg"], panels: data.source === "history" ? ["governor", "pipeline"] : [],
  }),
  labels: (q) => {
    const sums = new Map<string, Map<string, number>>();
    for (const sample of q.samples()) {
      for (const [name, value] of Object.entries(sample.labels)) {
        const values = sums.get(name) ?? new Map<string, number>();
        values.set(value, (values.get(value) ?? 0) + sample.weight);
        sums.set(name, values);
      }
    }
    return {
      labels: [...sums].map(([name, values]) => ({
        name, values: [...values].map(([value, total]) => ({ value, total })).sort((a, b) => b.total - a.total).slice(0, 100), more: Math.max(0, values.size - 100),
      })),
    };
  },
  tree: (q) => {
    const invert = q.text("invert") === "1";
    return tree(q.data, q.samples(), UNIT, { nodes: q.number("nodes", 20_000), width: q.number("width", 1200), root: q.text("root") },
      invert ? (s) => [...s.stack].reverse() : (s) => s.stack);
  },
  functions: (q) => {
    const samples = q.samples();
    const test = q.text("search") === "" ? () => true : term_test(q.text("search"));
    const rows = q.functions(samples).filter((row) => test(row.name) || test(row.module));
    const sort = q.text("sort") || "self";
    const by_name = (a: Row, b: Row) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
    rows.sort((a, b) => (sort === "name" ? 0 : sort === "total" ? b.total - a.total : b.self - a.self) || by_name(a, b));
    const offset = q.number("offset", 0);
    return {
      unit: UNIT, total: weight(samples), count: rows.length,
      rows: rows.slice(offset, offset + q.number("limit", 100)).map(({ count, total_count, ...row }) => ({
        ...row, self_error: 1.96 * Math.sqrt(count) * 20_202_020, total_error: 1.96 * Math.sqrt(total_count) * 20_202_020,
      })),
    };
  },
  search: (q) => {
    const samples = q.samples();
    const test = term_test(q.text("term"));
    const hits = samples.filter((s) => s.stack.some((ix) => test(q.data.frames[ix]?.name ?? "")));
    const total = weight(hits);
    return { total, share: total / Math.max(1, weight(samples)), functions: functions(q.data, samples).filter((r) => test(r.name)).sort((a, b) => b.total - a.total).slice(0, 200) };
  },
  sandwich: (q) => {
    const samples = q.samples();
    const name = q.text("function");
    const of = (s: Sample) => s.stack.findIndex((ix) => q.data.frames[ix]?.name === name);
    const last = (s: Sample) => s.stack.map((ix) => q.data.frames[ix]?.name).lastIndexOf(name);
    const hits = samples.filter((s) => of(s) >= 0);
    const self = hits.filter((s) => last(s) === s.stack.length - 1);
    const options = { nodes: q.number("nodes", 5000), width: q.number("width", 1200), root: "", name };
    return {
      unit: UNIT, total: weight(samples), self: weight(self), function_total: weight(hits),
      callers: tree(q.data, hits, UNIT, options, (s) => s.stack.slice(0, last(s)).reverse()),
      callees: tree(q.data, hits, UNIT, options, (s) => s.stack.slice(of(s) + 1)),
    };
  },
  series: (q) => {
    const { data } = q;
    return series(data, q.samples(), q.text("by"), q.number("points", 300), q.number("limit", 20), q.number("from", data.from), q.number("until", data.until));
  },
  threads: (q) => {
    const { data } = q;
    return { ...series(data, q.samples(), "thread", q.number("points", 300), 200, q.number("from", data.from), q.number("until", data.until)), spans: [] };
  },
  diff: (q) => {
    const fresh = q.samples();
    const base = q.samples("base_");
    return {
      unit: UNIT, base: { total: weight(base), samples: base.length, windows: 6 }, new: { total: weight(fresh), samples: fresh.length, windows: 6 },
      decidable: base.length > 0 && fresh.length > 0, why: base.length === 0 ? "the base has no samples" : "",
      environment: [{ key: "service.version", base: "1.4.1", new: "1.4.2" }, { key: "os.kernel", base: "6.12.9", new: "6.18.2" }],
      rows: diff(functions(q.data, base), functions(q.data, fresh), weight(base), weight(fresh), q.text("by") === "total" ? "total" : "self").slice(0, 1000),
      tree: tree(q.data, fresh, UNIT, { nodes: 20_000, width: q.number("width", 1200), root: "" }, (s) => s.stack, base),
    };
  },
  source: (q) => {
    const name = q.text("function");
    if (!q.data.frames.some((f) => f.name === name)) return { functions: [] };
    if (name.includes("main")) return { functions: [{ name, file: "/build/src/main.rs", found: false, why: "the file is not on this machine and no debuginfod server has it", lines: [{ line: 12, self: 0, total: 4e9 }, { line: 40, self: 1e8, total: 2e9 }] }] };
    return {
      functions: [{
        name, file: "src/price.rs", found: true, why: "",
        lines: ["pub fn round(cents: i64, step: i64) -> i64 {", "    // Half to even, as the ledger wants it.", "    let half = step / 2;", "    let rest = cents.rem_euclid(step);", "    if rest > half || (rest == half && (cents / step) % 2 == 1) {", "        cents + (step - rest)", "    } else {", "        cents - rest", "    }", "}"]
          .map((text, i) => ({ line: 118 + i, text, self: [0, 0, 4e8, 2.1e9, 1.4e9, 3e8, 0, 2e8, 0, 1e7][i] ?? 0, total: [0, 0, 4e8, 2.1e9, 1.5e9, 3e8, 0, 2e8, 0, 1e7][i] ?? 0 })),
      }],
    };
  },
  governor: () => ({
    state: "within budget", budget: { cpu: "1 %", rss_bytes: 268435456 }, measured: { cpu: "0.62 %", rss_bytes: 73400320 },
    frequency_hz: 99, levers: [{ name: "frequency", value: "99 Hz", of: "99 Hz" }, { name: "dump", value: "32 KiB", of: "32 KiB" }], dropped: 0,
  }),
  pipeline: () => ({
    components: [
      { name: "perf", kind: "receiver", in: 0, out: 81422, dropped: 0, queue: 0 },
      { name: "symbolize", kind: "processor", in: 81422, out: 81400, dropped: 0, queue: 22 },
      { name: "otlp_http", kind: "exporter", in: 81400, out: 81120, dropped: 0, queue: 280, last_error: "connection refused (10.0.0.7:4318), next attempt in 4 s" },
    ],
  }),
};

export interface Mock { server: Server; address: string; close: () => Promise<void> }

/** Starts on a free port of loopback. `assets` is the folder of the built page. */
export async function start(assets: string, port = 0): Promise<Mock> {
  const server = createServer((request, response) => {
    try {
      serve(request, response, assets);
    } catch (error) {
      const bad = error instanceof BadRequest;
      reply(request, response, bad ? 400 : 500, { code: bad ? "invalid_argument" : "internal", message: (error as Error).message });
    }
  });
  await new Promise<void>((done) => server.listen(port, "127.0.0.1", done));
  const at = server.address();
  if (at === null || typeof at === "string") throw new Error("the mock has no port");
  return {
    server, address: `http://127.0.0.1:${at.port}`,
    close: () => new Promise((done) => { server.closeAllConnections(); server.close(() => done()); }),
  };
}

function serve(request: IncomingMessage, response: ServerResponse, assets: string): void {
  const url = new URL(request.url ?? "/", "http://127.0.0.1");
  const [, scenario = "", ...rest] = url.pathname.split("/");
  const path = rest.join("/");
  const maker = Object.hasOwn(MAKERS, scenario) ? MAKERS[scenario] : undefined;
  if (maker === undefined) return reply(request, response, 404, { code: "not_found", message: "no such scenario" });
  if (path === "" || Object.hasOwn(KINDS, path)) {
    const file = path === "" ? "index.html" : path;
    response.writeHead(200, { ...headers(), "content-type": KINDS[file] as string });
    response.end(readFileSync(join(assets, file)));
    return;
  }
  const name = path.replace(/^api\//, "");
  let data = made.get(scenario);
  if (data === undefined) made.set(scenario, (data = maker()));
  if (name === "download") {
    response.writeHead(200, { ...headers(), "content-type": "application/octet-stream", "content-disposition": `attachment; filename="profile.${url.searchParams.get("format") ?? "x"}"` });
    response.end("mock");
    return;
  }
  const answer = Object.hasOwn(ANSWERS, name) ? ANSWERS[name] : undefined;
  if (answer === undefined) return reply(request, response, 404, { code: "not_found", message: `no ${name} here` });
  if (scenario === "broken" && name !== "session") return reply(request, response, 500, { code: "internal", message: "<b>the tables are broken</b>" });
  if (scenario === "malformed" && name === "functions") return reply(request, response, 200, { unit: "nanoseconds", total: 5, count: 3 });
  if (scenario === "malformed" && name === "tree") return reply(request, response, 200, { unit: "ns", total: 5, names: ["total"], modules: [""], nodes: { depth: [0, 5], start: [0, 0], total: [5, 5], self: [0, 5], name: [0, 0], module: [0, 0], folded: [0, 0], hash: ["a", "b"] } });
  const known = answered.get(request.url ?? "");
  const body = known ?? answer(new Query(url.searchParams, data));
  answered.set(request.url ?? "", body);
  const delay = scenario === "slow" && name === "tree" ? 6000 : 0;
  setTimeout(() => reply(request, response, 200, body), delay);
}

function headers(): Record<string, string> {
  return {
    "content-security-policy": CSP, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin", "cache-control": "no-cache",
  };
}

function reply(request: IncomingMessage, response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  const packed = (request.headers["accept-encoding"] ?? "").includes("gzip");
  response.writeHead(status, { ...headers(), "content-type": "application/json", ...(packed ? { "content-encoding": "gzip" } : {}) });
  response.end(packed ? gzipSync(text) : text);
}
