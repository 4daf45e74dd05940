// Scenario: numbers of every size. Guarantees: the unit fits, no share is shown as more than is known.
import assert from "node:assert/strict";
import test from "node:test";
import { clock, count, percent, points, rate, share, span, ticks, weight } from "../src/format";

const plain = (text: string) => text.replace(/\u202f/g, " ");

test("weights have the unit that fits", () => {
  assert.equal(plain(weight(0, "nanoseconds")), "0");
  assert.equal(plain(weight(999, "nanoseconds")), "999 ns");
  assert.equal(plain(weight(999_999, "nanoseconds")), "1.00 ms");
  assert.equal(plain(weight(1.5e9, "nanoseconds")), "1.50 s");
  assert.equal(plain(weight(7200e9, "nanoseconds")), "2.00 h");
  assert.equal(plain(weight(-2e6, "nanoseconds")), "-2.00 ms");
  assert.equal(plain(weight(1536, "bytes")), "1.50 KiB");
  assert.equal(plain(weight(2 ** 53, "bytes")), "8192 TiB");
  assert.equal(plain(weight(1234567, "count")), "1 234 567");
  assert.equal(plain(weight(12, "constructor")), "12");
  assert.equal(plain(weight(3, "milliseconds")), "3.00 ms");
});

test("shares tell small ones apart from none", () => {
  assert.equal(plain(share(0, 10)), "0 %");
  assert.equal(plain(share(1, 1e9)), "< 0.01 %");
  assert.equal(plain(share(1, 0)), "–");
  assert.equal(plain(percent(0.1234)), "12.3 %");
  assert.equal(plain(percent(0.0042)), "0.42 %");
  assert.equal(plain(percent(0.99999)), "100 %");
  assert.equal(plain(percent(-0.05)), "−5.0 %");
});

test("differences carry their sign", () => {
  assert.equal(points(0.123), "+12.3");
  assert.equal(points(-0.0042), "−0.42");
  assert.equal(points(0.000001), "0");
});

test("rates: CPU time is cores", () => {
  assert.equal(plain(rate(2e9, 1000, "nanoseconds")), "2.00 cores");
  assert.equal(plain(rate(2048, 1000, "bytes")), "2.00 KiB/s");
  assert.equal(plain(rate(1, 0, "bytes")), "–");
  assert.equal(plain(span(61_000)), "1.02 min");
  assert.equal(plain(count(-1234)), "-1 234");
});

test("axes have few, round ticks", () => {
  const from = Date.UTC(2026, 0, 1, 12, 0, 0, 500);
  for (const range of [10, 900, 60_000, 3_600_000, 86_400_000, 40 * 86_400_000]) {
    const found = ticks(from, from + range, 10);
    assert.ok(found.length >= 1 && found.length <= 12, `${range}: ${found.length}`);
    assert.ok(found.every((at) => at >= from && at <= from + range));
  }
  assert.deepEqual(ticks(5, 5, 10), []);
  assert.equal(clock(NaN, 1), "–");
});
