// Scenario: links of every state, old, foreign, damaged. Guarantees: what is written is read back equal; nothing
// that a link holds ends anywhere unchecked; a link that cannot be read says so.
import assert from "node:assert/strict";
import test from "node:test";
import { DEFAULTS, read_link, resolve_time, type State, VIEWS, write_link } from "../src/link";
import { random } from "./mock/data";

test("the defaults are short", () => {
  assert.equal(write_link(DEFAULTS), "#1&v=flame");
  assert.deepEqual(read_link("").state, DEFAULTS);
});

test("what is written is read back", () => {
  const next = random(17);
  const pieces = ["a", "&", "=", "#", "%", "+", " ", "\"", "{", "}", "é", "𝕱", "\u0000", "<b>", "__proto__", "/", ":", ","];
  const any = () => Array.from({ length: Math.floor(next() * 12) }, () => pieces[Math.floor(next() * pieces.length)]).join("");
  for (let i = 0; i < 500; i++) {
    const state: State = {
      ...DEFAULTS, view: VIEWS[Math.floor(next() * VIEWS.length)] ?? "flame", type: any(), query: any(), focus: any(), hide: any(), fn: any(), mod: any(), search: any(), by: any(),
      from: String(Math.floor(next() * 1e13)), to: "now-15m", fold: next() < 0.5 ? "" : "recursion,libraries", root: next() < 0.5 ? "" : "00ff00ff00ff00ff",
      invert: next() < 0.5, sort: next() < 0.5 ? "self" : "name", base: "labels", base_query: any(), base_files: "1,2,30",
    };
    const read = read_link(write_link(state));
    assert.deepEqual(read, { state, problem: "" });
  }
});

test("a newer link says so and shows everything", () => {
  const read = read_link("#2&v=hologram");
  assert.deepEqual(read.state, DEFAULTS);
  assert.match(read.problem, /"2"/);
});

test("what is damaged is left out, and named", () => {
  const read = read_link("#1&v=nowhere&root=xyz&from=yesterday&sort=rows&s=kept&%%%&future=1&q=%E0%A4%A");
  assert.equal(read.state.search, "kept");
  assert.equal(read.state.view, "flame");
  assert.equal(read.state.root, "");
  assert.match(read.problem, /v, root, from, sort, q/);
  assert.equal(read_link(`#1&s=${"x".repeat(5000)}`).state.search, "");
  assert.equal((read_link("#1&__proto__=1").state as unknown as Record<string, unknown>)["polluted"], undefined);
});

test("times that follow the clock", () => {
  assert.equal(resolve_time("now-15m", 1_000_000), 100_000);
  assert.equal(resolve_time("now", 5), 5);
  assert.equal(resolve_time("1234", 5), 1234);
  assert.equal(resolve_time("", 5), undefined);
});
