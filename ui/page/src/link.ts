// The fragment of the address: everything that the page shows, so that a link shows it again.
//
//   #1&v=flame&type=…&q={…}&from=…&to=…&root=0123456789abcdef
//
// The version stands first. Values are percent-encoded, defaults left out, unknown keys ignored. `root` is
// the stable hash of a path of names, so a link survives that the data are aggregated anew. Times are
// milliseconds since the epoch, or `now-15m`. Tested by tests/link.test.ts.

export const VIEWS = ["flame", "top", "sandwich", "diff", "source", "threads", "governor", "pipeline"] as const;
export type View = (typeof VIEWS)[number];

export interface State {
  view: View;
  /** Profile type; empty: the session's default. */
  type: string;
  query: string;
  from: string;
  to: string;
  focus: string;
  hide: string;
  fold: string;
  wait: string;
  /** Hash of the path zoomed into. */
  root: string;
  /** Function of sandwich and source, and its module. */
  fn: string;
  mod: string;
  invert: boolean;
  search: string;
  sort: string;
  /** What a row of the timeline is. */
  by: string;
  /** Part of the time that the timeline shows. */
  zoom_from: string;
  zoom_to: string;
  files: string;
  /** How the base of a comparison is chosen: "time", "labels", "files". */
  base: string;
  base_query: string;
  base_from: string;
  base_to: string;
  base_files: string;
  /** What is compared: "" the functions' own cost, "total" with what they call. */
  base_by: string;
}

export const DEFAULTS: State = {
  view: "flame", type: "", query: "", from: "", to: "", focus: "", hide: "", fold: "", wait: "", root: "",
  fn: "", mod: "", invert: false, search: "", sort: "self", by: "", zoom_from: "", zoom_to: "",
  files: "", base: "", base_query: "", base_from: "", base_to: "", base_files: "", base_by: "",
};

type Check = (value: string) => boolean;
const text: Check = (value) => value.length <= 4096;
const time: Check = (value) => /^(\d{1,16}|now(-\d{1,6}(ms|s|m|h|d))?)$/.test(value);
const files: Check = (value) => /^\d{1,5}(,\d{1,5}){0,500}$/.test(value);

const KEYS: readonly (readonly [string, keyof State, Check])[] = [
  ["v", "view", (value) => (VIEWS as readonly string[]).includes(value)],
  ["type", "type", text], ["q", "query", text], ["from", "from", time], ["to", "to", time],
  ["focus", "focus", text], ["hide", "hide", text],
  ["fold", "fold", (value) => /^(recursion|libraries)(,(recursion|libraries))?$/.test(value)], ["wait", "wait", text],
  ["root", "root", (value) => /^[0-9a-f]{16}$/.test(value)],
  ["fn", "fn", text], ["mod", "mod", text], ["inv", "invert", (value) => value === "1"],
  ["s", "search", text], ["sort", "sort", (value) => /^(self|total|name)$/.test(value)], ["by", "by", text],
  ["zf", "zoom_from", time], ["zt", "zoom_to", time], ["files", "files", files],
  ["base", "base", (value) => /^(time|labels|files)$/.test(value)],
  ["bq", "base_query", text], ["bfrom", "base_from", time], ["bto", "base_to", time], ["bfiles", "base_files", files], ["bby", "base_by", (value) => value === "total"],
];

/** The fragment of a state, with its `#`. */
export function write_link(state: State): string {
  let link = "#1";
  for (const [key, field] of KEYS) {
    const value = state[field];
    if (value === DEFAULTS[field] && key !== "v") continue;
    link += `&${key}=${encode(value === true ? "1" : String(value))}`;
  }
  return link;
}

// Readable where a fragment may be: RFC 3986 lets `{` be encoded only, so links look as browsers keep them.
function encode(value: string): string {
  return encodeURIComponent(value).replace(/%3A/g, ":").replace(/%2F/g, "/").replace(/%2C/g, ",").replace(/%3D/g, "=");
}

export interface ReadLink {
  state: State;
  /** What of the link could not be read, for people. */
  problem: string;
}

/** The state of a fragment. A link that cannot be read gives the defaults, and says so. */
export function read_link(fragment: string): ReadLink {
  const state: State = { ...DEFAULTS };
  const body = fragment.replace(/^#/, "");
  if (body === "") return { state, problem: "" };
  const [version, ...pairs] = body.split("&");
  if (version !== "1") return { state, problem: `This link has the form "${(version ?? "").slice(0, 12)}", which this version does not read: everything is shown.` };
  const bad: string[] = [];
  for (const pair of pairs) {
    const cut = pair.indexOf("=");
    const found = KEYS.find(([key]) => key === pair.slice(0, cut));
    if (cut < 0 || found === undefined) continue;
    const [key, field, check] = found;
    const value = decode(pair.slice(cut + 1));
    if (value === undefined || !check(value)) bad.push(key);
    else assign(state, field, value);
  }
  const problem = bad.length > 0 ? `Not understood in this link, and left out: ${bad.join(", ")}.` : "";
  return { state, problem };
}

function assign<K extends keyof State>(state: State, field: K, value: string): void {
  state[field] = (typeof DEFAULTS[field] === "boolean" ? value === "1" : value) as State[K];
}

function decode(value: string): string | undefined {
  try {
    return decodeURIComponent(value.replace(/\+/g, "%20"));
  } catch {
    return undefined;
  }
}

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A time of a link as milliseconds; undefined when there is none. */
export function resolve_time(value: string, now: number): number | undefined {
  if (value === "") return undefined;
  if (/^\d+$/.test(value)) return Number(value);
  const match = /^now(?:-(\d+)(ms|s|m|h|d))?$/.exec(value);
  if (match === null) return undefined;
  return now - (match[1] === undefined ? 0 : Number(match[1]) * (UNITS[match[2] ?? "s"] ?? 0));
}
