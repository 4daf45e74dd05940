// The contract's answers from a seeded profile: slow, plain, and right. What the real server answers from
// its tables, this computes from samples one by one.

import type { Data, Sample } from "./data";

export interface Selection {
  query: string; from: number; until: number; focus: string; hide: string; fold: string;
}

export class BadRequest extends Error {}

function regex(text: string, what: string): RegExp {
  try {
    return new RegExp(text);
  } catch {
    throw new BadRequest(`${what}: not a regular expression: ${text}`);
  }
}

function label_test(query: string): (labels: Record<string, string>) => boolean {
  const body = query.trim().replace(/^\{|\}$/g, "");
  const tests: ((labels: Record<string, string>) => boolean)[] = [];
  const form = /\s*("(?:[^"\\]|\\.)*"|[^=!~",]+?)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*,?/y;
  while (form.lastIndex < body.length) {
    const at = form.lastIndex;
    const match = form.exec(body);
    if (match === null) throw new BadRequest(`query: not a matcher at ${at}: ${body.slice(at, at + 30)}`);
    const name = (match[1] ?? "").replace(/^"|"$/g, "").replace(/\\(.)/g, "$1");
    const value = (match[3] ?? "").replace(/\\(.)/g, "$1");
    const operator = match[2];
    const pattern = operator?.includes("~") === true ? regex(`^(?:${value})$`, "query") : undefined;
    tests.push((labels) => {
      const has = labels[name] ?? "";
      const same = pattern === undefined ? has === value : pattern.test(has);
      return operator?.startsWith("!") === true ? !same : same;
    });
  }
  return (labels) => tests.every((test) => test(labels));
}

/** Samples of a selection, with focus, hide and fold applied to their stacks. */
export function select(data: Data, selection: Selection): Sample[] {
  const labels = label_test(selection.query);
  const focus = selection.focus === "" ? undefined : regex(selection.focus, "focus");
  const hide = selection.hide === "" ? undefined : regex(selection.hide, "hide");
  const fold = selection.fold.split(",");
  const name = (ix: number) => data.frames[ix]?.name ?? "";
  const found: Sample[] = [];
  for (const sample of data.samples) {
    if (sample.at < selection.from || sample.at >= selection.until || !labels(sample.labels)) continue;
    if (focus !== undefined && !sample.stack.some((ix) => focus.test(name(ix)))) continue;
    let stack = sample.stack;
    if (hide !== undefined) stack = stack.filter((ix) => !hide.test(name(ix)));
    if (fold.includes("recursion")) stack = stack.filter((ix, i) => i === 0 || name(ix) !== name(stack[i - 1] as number));
    if (fold.includes("libraries")) {
      const lib = (ix: number) => /^lib.*\.so/.test(data.frames[ix]?.module ?? "");
      stack = stack.filter((ix, i) => !(lib(ix) && i > 0 && lib(stack[i - 1] as number)));
    }
    found.push(stack === sample.stack ? sample : { ...sample, stack });
  }
  return found;
}

interface Node { frame: number; self: number; total: number; base: number; children: Map<string, Node>; high: number; low: number }

const ROOT = { high: 0x811c9dc5, low: 0x9747b28c };

/** A stable hash of a path: FNV-1a over its names, twice with 32 bits. */
function child(parent: Node, frame: number, name: string): Node {
  let { high, low } = parent;
  for (let i = 0; i <= name.length; i++) {
    const code = i < name.length ? name.charCodeAt(i) : 0x1f;
    high = Math.imul(high ^ code, 0x01000193);
    low = Math.imul(low ^ (code + 0x51), 0x01000193);
  }
  return { frame, self: 0, total: 0, base: 0, children: new Map(), high, low };
}

function hex(node: { high: number; low: number }): string {
  return (node.high >>> 0).toString(16).padStart(8, "0") + (node.low >>> 0).toString(16).padStart(8, "0");
}

export const ROOT_HASH = hex(ROOT);

function grow(data: Data, samples: Sample[], stack_of: (sample: Sample) => number[] | undefined, base: boolean, root: Node): void {
  for (const sample of samples) {
    const stack = stack_of(sample);
    if (stack === undefined) continue;
    let node = root;
    const add = (n: Node) => {
      if (base) n.base += sample.weight;
      else n.total += sample.weight;
    };
    add(node);
    for (const ix of stack) {
      const name = data.frames[ix]?.name ?? "";
      let next = node.children.get(name);
      if (next === undefined) {
        next = child(node, ix, name);
        node.children.set(name, next);
      }
      node = next;
      add(node);
    }
    if (!base) node.self += sample.weight;
  }
}

export interface TreeOptions { nodes: number; width: number; root: string; name?: string }

export function tree(data: Data, samples: Sample[], unit: string, options: TreeOptions,
  stack_of: (sample: Sample) => number[] | undefined = (s) => s.stack, base: Sample[] = []) {
  let top: Node = { frame: -1, self: 0, total: 0, base: 0, children: new Map(), ...ROOT };
  grow(data, samples, stack_of, false, top);
  grow(data, base, stack_of, true, top);
  const path: string[] = [];
  if (options.root !== "" && options.root !== ROOT_HASH) {
    const found = find(data, top, options.root, path);
    if (found === undefined) throw new BadRequest(`root: no path of this selection has the hash ${options.root}`);
    top = found;
  }
  const names: string[] = [];
  const modules: string[] = [];
  const name_ix = new Map<string, number>();
  const module_ix = new Map<string, number>();
  const intern = (list: string[], known: Map<string, number>, text: string) => {
    let ix = known.get(text);
    if (ix === undefined) known.set(text, (ix = list.push(text) - 1));
    return ix;
  };
  const out = { depth: [] as number[], start: [] as number[], total: [] as number[], self: [] as number[], name: [] as number[], module: [] as number[], folded: [] as number[], hash: [] as string[], base: [] as number[] };
  const least = Math.max((top.total + top.base) / (2 * options.width), kth(top, options.nodes));
  const put = (node: Node, name: string, module: string, depth: number, start: number, folded: number) => {
    out.depth.push(depth); out.start.push(start); out.total.push(node.total); out.self.push(node.self); out.base.push(node.base);
    out.name.push(intern(names, name_ix, name)); out.module.push(intern(modules, module_ix, module));
    out.folded.push(folded); out.hash.push(hex(node));
  };
  const walk = (node: Node, name: string, depth: number, start: number) => {
    put(node, name, data.frames[node.frame]?.module ?? "", depth, start, 0);
    let at = start;
    const children = [...node.children.values()].sort((a, b) => b.total + b.base - a.total - a.base);
    const small = children.filter((c) => c.total + c.base < least);
    for (const next of children) {
      if (next.total + next.base < least) continue;
      walk(next, data.frames[next.frame]?.name ?? "", depth + 1, at);
      at += next.total;
    }
    if (small.length > 0) {
      const rest = child(node, -1, "\u0001folded");
      rest.total = rest.self = sum(small, (c) => c.total);
      rest.base = sum(small, (c) => c.base);
      put(rest, `(${small.length} functions below ${((100 * least) / (top.total + top.base)).toFixed(2)} %)`, "", depth + 1, at, small.length);
    }
  };
  if (top.total + top.base > 0 || options.root === "") walk(top, options.name ?? (top.frame < 0 ? "total" : data.frames[top.frame]?.name ?? ""), 0, 0);
  const { base: base_column, ...nodes } = out;
  return {
    unit, total: sum(samples, (s) => s.weight), samples: samples.length, root: { hash: hex(top), path }, names, modules,
    nodes: base.length > 0 ? { ...nodes, base: base_column } : nodes, loss: loss(samples),
  };
}

function find(data: Data, node: Node, hash: string, path: string[]): Node | undefined {
  for (const next of node.children.values()) {
    path.push(data.frames[next.frame]?.name ?? "");
    if (hex(next) === hash) return next;
    const found = find(data, next, hash, path);
    if (found !== undefined) return found;
    path.pop();
  }
  return undefined;
}

function kth(top: Node, nodes: number): number {
  const totals: number[] = [];
  const walk = (node: Node) => {
    totals.push(node.total + node.base);
    for (const next of node.children.values()) walk(next);
  };
  walk(top);
  if (totals.length <= nodes) return 0;
  return totals.sort((a, b) => b - a)[nodes - 1] ?? 0;
}

const sum = <T>(list: T[], of: (item: T) => number) => list.reduce((a, b) => a + of(b), 0);

export function loss(samples: Sample[]) {
  const of = (kind: string) => sum(samples.filter((s) => s.loss === kind), (s) => s.weight);
  return { complete: of("complete"), truncated: of("truncated"), switched: 0, broken: of("broken"), guessed: 0, unnamed: 0, lost: Math.round(of("truncated") / 3) };
}

export interface Row { name: string; module: string; file: string; self: number; total: number; count: number; total_count: number }

export function functions(data: Data, samples: Sample[]): Row[] {
  const rows = new Map<number, Row>();
  for (const sample of samples) {
    const seen = new Set<number>();
    const leaf = sample.stack[sample.stack.length - 1];
    for (const ix of sample.stack) {
      const frame = data.frames[ix];
      if (frame === undefined) continue;
      let row = rows.get(ix);
      if (row === undefined) rows.set(ix, (row = { ...frame, self: 0, total: 0, count: 0, total_count: 0 }));
      if (!seen.has(ix)) {
        row.total += sample.weight;
        row.total_count++;
      }
      seen.add(ix);
    }
    const row = leaf === undefined ? undefined : rows.get(leaf);
    if (row !== undefined) {
      row.self += sample.weight;
      row.count++;
    }
  }
  return [...rows.values()];
}

export function term_test(term: string): (name: string) => boolean {
  const expression = /^\/(.+)\/$/.exec(term);
  if (expression !== null) {
    const pattern = regex(expression[1] ?? "", "term");
    return (name) => pattern.test(name);
  }
  const wanted = term.toLowerCase();
  return (name) => name.toLowerCase().includes(wanted);
}

export function series(data: Data, samples: Sample[], by: string, points: number, limit: number, from: number, until: number) {
  const step = Math.max(1, Math.ceil((until - from) / Math.max(1, points)));
  const label = by === "thread" ? "thread.name" : by === "process" ? "process.pid" : by;
  const rows = new Map<string, number[]>();
  for (const sample of samples) {
    const key = by === "none" || by === "" ? "total" : sample.labels[label] ?? "";
    let values = rows.get(key);
    if (values === undefined) rows.set(key, (values = new Array<number>(Math.ceil((until - from) / step)).fill(0)));
    const at = Math.floor((sample.at - from) / step);
    values[at] = (values[at] ?? 0) + sample.weight;
  }
  const all = [...rows.entries()].map(([key, values]) => ({ key, total: sum(values, (v) => v), values })).sort((a, b) => b.total - a.total);
  void data;
  return { from, step, unit: "nanoseconds", rows: all.slice(0, limit), more: Math.max(0, all.length - limit) };
}

export function diff(base: Row[], fresh: Row[], base_total: number, new_total: number, by: "self" | "total") {
  const keyed = new Map<string, { base?: Row; fresh?: Row }>();
  for (const row of base) keyed.set(`${row.module}\u0000${row.name}`, { base: row });
  for (const row of fresh) keyed.set(`${row.module}\u0000${row.name}`, { ...keyed.get(`${row.module}\u0000${row.name}`), fresh: row });
  return [...keyed.values()].map(({ base: b, fresh: n }) => {
    const row = (n ?? b) as Row;
    const base_share = (b?.[by] ?? 0) / Math.max(1, base_total);
    const new_share = (n?.[by] ?? 0) / Math.max(1, new_total);
    const delta = new_share - base_share;
    const error = 2.5 * Math.sqrt((base_share + new_share + 1e-4) / 400);
    const found = Math.abs(delta) > error;
    return {
      name: row.name, module: row.module, base: b?.[by] ?? 0, new: n?.[by] ?? 0, base_share, new_share, delta_share: delta,
      low: delta - error, high: delta + error, q: found ? 0.01 : 0.6,
      class: !found ? "same" : b === undefined ? "new" : n === undefined ? "gone" : delta > 0 ? "slower" : "faster",
    };
  }).sort((a, b) => Number(b.class !== "same") - Number(a.class !== "same") || Math.abs(b.delta_share) - Math.abs(a.delta_share));
}
