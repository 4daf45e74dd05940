// Scenario: seeded trees, and answers that are not trees. Guarantees: every point of a row finds the box that a plain
// scan finds; what is drawn and merged is each node in sight, once; both sides of a comparison keep their place.
import assert from "node:assert/strict";
import test from "node:test";
import type { Tree } from "../src/api";
import { Layout, matcher } from "../src/layout";
import { large, small } from "./mock/data";
import { tree } from "./mock/query";

const data = small();
const made = tree(data, data.samples, "nanoseconds", { nodes: 20_000, width: 1600, root: "" }) as Tree;

test("a point finds its box", () => {
  const layout = new Layout(made);
  for (let depth = 0; depth < layout.rows.length; depth++) {
    for (let i = 0; i < 200; i++) {
      const x = (layout.width * (i + 0.5)) / 200;
      let expected = -1;
      for (let node = 0; node < layout.count; node++) {
        const start = layout.start[node] as number;
        if (layout.depth[node] === depth && start <= x && x < start + (layout.total[node] as number)) expected = node;
      }
      assert.equal(layout.at(depth, x), expected);
    }
  }
});

test("every node in sight is drawn or merged, once", () => {
  const big = large();
  const layout = new Layout(tree(big, big.samples, "nanoseconds", { nodes: 20_000, width: 4000, root: "" }) as Tree);
  assert.ok(layout.count > 5000);
  for (const [part, px] of [[1, 1600], [1, 300], [0.1, 1600]] as const) {
    let drawn = 0;
    let merged = 0;
    let expected = 0;
    const x1 = layout.width * part;
    for (let node = 0; node < layout.count; node++) if ((layout.start[node] as number) < x1) expected++;
    for (let depth = 0; depth < layout.rows.length; depth++) {
      layout.visible(depth, 0, x1, px / x1, () => drawn++, (_, __, nodes) => { merged += nodes; });
    }
    assert.equal(drawn + merged, expected);
    assert.ok(merged > 0);
  }
});

test("neighbours, children, paths", () => {
  const layout = new Layout(made);
  assert.equal(layout.first_child(0), 1);
  const node = layout.rows[2]?.[0] as number;
  assert.equal(layout.beside(layout.beside(node, 1), -1), node);
  assert.equal(layout.path_of(layout.rows[3]?.[0] as number).length, 3);
  assert.deepEqual(layout.path_of(0), []);
  assert.equal(layout.find(layout.hash_of(5)), 5);
  assert.equal(layout.find(""), -1);
});

test("a comparison is as wide as both sides, parents hold their children", () => {
  const half = data.samples.filter((s) => s.at < data.from + 30_000);
  const other = data.samples.filter((s) => s.at >= data.from + 30_000);
  const layout = new Layout(tree(data, other, "nanoseconds", { nodes: 20_000, width: 1600, root: "" }, (s) => s.stack, half) as Tree);
  assert.ok(Math.abs(layout.width - 2) < 1e-9);
  for (let node = 1; node < layout.count; node++) {
    const parent = layout.parent[node] as number;
    assert.ok((layout.start[node] as number) >= (layout.start[parent] as number) - 1e-9);
    assert.ok((layout.start[node] as number) + (layout.total[node] as number) <= (layout.start[parent] as number) + (layout.total[parent] as number) + 1e-9);
  }
});

test("what is not a tree is rejected", () => {
  const bad = (change: (nodes: Record<string, unknown[]>) => void): Tree => {
    const copy = structuredClone(made);
    change(copy.nodes as unknown as Record<string, unknown[]>);
    return copy;
  };
  assert.throws(() => new Layout(bad((n) => n["depth"]?.splice(1, 1))), /malformed/);
  assert.throws(() => new Layout(bad((n) => { (n["depth"] as number[])[1] = 7; })), /no parent/);
  const wild = new Layout(bad((n) => { (n["name"] as number[])[1] = 1e9; }));
  assert.equal(wild.name_of(1), made.names[0]);
});

test("a search is a text or an expression", () => {
  const literal = matcher("PARSE");
  assert.ok(typeof literal === "function" && literal("serde::parse_value") && !literal("x"));
  const expression = matcher("/^serde.*value$/");
  assert.ok(typeof expression === "function" && expression("serde::parse_value") && !expression("Serde"));
  assert.equal(matcher("/(/"), "not a regular expression");
  const slash = matcher("/");
  assert.ok(typeof slash === "function" && slash("a/b"));
});
