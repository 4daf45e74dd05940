// Seeded profiles for the mock server: a small service, 20,000 functions, hostile names, nothing at all.
// The same seed gives the same profile on every machine.

export interface Frame { name: string; module: string; file: string }
export interface Sample {
  /** Frames root first, as indices. */
  stack: number[];
  labels: Record<string, string>;
  at: number;
  weight: number;
  loss: "complete" | "truncated" | "broken";
}
export interface Data {
  title: string;
  timed: boolean;
  source: "files" | "history";
  from: number;
  until: number;
  frames: Frame[];
  samples: Sample[];
}

export const START = Date.UTC(2026, 10, 28, 9, 0, 0);

/** mulberry32. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const TREES: Record<string, string[]> = {
  checkout: [
    "std::rt::lang_start::{{closure}};checkout::main;tokio::runtime::scheduler::multi_thread::worker::run;checkout::server::handle_request;checkout::cart::Cart::total;<alloc::vec::Vec<T> as core::iter::traits::collect::FromIterator<T>>::from_iter",
    "std::rt::lang_start::{{closure}};checkout::main;tokio::runtime::scheduler::multi_thread::worker::run;checkout::server::handle_request;serde_json::de::Deserializer<R>::parse_value;serde_json::read::SliceRead::parse_str",
    "std::rt::lang_start::{{closure}};checkout::main;tokio::runtime::scheduler::multi_thread::worker::run;checkout::server::handle_request;serde_json::de::Deserializer<R>::parse_value;serde_json::de::Deserializer<R>::parse_value;serde_json::read::SliceRead::parse_str",
    "std::rt::lang_start::{{closure}};checkout::main;tokio::runtime::scheduler::multi_thread::worker::run;checkout::server::handle_request;checkout::price::discount;checkout::price::round",
    "std::rt::lang_start::{{closure}};checkout::main;tokio::runtime::scheduler::multi_thread::worker::run;checkout::server::handle_request;rustls::conn::ConnectionCommon<Data>::write;ring::aead::aes_gcm::seal",
    "std::rt::lang_start::{{closure}};checkout::main;tokio::runtime::scheduler::multi_thread::worker::run;mio::poll::Poll::poll;epoll_wait;do_syscall_64;ep_poll",
  ],
  search: [
    "runtime.main;main.main;net/http.(*conn).serve;main.(*Index).Search;main.(*Index).score;math.Log",
    "runtime.main;main.main;net/http.(*conn).serve;main.(*Index).Search;sort.Sort;main.byScore.Less",
    "runtime.main;main.main;net/http.(*conn).serve;encoding/json.Marshal;encoding/json.(*encodeState).reflectValue;encoding/json.structEncoder.encode",
    "runtime.mcall;runtime.gcBgMarkWorker;runtime.scanobject;runtime.greyobject",
    "runtime.main;main.main;net/http.(*conn).serve;internal/poll.(*FD).Write;do_syscall_64;tcp_sendmsg_locked",
  ],
  report: [
    "main;Py_RunMain;<module> /srv/report/app.py;Report.build;Report.rows.<locals>.<listcomp>;Row.__init__",
    "main;Py_RunMain;<module> /srv/report/app.py;Report.build;json.dumps;encoder_listencode_dict",
    "main;Py_RunMain;<module> /srv/report/app.py;Report.build;zlib_compress;deflate_fast;longest_match",
  ],
};

function module_of(name: string, service: string): string {
  if (/^(do_syscall_64|ep_poll|tcp_sendmsg_locked|epoll_wait)$/.test(name)) return name === "epoll_wait" ? "libc.so.6" : "[kernel]";
  if (/deflate|longest_match/.test(name)) return "libz.so.1.2.13";
  if (/^(main|Py_RunMain|zlib_compress|encoder)/.test(name) && service === "report") return "libpython3.11.so.1.0";
  return service;
}

class Frames {
  readonly list: Frame[] = [];
  private readonly known = new Map<string, number>();

  ix(name: string, module: string): number {
    const key = `${module}\u0000${name}`;
    let ix = this.known.get(key);
    if (ix === undefined) {
      ix = this.list.push({ name, module, file: `src/${(name.split(/[:.]/)[0] ?? "a").slice(0, 20)}.rs` }) - 1;
      this.known.set(key, ix);
    }
    return ix;
  }
}

/** Three services on a host for a minute; `checkout` has a burst in its middle. */
export function small(seed = 1): Data {
  const next = random(seed);
  const frames = new Frames();
  const samples: Sample[] = [];
  for (const [service, stacks] of Object.entries(TREES)) {
    const busy = service === "checkout" ? 1.8 : service === "search" ? 1.0 : 0.4;
    for (let at = 0; at < 60_000; at += 100) {
      const burst = service === "checkout" && at > 24_000 && at < 36_000;
      const level = busy * (0.6 + 0.3 * Math.sin(at / 7000) + 0.3 * next()) * (burst ? 1.9 : 1);
      const hits = Math.floor(level * 9.9 * 0.5 + next());
      for (let hit = 0; hit < hits; hit++) {
        const pick = burst && next() < 0.55 ? 3 : Math.floor(next() ** 1.6 * stacks.length);
        const names = (stacks[pick] ?? "").split(";");
        const cut = next() < 0.12 && names.length > 4 ? names.length - 1 : names.length;
        const stack = names.slice(0, cut).map((name) => frames.ix(name, module_of(name, service)));
        if (next() < 0.25) stack.push(frames.ix(`${service}::leaf::work_${Math.floor(next() ** 2 * 40)}`, module_of("", service)));
        const thread = `${service}-${1 + Math.floor(next() ** 1.5 * (service === "checkout" ? 4 : 2))}`;
        const roll = next();
        samples.push({
          stack, at: START + at + next() * 100, weight: 20_202_020,
          labels: {
            service_name: service, "process.pid": String(4000 + service.length), "thread.name": thread,
            "service.version": at < 30_000 ? "1.4.1" : "1.4.2", "host.name": "web-1",
          },
          loss: roll < 0.012 ? "truncated" : roll < 0.016 ? "broken" : "complete",
        });
      }
    }
  }
  return { title: "host.otlp", timed: true, source: "files", from: START, until: START + 60_000, frames: frames.list, samples };
}

/** More than 10,000 functions and a hundred thousand nodes, depth up to 60. */
export function large(seed = 2): Data {
  const next = random(seed);
  const frames = new Frames();
  const samples: Sample[] = [];
  for (let i = 0; i < 7000; i++) {
    const service = `svc-${Math.floor(next() ** 2 * 12)}`;
    const depth = 8 + Math.floor(next() * 52);
    const stack: number[] = [];
    for (let d = 0; d < depth; d++) {
      const spread = d < 4 ? 3 : d < 12 ? 20 : 80;
      const pick = Math.floor(next() ** 2.5 * spread);
      stack.push(frames.ix(`${service.replace("-", "_")}::layer${d}::Type${pick}::method_${pick % 7}`, pick % 5 === 0 ? "libc.so.6" : service));
    }
    samples.push({
      stack, at: START + next() * 600_000, weight: Math.ceil(1e7 * next() ** 3 * 20),
      labels: { service_name: service, "thread.name": `t${i % 40}`, "process.pid": String(100 + (i % 12)) }, loss: "complete",
    });
  }
  return { title: "large.pb.gz", timed: true, source: "files", from: START, until: START + 600_000, frames: frames.list, samples };
}

export const HOSTILE = [
  "<script>globalThis.__owned=1</script>", "<img src=x onerror=\"globalThis.__owned=1\">", "\"><svg onload=globalThis.__owned=1>",
  "javascript:globalThis.__owned=1", "{{constructor.constructor('globalThis.__owned=1')()}}", "</title><script>globalThis.__owned=1</script>",
  "__proto__", "constructor", "toString", "\u202egnp.exe", "a\u0000b\u0007c", "\u200b\u200b\u200b", "", " ", "𝕱".repeat(50),
  "👩‍👩‍👧‍👦".repeat(30), "x".repeat(5000), "<".repeat(3000), "a<".repeat(2000), "%s%n%d", "../../etc/passwd", "&#60;b&#62;", "name&v=diff#1", "'; DROP TABLE--", "é".repeat(99),
];

/** Names that try to be markup, keys of objects, or longer than is good. */
export function hostile(seed = 3): Data {
  const next = random(seed);
  const frames = new Frames();
  const samples: Sample[] = [];
  for (let i = 0; i < 1500; i++) {
    const depth = 1 + Math.floor(next() * 9);
    const stack = Array.from({ length: depth }, () => frames.ix(HOSTILE[Math.floor(next() * HOSTILE.length)] ?? "", HOSTILE[Math.floor(next() * 8)] ?? ""));
    samples.push({
      stack, at: START + next() * 10_000, weight: 1e7,
      labels: { service_name: HOSTILE[Math.floor(next() * 6)] ?? "", "<b>label</b>": "<i>value</i>", "thread.name": "\u202ethread" }, loss: "complete",
    });
  }
  return { title: "<img src=x onerror=\"globalThis.__owned=1\">.otlp", timed: true, source: "files", from: START, until: START + 10_000, frames: frames.list, samples };
}

export function empty(): Data {
  return { title: "empty.otlp", timed: false, source: "files", from: START, until: START, frames: [], samples: [] };
}
