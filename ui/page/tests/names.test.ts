// Scenario: names of many languages, and names that nobody would choose. Guarantees: the last two components,
// both ends kept where that is too long, control characters made visible, time linear in the length.
import assert from "node:assert/strict";
import test from "node:test";
import { components, fit, shorten_middle, short_name, visible } from "../src/names";

test("the last two components of names of each language", () => {
  const cases: [string, string][] = [
    ["std::rt::lang_start::{{closure}}", "rt::lang_start::{closure}"],
    ["<alloc::vec::Vec<T> as core::iter::traits::collect::FromIterator<T>>::from_iter", "Vec<T>::from_iter"],
    ["tokio::runtime::task::raw::poll", "raw::poll"],
    ["github.com/acme/shop/cart.(*Cart).Total", "(*Cart).Total"],
    ["net/http.(*conn).serve", "(*conn).serve"],
    ["runtime.mallocgc", "runtime.mallocgc"],
    ["Catalog.search.<locals>.<listcomp>", "search.<listcomp>"],
    ["<module> /srv/app.py", "<module>"],
    ["std::vector<int, std::allocator<int>>::push_back(int const&)", "vector<…>::push_back"],
    ["node::Start(int, char**)", "node::Start"],
    ["void f<a::b>(c::d const&)", "void f<a::b>"],
    ["a::operator<<", "a::operator<<"],
    ["java.util.HashMap.put", "HashMap.put"],
    ["malloc", "malloc"],
    ["libz.so.1.2.13+0x4a26", "libz.so.1.2.13+0x4a26"],
    ["0x7f001234", "0x7f001234"],
    ["[kernel]", "[kernel]"],
    ["JS:*burn /srv/shop.js:13:19", "JS:*burn"],
    ["", ""],
  ];
  for (const [full, short] of cases) assert.equal(short_name(full), short, full);
});

test("brackets keep what is in them together", () => {
  assert.deepEqual(components("a::b<c::d>::e"), ["a", "b<c::d>", "e"]);
  assert.deepEqual(components("..."), ["..."]);
  assert.deepEqual(components("f(a.b)"), ["f(a.b)"]);
});

test("what cannot be seen is shown as a dot", () => {
  assert.equal(visible("\u202egnp.exe"), "·gnp.exe");
  assert.equal(visible("a\u0000b\nc"), "a·b·c");
});

test("shortening keeps both ends and counts characters, not halves of them", () => {
  assert.equal(shorten_middle("abcdefghij", 5), "ab…ij");
  assert.equal(shorten_middle("abc", 5), "abc");
  assert.equal(shorten_middle("abcdef", 2), "");
  assert.equal(Array.from(shorten_middle("𝕱".repeat(20), 7)).length, 7);
});

test("what fits is shown, what does not is shortened, what is hopeless is left out", () => {
  const measure = (text: string) => text.length * 7;
  assert.equal(fit("server::handle", 200, measure), "server::handle");
  assert.equal(fit("server::handle", 60, measure), "handle");
  assert.equal(fit("server::handle_request", 60, measure), "hand…est");
  assert.ok(measure(fit("server::handle_request", 60, measure)) <= 60);
  assert.equal(fit("server::handle_request", 20, measure), "");
});

test("hostile names take linear work", () => {
  for (const name of ["<".repeat(100_000), "a<".repeat(50_000), ">".repeat(100_000), "::".repeat(100_000), "(".repeat(50_000) + ")".repeat(50_000), "operator".repeat(20_000)]) {
    assert.ok(short_name(name).length <= 5000);
    assert.ok(components(name).length >= 1);
  }
});
