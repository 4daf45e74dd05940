// Scenario: every ink that a box can have. Guarantees: a label's contrast is at least 4.5:1 in both themes; a
// module's colour does not depend on which view asked first.
import assert from "node:assert/strict";
import test from "node:test";
import { contrast, DIFF_STEPS, diff_ink, DIM, heat, HIT, type Ink, KERNEL, LESS, MODULE_INKS, ModuleColors, MORE, PLAIN, type Theme, UNBOUND } from "../src/color";

test("labels can be read on every box", () => {
  for (const theme of ["light", "dark"] as Theme[]) {
    const inks: Ink[] = [...MODULE_INKS[theme], ...MORE[theme], ...LESS[theme], PLAIN[theme], KERNEL[theme], UNBOUND[theme], HIT[theme], DIM[theme]];
    assert.equal(inks.length, 12 + 2 * DIFF_STEPS + 5);
    for (const ink of inks) assert.ok(contrast(ink.fill, ink.text) >= 4.5, `${theme} ${ink.fill} ${contrast(ink.fill, ink.text)}`);
  }
});

test("modules that matter have different colours, whatever a filter leaves", () => {
  const names = ["checkout", "search", "report", "libc.so.6", "libz.so.1", "node", "ld.so", "libssl.so", "app"];
  const colors = new ModuleColors(names);
  assert.equal(new Set(names.map((name) => colors.ink(name, "light").fill)).size, names.length);
  const again = new ModuleColors(names);
  for (const name of [...names].reverse()) assert.equal(again.ink(name, "dark").fill, colors.ink(name, "dark").fill);
  assert.equal(colors.ink("[kernel]", "light"), KERNEL.light);
  for (let i = 0; i < 100; i++) assert.ok(colors.ink(`m${i}`, "light").fill.startsWith("#"));
});

test("no finding is grey, more is not less", () => {
  assert.equal(diff_ink(0.2, "none", "light"), PLAIN.light);
  assert.equal(diff_ink(0.2, "found", "light"), MORE.light[DIFF_STEPS - 1]);
  assert.equal(diff_ink(-0.2, "found", "dark"), LESS.dark[DIFF_STEPS - 1]);
  assert.equal(diff_ink(0.2, "untested", "light"), MORE.light[1]);
  assert.equal(diff_ink(0.001, "untested", "light"), PLAIN.light);
  assert.notEqual(heat(0, "light"), heat(1, "light"));
});
