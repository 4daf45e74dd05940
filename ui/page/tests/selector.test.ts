// Scenario: label selectors by hand and by the picker. Guarantees: written and read back equal; wrong ones are named.
import assert from "node:assert/strict";
import test from "node:test";
import { parse_selector, with_matcher, write_selector } from "../src/selector";

test("selectors are read and written", () => {
  assert.deepEqual(parse_selector("{}"), []);
  assert.deepEqual(parse_selector(" { a = \"b\" , c!~\"d.*\" } "), [{ name: "a", operator: "=", value: "b" }, { name: "c", operator: "!~", value: "d.*" }]);
  const odd = [{ name: "thread.name", operator: "=" as const, value: "a\"b\\c\nd" }, { name: "<b>\"x\"</b>", operator: "=~" as const, value: "{,}" }];
  assert.deepEqual(parse_selector(write_selector(odd)), odd);
});

test("what is wrong is named", () => {
  assert.match(parse_selector("a=b") as string, /braces/);
  assert.match(parse_selector("{a=b}") as string, /not a matcher: a=b/);
  assert.match(parse_selector("{a=\"b\" c=\"d\"}") as string, /not a matcher/);
});

test("the picker replaces an equal label and keeps the rest", () => {
  assert.equal(with_matcher("{a=\"1\",b=~\"x\"}", { name: "a", operator: "=", value: "2" }), "{b=~\"x\",a=\"2\"}");
  assert.equal(with_matcher("{b=~\"x\"}", { name: "b", operator: "=~", value: "x" }), "{b=~\"x\"}");
});
