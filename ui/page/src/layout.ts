// A tree as columns, ready to draw: which boxes of a row are in sight, which are too small to see, what lies
// under a point, who is whose neighbour. No canvas here, so node can test it.

import type { Tree } from "./api";

/** Boxes narrower than this many pixels are merged with their neighbours. */
export const SLIVER_PX = 0.7;
export const MAX_NODES = 200_000;

export class Layout {
  readonly count: number;
  /** Left edge and width of each box, in the tree's weights; in shares where two sides are compared. */
  start: Float64Array;
  total: Float64Array;
  /** Weight of each node (of the new side, where two are compared). */
  readonly weight: Float64Array;
  readonly self: Float64Array;
  readonly base: Float64Array | undefined;
  readonly depth: Uint32Array;
  readonly name: Uint32Array;
  readonly module: Uint32Array;
  readonly folded: Uint32Array;
  readonly parent: Int32Array;
  /** Nodes of each depth, by falling left edge. */
  readonly rows: Uint32Array[];

  constructor(readonly tree: Tree) {
    const { nodes, names, modules } = tree;
    const count = nodes.depth.length;
    const columns = [nodes.start, nodes.total, nodes.self, nodes.name, nodes.module, nodes.folded];
    if (count > MAX_NODES || columns.some((c) => !Array.isArray(c) || c.length !== count)) {
      throw new Error("The server's tree is malformed: its columns differ in length.");
    }
    this.count = count;
    this.start = Float64Array.from(nodes.start);
    this.weight = Float64Array.from(nodes.total);
    this.total = this.weight;
    this.self = Float64Array.from(nodes.self);
    this.base = nodes.base === undefined ? undefined : Float64Array.from(nodes.base);
    this.depth = Uint32Array.from(nodes.depth);
    this.name = Uint32Array.from(nodes.name, (ix) => (ix < names.length ? ix : 0));
    this.module = Uint32Array.from(nodes.module, (ix) => (ix < modules.length ? ix : 0));
    this.folded = Uint32Array.from(nodes.folded);
    this.parent = new Int32Array(count);
    this.rows = this.index();
    if (this.base !== undefined) this.widen(this.base);
  }

  /** Two sides: a box is as wide as both its shares together, so that what is gone is seen too. */
  private widen(base: Float64Array): void {
    const [all, all_base] = [this.weight[0] || 1, base[0] || 1];
    this.total = this.weight.map((weight, node) => weight / all + (base[node] as number) / all_base);
    this.start = new Float64Array(this.count);
    const next = new Float64Array(this.count);
    for (let node = 1; node < this.count; node++) {
      const parent = this.parent[node] as number;
      if (parent < 0) continue;
      const start = (this.start[parent] as number) + (next[parent] as number);
      this.start[node] = start;
      next[parent] = (next[parent] as number) + (this.total[node] as number);
    }
  }

  private index(): Uint32Array[] {
    const sizes: number[] = [];
    const open: number[] = [];
    for (let node = 0; node < this.count; node++) {
      const depth = this.depth[node] as number;
      if (depth > open.length) throw new Error("The server's tree is malformed: a node has no parent.");
      open.length = depth;
      this.parent[node] = depth === 0 ? -1 : (open[depth - 1] as number);
      open.push(node);
      sizes[depth] = (sizes[depth] ?? 0) + 1;
    }
    const rows = sizes.map((size) => new Uint32Array(size));
    const filled = sizes.map(() => 0);
    for (let node = 0; node < this.count; node++) {
      const depth = this.depth[node] as number;
      (rows[depth] as Uint32Array)[(filled[depth] as number)++] = node;
    }
    return rows;
  }

  get width(): number {
    return this.count > 0 ? (this.total[0] as number) : 0;
  }

  name_of(node: number): string {
    return this.tree.names[this.name[node] ?? 0] ?? "";
  }

  module_of(node: number): string {
    return this.tree.modules[this.module[node] ?? 0] ?? "";
  }

  hash_of(node: number): string {
    return this.tree.nodes.hash?.[node] ?? "";
  }

  /** The node with this hash, or -1. */
  find(hash: string): number {
    return hash === "" ? -1 : (this.tree.nodes.hash?.indexOf(hash) ?? -1);
  }

  path_of(node: number): string[] {
    const path: string[] = [];
    for (let at = node; at > 0; at = this.parent[at] ?? -1) path.push(this.name_of(at));
    return path.reverse();
  }

  /** First place in a row whose box ends right of `x`. */
  private first(row: Uint32Array, x: number): number {
    let low = 0;
    let high = row.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const node = row[middle] as number;
      if ((this.start[node] as number) + (this.total[node] as number) > x) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** The node of `depth` at `x`, or -1. */
  at(depth: number, x: number): number {
    const row = this.rows[depth];
    if (row === undefined) return -1;
    const node = row[this.first(row, x)];
    return node !== undefined && (this.start[node] as number) <= x ? node : -1;
  }

  /**
   * Boxes of a row between `x0` and `x1` at `scale` pixels a unit: `box` for each that can be seen, `sliver`
   * for each run of neighbours that cannot.
   */
  visible(depth: number, x0: number, x1: number, scale: number, box: (node: number) => void,
    sliver: (from: number, to: number, nodes: number) => void): void {
    const row = this.rows[depth];
    if (row === undefined) return;
    let run_from = 0;
    let run_to = 0;
    let run = 0;
    const flush = () => {
      if (run > 0) sliver(run_from, run_to, run);
      run = 0;
    };
    for (let i = this.first(row, x0); i < row.length; i++) {
      const node = row[i] as number;
      const start = this.start[node] as number;
      if (start >= x1) break;
      const end = start + (this.total[node] as number);
      if ((end - start) * scale >= SLIVER_PX) {
        flush();
        box(node);
      } else {
        if (run > 0 && (start - run_to) * scale > 1) flush();
        if (run === 0) run_from = start;
        run_to = end;
        run++;
      }
    }
    flush();
  }

  first_child(node: number): number {
    return node + 1 < this.count && this.parent[node + 1] === node ? node + 1 : -1;
  }

  /** The neighbour of `node` in its row, also across parents: -1 to the left, 1 to the right. */
  beside(node: number, step: -1 | 1): number {
    const row = this.rows[this.depth[node] ?? 0];
    if (row === undefined) return -1;
    let at = this.first(row, this.start[node] as number);
    while (at < row.length && row[at] !== node) at++;
    return row[at + step] ?? -1;
  }
}

/** What a search matches: a literal without regard to case, or `/expression/`. */
export function matcher(term: string): ((name: string) => boolean) | string {
  const expression = /^\/(.+)\/$/.exec(term);
  if (expression !== null) {
    try {
      const regex = new RegExp(expression[1] as string);
      return (name) => regex.test(name.slice(0, 4096));
    } catch {
      return "not a regular expression";
    }
  }
  const wanted = term.toLowerCase();
  return (name) => name.toLowerCase().includes(wanted);
}
