// What people do with the page, in a real browser, under the server's own policy. Boxes, nodes, bytes, requests and texts
// are asserted, never times. Every flow also asserts: no console error, no request to elsewhere.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import type { Browser, Page } from "puppeteer-core";
import type { Functions, Labels, Session, Tree } from "../src/api";
import { boxes, busy, chromium, drawn, fragment, launch, type Options, text, until, watch, type Watched } from "./browser";
import { api, type Sites, sites } from "./site";

const MAX_DOM_NODES = 2500;
const MAX_ASSET_BYTES = 150_000;
const path = chromium();
const skip = path === undefined ? "no Chromium: install it (Debian: apt-get install chromium), or name one with CHROMIUM=…" : false;
if (path === undefined && (process.env["CI"] ?? "") !== "") throw new Error(String(skip));
if (path === undefined) console.error(`the flows are left out: ${skip}`);

let browser: Browser;
let at: Sites;
before(async () => {
  if (path === undefined) return;
  at = await sites();
  browser = await launch(path);
});
after(async () => {
  await browser?.close();
  await at?.close();
});

function flow(name: string, run: () => Promise<void>): void {
  test(name, { skip }, run);
}

async function open(base: string, link = "", options: Options = {}): Promise<Watched> {
  const watched = await watch(browser, base, options);
  await watched.page.goto(`${base}/${link}`);
  return watched;
}

const dom_nodes = (page: Page) => page.evaluate(() => document.getElementsByTagName("*").length);
const settled = (page: Page) => until(page, "nothing is loading", async () => !(await busy(page)));
const hottest = async (base: string): Promise<string> => {
  const { rows } = await api<Functions>(base, "functions?sort=self&limit=10");
  const row = rows.find((r) => r.name.length > 3) ?? rows[0];
  assert.ok(row !== undefined, "the profile has functions");
  return row.name;
};

/** Middle of the drawn box of a function, found by walking with the keys. */
async function choose_box(page: Page, name: string): Promise<void> {
  await page.focus(".flame canvas");
  await page.click("#search");
  await page.type("#search", `/^${name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$/`);
  await until(page, "the search is drawn", async () => Number((await drawn(page))?.["hits"]) > 0);
  await page.keyboard.press("Enter");
  await until(page, "a hit is chosen", async () => (await drawn(page))?.["selected"] === name.slice(0, 200));
  await page.evaluate(() => (document.activeElement as HTMLElement).blur());
}

flow("load: boxes, texts, policy, few nodes, few bytes, few requests", async () => {
  const { page, requests, bytes, done } = await open(at.small);
  const data = await boxes(page);
  const session = await api<Session>(at.small, "session");
  assert.ok(Number(data["boxes"]) > 5 && Number(data["labels"]) > 2, JSON.stringify(data));
  assert.equal(await page.title(), `${session.title} – profpipe`);
  assert.match(await text(page, ".details"), /in [\d ]+ samples/);
  assert.match(await text(page, ".foot .loss"), /complete|Nothing is said/);
  assert.ok(await dom_nodes(page) < MAX_DOM_NODES);
  assert.equal(new Set(requests).size, requests.length, "nothing is asked twice");
  assert.ok(requests.length <= 10, requests.join("\n"));
  const assets = ["index.html", "app.js", "app.css"].map((name) => readFileSync(new URL(`../../assets/${name}`, import.meta.url)));
  assert.ok(assets.reduce((sum, file) => sum + gzipSync(file, { level: 9 }).length, 0) <= MAX_ASSET_BYTES);
  assert.ok(bytes() > 0);
  const answer = await fetch(`${at.small}/`);
  const policy = answer.headers.get("content-security-policy") ?? "";
  for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "require-trusted-types-for 'script'", "frame-ancestors 'none'"]) assert.ok(policy.includes(part), policy);
  await done();
});

flow("search: a text, an expression, what is none, the next hit", async () => {
  const name = await hottest(at.small);
  const { page, done } = await open(at.small);
  await boxes(page);
  await page.keyboard.press("/");
  await page.keyboard.type(name);
  await until(page, "hits", async () => Number((await drawn(page))?.["hits"]) > 0 && /function/.test(await text(page, "#search-result")));
  assert.ok(fragment(page).includes("&s="));
  await page.keyboard.press("Enter");
  const part = name.slice(0, 100).toLowerCase();
  await until(page, "a hit is chosen", async () => (await drawn(page))?.["selected"]?.toLowerCase().includes(part));
  await page.click("#search", { count: 3 });
  await page.keyboard.type("/[a-z]/");
  await until(page, "many hits", async () => /in ([2-9]|\d\d+)( or more)? functions/.test(await text(page, "#search-result")));
  await page.click("#search", { count: 3 });
  await page.keyboard.type("/(/");
  await until(page, "it is told", async () => /not a regular expression/.test(await text(page, "#search-result")));
  await page.click("#search", { count: 3 });
  await page.keyboard.type("no such function anywhere");
  await until(page, "it is told", async () => /nothing found/.test(await text(page, "#search-result")));
  await page.keyboard.press("Escape");
  await until(page, "it is cleared", async () => !fragment(page).includes("&s=") && (await drawn(page))?.["hits"] === "0");
  await done();
});

flow("zoom: a click chooses, the next one zooms; the breadcrumb leads back", async () => {
  const { page, done } = await open(at.small);
  await boxes(page);
  const canvas = await page.$(".flame canvas");
  const room = await canvas?.boundingBox();
  assert.ok(room);
  const point = { x: room.x + room.width * 0.2, y: room.y + 2.5 * 20 };
  await page.mouse.move(point.x, point.y);
  await until(page, "a tip is shown", async () => (await text(page, ".tip-name")) !== "");
  await page.mouse.click(point.x, point.y);
  const chosen = await until(page, "a box is chosen", async () => (await drawn(page))?.["selected"]);
  assert.ok((await text(page, ".details-actions")).includes("Sandwich"));
  await page.mouse.click(point.x, point.y);
  await until(page, "zoomed", async () => /&root=[0-9a-f]{16}/.test(fragment(page)));
  await until(page, "a breadcrumb", async () => (await text(page, ".crumbs [aria-current]")).length > 0);
  await boxes(page);
  assert.ok((await page.$$(".crumbs li")).length >= 2);
  assert.ok(chosen.length > 0);
  await page.keyboard.press("Backspace");
  await page.keyboard.press("u");
  await until(page, "back at everything", async () => !fragment(page).includes("&root=") && (await text(page, ".crumbs")).includes("All stacks"));
  await done();
});

flow("range: a drag on the timeline, then the handles by keys", async () => {
  const session = await api<Session>(at.small, "session");
  const { page, done } = await open(at.small);
  await boxes(page);
  assert.ok(session.from !== null && session.until !== null && session.until > session.from, "the profile has times");
  await until(page, "the timeline is drawn", () => page.evaluate(() => Number(document.querySelector<HTMLCanvasElement>(".strip-canvas")?.dataset["points"]) > 10));
  const all = await text(page, ".details");
  const room = await (await page.$(".strip-canvas"))?.boundingBox();
  assert.ok(room);
  await page.mouse.move(room.x + room.width * 0.25, room.y + 20);
  await page.mouse.down();
  await page.mouse.move(room.x + room.width * 0.5, room.y + 20, { steps: 4 });
  await page.mouse.up();
  await until(page, "a range", async () => /&from=\d+&to=\d+/.test(fragment(page)));
  await until(page, "less than all", async () => /samples/.test(await text(page, ".details")) && (await text(page, ".details")) !== all);
  const [from, to] = (/&from=(\d+)&to=(\d+)/.exec(fragment(page)) ?? []).slice(1).map(Number) as [number, number];
  const length = session.until - session.from;
  assert.ok(Math.abs((to - from) / length - 0.25) < 0.02, `${from} ${to}`);
  const part = await api<Tree>(at.small, `tree?nodes=1&width=800&from=${from}&until=${to}`);
  const whole = await api<Tree>(at.small, "tree?nodes=1&width=800");
  assert.ok(part.total < whole.total && part.total > 0);
  await page.focus(".handle[aria-label^=End]");
  await page.keyboard.press("ArrowRight");
  await until(page, "the end moved", async () => Number(/&to=(\d+)/.exec(fragment(page))?.[1]) > to);
  const end = /&to=(\d+)/.exec(fragment(page))?.[1];
  const edge = await (await page.$(".handle[aria-label^=Start]"))?.boundingBox();
  assert.ok(edge);
  await page.mouse.move(edge.x + edge.width / 2, edge.y + 20);
  await page.mouse.down();
  await page.mouse.move(edge.x + edge.width / 2 - 40, edge.y + 20, { steps: 3 });
  await page.mouse.up();
  await until(page, "the start moved", async () => Number(/&from=(\d+)/.exec(fragment(page))?.[1]) < from);
  assert.equal(/&to=(\d+)/.exec(fragment(page))?.[1], end);
  const moved = fragment(page);
  await page.evaluate(() => (document.activeElement as HTMLElement).blur());
  await page.keyboard.press("]");
  await until(page, "the range moved", async () => fragment(page) !== moved);
  await page.keyboard.press("r");
  await until(page, "everything again", async () => !fragment(page).includes("&from="));
  await done();
});

flow("compare: halves of the time, table first, grey where nothing is found, then the flame graph", async () => {
  const { page, done } = await open(at.small);
  await boxes(page);
  await page.keyboard.press("d");
  await until(page, "the chooser", async () => (await text(page, ".diff")).includes("Compare with what?"));
  await page.evaluate(() => [...document.querySelectorAll<HTMLButtonElement>(".chooser button")].find((b) => b.innerText === "Another time")?.click());
  await until(page, "the choice", async () => (await text(page, ".chooser")).includes("First half"));
  await page.evaluate(() => [...document.querySelectorAll<HTMLButtonElement>(".chooser button")].find((b) => b.innerText.startsWith("First half"))?.click());
  await until(page, "the table", () => page.evaluate(() => document.querySelectorAll(".diff-table tbody tr").length > 2));
  assert.match(fragment(page), /&base=time&bfrom=\d+&bto=\d+/);
  const head = await text(page, ".diff-head");
  assert.match(head, /base [\d ]+ samples in/);
  assert.match(head, /changed by more than noise|not decidable/);
  const untold = head.includes("not decidable") ? "not tested" : "no finding";
  for (const same of await page.evaluate(() => [...document.querySelectorAll<HTMLElement>(".diff-table .class-same .badge")].map((b) => b.innerText))) assert.equal(same, untold);
  assert.equal((await page.$$(".shade.base")).length, 1);
  await page.evaluate(() => [...document.querySelectorAll<HTMLButtonElement>(".diff-head button")].find((b) => b.innerText === "Flame graph")?.click());
  const data = await boxes(page, ".diff-flame canvas");
  assert.ok(Number(data["boxes"]) > 3);
  await page.evaluate(() => [...document.querySelectorAll<HTMLButtonElement>(".diff-head button")].find((b) => b.innerText === "Total")?.click());
  await until(page, "by total", async () => fragment(page).includes("&bby=total") && !(await busy(page)));
  await done();
});

flow("deep link: a zoom opens again elsewhere, also after the data are aggregated anew", async () => {
  const name = await hottest(at.small);
  const tree = await api<Tree>(at.small, "tree?nodes=20000&width=1600");
  const node = tree.nodes.name.findIndex((ix, i) => tree.names[ix] === name && (tree.nodes.depth[i] ?? 0) > 1 && (tree.nodes.folded[i] ?? 0) === 0);
  assert.ok(node > 0);
  const root = tree.nodes.hash?.[node] ?? "";
  const elsewhere = "no%20function%20of%20this%20name";
  for (const more of ["", `&hide=${elsewhere}`, "&q=%7Bno_such_label%3D%22%22%7D"]) {
    const { page, done } = await open(at.small, `#1&v=flame${more}&root=${root}`);
    await boxes(page);
    const crumb = await until(page, "the breadcrumb", () => text(page, ".crumbs [aria-current]"));
    assert.ok(name.startsWith(crumb.slice(0, 20)) || crumb.includes("·"), `${crumb} is not ${name}`);
    await done();
  }
  const { page, done } = await open(at.small, "#1&v=flame&root=0123456789abcdef", { expects_failures: true });
  await until(page, "it is told", async () => (await text(page, ".view")).includes("Zoom out to everything") || Number((await drawn(page))?.["boxes"]) > 0);
  await page.evaluate(() => document.querySelector<HTMLButtonElement>(".below-error button")?.click());
  await boxes(page);
  await done();
});

flow("back: each step is one step of the back button", async () => {
  const { page, done } = await open(at.small);
  await boxes(page);
  const first = fragment(page);
  await page.keyboard.press("t");
  await until(page, "top", () => page.evaluate(() => document.querySelector(".table tbody tr[data-row]") !== null));
  await page.keyboard.press("f");
  await boxes(page);
  await page.keyboard.press("i");
  await until(page, "inverted", async () => fragment(page).includes("&inv=1"));
  await boxes(page);
  await page.goBack();
  await until(page, "upright", async () => !fragment(page).includes("&inv=1") && fragment(page).includes("v=flame"));
  await page.goBack();
  await until(page, "top again", async () => fragment(page).includes("v=top") && (await page.$(".table")) !== null);
  await page.goBack();
  await until(page, "where it began", async () => fragment(page) === first || fragment(page) === "#1&v=flame");
  await page.goForward();
  await until(page, "forward", async () => fragment(page).includes("v=top"));
  await done();
});

flow("keys only: from the first Tab to a sandwich, help and back", async () => {
  const { page, done } = await open(at.small);
  await boxes(page);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement?.className), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "view");
  const reached = new Set<string>();
  for (let i = 0; i < 60 && !reached.has("CANVAS"); i++) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement?.tagName ?? ""));
  }
  assert.ok(reached.has("CANVAS"), [...reached].join());
  for (let i = 0; i < 3; i++) await page.keyboard.press("ArrowDown");
  await until(page, "a box below the root is chosen", async () => !["", "total", undefined].includes((await drawn(page))?.["selected"]));
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Enter");
  await until(page, "zoomed", async () => fragment(page).includes("&root="));
  await settled(page);
  await page.keyboard.press("Backspace");
  await until(page, "out again", async () => !fragment(page).includes("&root=") || (await text(page, ".crumbs")).length > 0);
  await page.keyboard.press("Home");
  await page.keyboard.press("Escape");
  await until(page, "nothing is chosen", async () => (await drawn(page))?.["selected"] === "");
  await page.keyboard.press("?");
  assert.equal(await page.evaluate(() => document.querySelector("dialog")?.open), true);
  await page.keyboard.press("Escape");
  await until(page, "help is closed", () => page.evaluate(() => document.querySelector("dialog")?.open === false));
  await page.keyboard.press("t");
  await until(page, "the table", () => page.evaluate(() => document.querySelector(".table tbody tr[data-row]") !== null));
  await page.evaluate(() => document.querySelector<HTMLElement>(".tabs a[aria-current]")?.focus());
  for (let i = 0; i < 12 && await page.evaluate(() => document.activeElement?.closest("tbody") === null); i++) await page.keyboard.press("Tab");
  await page.keyboard.press("ArrowDown");
  const row = await until(page, "the second row has the focus", () => page.evaluate(() => (document.activeElement?.closest("tr")?.getAttribute("data-row") === "1" ? (document.activeElement as HTMLElement).title : "")));
  await page.keyboard.press("Enter");
  await until(page, "the sandwich", async () => fragment(page).includes("v=sandwich") && (await page.$$(".half canvas")).length === 2);
  assert.ok(row.startsWith((await text(page, ".half-head h2")).slice(0, 10)));
  await done();
});

flow("sandwich: callers above, callees below, one function between", async () => {
  const { rows } = await api<Functions>(at.small, "functions?sort=total&limit=40");
  const middle = rows.find((row) => row.self < row.total && row.total < (rows[0]?.total ?? 0)) ?? rows[0];
  assert.ok(middle !== undefined);
  const { page, done } = await open(at.small, `#1&v=sandwich&fn=${encodeURIComponent(middle.name)}&mod=${encodeURIComponent(middle.module)}`);
  const callers = await boxes(page, ".half:nth-of-type(1) canvas");
  const callees = await boxes(page, ".half:nth-of-type(2) canvas");
  assert.ok(Number(callers["boxes"]) >= 2 && Number(callees["boxes"]) >= 1, JSON.stringify([callers, callees]));
  await page.click(".half-actions button");
  await until(page, "the source", async () => fragment(page).includes("v=source") && /Line|No lines|No source/.test(await text(page, ".split-main")));
  await done();
});

flow("20,000 functions: few nodes in the document, a canvas no higher than the view, a table of rows in sight", async () => {
  const { page, done } = await open(at.large);
  const data = await boxes(page);
  assert.ok(Number(data["boxes"]) > 300 && Number(data["nodes"]) <= 20_100 && Number(data["merged"]) + Number(data["folded"]) > 0, JSON.stringify(data));
  assert.ok(await dom_nodes(page) < MAX_DOM_NODES);
  const [height, view] = await page.evaluate(() => [document.querySelector<HTMLElement>(".flame canvas")?.clientHeight ?? 0, document.querySelector<HTMLElement>(".flame")?.clientHeight ?? 1]);
  assert.ok(Math.abs((height ?? 0) - (view ?? 0)) <= 1, `${height} ${view}`);
  const answer = await fetch(`${at.large}/api/tree?nodes=20000&width=1600`, { headers: { "accept-encoding": "gzip" } });
  assert.equal(answer.status, 200);
  await page.keyboard.press("t");
  const count = Number(await until(page, "the table", () => page.evaluate(() => document.querySelector<HTMLElement>(".table")?.dataset["count"])));
  const first = await api<Functions>(at.large, "functions?sort=self&limit=1");
  assert.equal(count, first.count);
  assert.ok(count > 10_000);
  await page.evaluate(() => document.querySelector(".table")?.scrollTo(0, 1e9));
  await until(page, "the last row", async () => page.evaluate((last) => document.querySelector(`tr[data-row="${last}"] .share`) !== null, count - 1));
  assert.ok((await page.$$(".table tbody tr")).length < 120);
  assert.ok(await dom_nodes(page) < MAX_DOM_NODES);
  await done();
});

flow("the table comes from the full data: the sum of self is the selection's total", async () => {
  const whole = await api<Tree>(at.large, "tree?nodes=1&width=800");
  let sum = 0;
  let seen = 0;
  for (let offset = 0; ; offset += 1000) {
    const page = await api<Functions>(at.large, `functions?sort=self&limit=1000&offset=${offset}`);
    sum += page.rows.reduce((all, row) => all + row.self, 0);
    seen += page.rows.length;
    if (page.rows.length === 0 || seen >= page.count) break;
  }
  assert.equal(sum, whole.total);
});

flow("names that try to be markup stay names, in every view", async () => {
  const { page, done } = await open(at.hostile);
  await boxes(page);
  const harmless = async (where: string) => {
    const found = await page.evaluate(() => ({
      owned: "__owned" in globalThis, elements: document.querySelectorAll("#app img, #app script, #app iframe, #app svg[onload], #app [onerror], #app b > label").length,
    }));
    assert.deepEqual(found, { owned: false, elements: 0 }, where);
  };
  const session = await api<Session>(at.hostile, "session");
  assert.equal(await page.title(), `${session.title.slice(0, 100)} – profpipe`);
  const room = await (await page.$(".flame canvas"))?.boundingBox();
  assert.ok(room);
  for (let i = 0; i < 25; i++) await page.mouse.move(room.x + (room.width * (i + 0.5)) / 25, room.y + 30 + (i % 3) * 20);
  await harmless("flame");
  await page.keyboard.press("t");
  await until(page, "the table", () => page.evaluate(() => document.querySelectorAll(".table tbody tr[data-row]").length > 5));
  assert.ok((await text(page, ".table")).includes("<script>globalThis.__owned=1</script>"));
  await harmless("top");
  const markup = "<img src=x onerror=\"globalThis.__owned=1\">";
  for (const view of ["sandwich", "source"]) {
    await page.goto(`${at.hostile}/#1&v=${view}&fn=${encodeURIComponent(markup)}`);
    await until(page, "the name is told", async () => (await text(page, ".split-main")).includes("<img src=x"));
    await harmless(view);
  }
  await page.goto(`${at.hostile}/#1&v=top&s=${encodeURIComponent("<svg onload")}&focus=${encodeURIComponent("<script>")}&q=${encodeURIComponent("{a=\"<b>\"}")}&type=${encodeURIComponent("<i>")}`);
  await until(page, "it is told", async () => (await text(page, ".chips")).includes("<script>"));
  await harmless("link");
  await page.evaluate(() => document.querySelector<HTMLElement>(".filters summary")?.click());
  await settled(page);
  await harmless("labels");
  await watched_failures(done);
});

/** A hostile link asks for a type that is not there: its answers fail, and only they may. */
async function watched_failures(done: () => Promise<void>): Promise<void> {
  await done().catch((error: assert.AssertionError) => {
    const told = (error.actual as string[] | undefined) ?? [String(error)];
    assert.deepEqual(told.filter((line) => !/^console: Failed to load resource/.test(line)), []);
  });
}

flow("both themes: the system's, the switch, and what was chosen is kept", async () => {
  for (const scheme of ["light", "dark"] as const) {
    const { page, done } = await open(at.small, "", { scheme });
    assert.equal((await boxes(page))["theme"], scheme);
    const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.equal(ground, scheme === "light" ? "rgb(255, 255, 255)" : "rgb(20, 23, 28)");
    const other = scheme === "light" ? "dark" : "light";
    await page.select(".theme select", other);
    await until(page, "the other theme", async () => (await drawn(page))?.["theme"] === other);
    await page.reload();
    assert.equal((await boxes(page))["theme"], other);
    await done();
  }
});

flow("accessible: axe finds nothing, in every view and both themes", async () => {
  const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  const name = encodeURIComponent(await hottest(at.small));
  const session = await api<Session>(at.small, "session");
  const middle = Math.round(((session.from ?? 0) + (session.until ?? 0)) / 2);
  const halves = `diff&base=time&bfrom=${session.from}&bto=${middle}&from=${middle}&to=${session.until}`;
  const views = ["flame", "top", `sandwich&fn=${name}`, "diff&base=labels", halves, `source&fn=${name}`, "threads", "flame&s=e&focus=.&fold=recursion", "top&s=no+such+function"];
  for (const scheme of ["light", "dark"] as const) {
    const { page, done } = await open(at.small, "", { scheme });
    for (const view of views) {
      await page.goto("about:blank");
      await page.goto(`${at.small}/#1&v=${view}`);
      await until(page, "the view", async () => (await page.$(".view")) !== null && !(await busy(page)));
      if (view === "top") await page.evaluate(() => document.querySelectorAll<HTMLDetailsElement>("details").forEach((menu) => { menu.open = true; }));
      if (view === "threads") await page.evaluate(() => document.querySelector("dialog")?.showModal());
      await settled(page);
      await page.evaluate(axe);
      const found = await page.evaluate(async () => {
        const run = (globalThis as unknown as { axe: { run: () => Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }> } }).axe;
        return (await run.run()).violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => `${n.html.slice(0, 160)} ${n.failureSummary.slice(0, 200)}`).join(" | ")}`);
      });
      assert.deepEqual(found, [], `${view} ${scheme}`);
    }
    await done();
  }
});

flow("labels: a picked value is a filter; removing it brings all back", async () => {
  const { labels } = await api<Labels>(at.small, "labels");
  const label = labels.find((l) => l.values.length > 1) ?? labels[0];
  assert.ok(label?.values[0] !== undefined, "the profile has labels");
  const { page, done } = await open(at.small);
  await boxes(page);
  await page.click(".filters summary");
  await until(page, "the labels", async () => (await text(page, ".label-list")).includes(label.name.slice(0, 40)));
  await page.evaluate((wanted) => document.querySelector<HTMLElement>(`.label-list section[aria-label="${wanted}"] button`)?.click(), label.name);
  await until(page, "a chip", async () => (await text(page, ".chips")).includes(label.name.slice(0, 20)));
  assert.ok(fragment(page).includes("&q=%7B"));
  await boxes(page);
  await page.click(".chips .chip button");
  await until(page, "no chip", async () => (await text(page, ".chips")) === "" && !fragment(page).includes("&q="));
  await done();
});

flow("focus, hide and fold change the stacks, and say so", async () => {
  const name = await hottest(at.small);
  const { page, done } = await open(at.small);
  const all = Number((await boxes(page))["nodes"]);
  await choose_box(page, name);
  await page.evaluate(() => [...document.querySelectorAll<HTMLButtonElement>(".details-actions button")].find((b) => b.innerText === "Focus")?.click());
  await until(page, "the focus", async () => (await text(page, ".chips")).includes("focus"));
  const focused = await until(page, "fewer boxes", async () => !(await busy(page)) && Number((await drawn(page))?.["nodes"]) < all ? drawn(page) : undefined);
  assert.ok(Number(focused["boxes"]) > 0);
  await page.keyboard.press("r");
  await until(page, "all again", async () => Number((await drawn(page))?.["nodes"]) === all);
  await choose_box(page, name);
  await page.evaluate(() => [...document.querySelectorAll<HTMLButtonElement>(".details-actions button")].find((b) => b.innerText === "Hide")?.click());
  await until(page, "hidden", async () => fragment(page).includes("&hide=") && !(await busy(page)));
  await until(page, "no hits", async () => (await drawn(page))?.["hits"] === "0" || (await text(page, "#search-result")).includes("nothing"));
  await page.evaluate(() => document.querySelectorAll<HTMLElement>(".filters summary")[1]?.click());
  await page.click(".stack-filters .check:nth-of-type(4) input");
  await until(page, "folded", async () => fragment(page).includes("&fold=libraries"));
  await settled(page);
  await done();
});

flow("threads over time, and the timeline by thread", async () => {
  const { page, done } = await open(at.small, "#1&v=threads&by=thread");
  await until(page, "threads", () => page.evaluate(() => document.querySelectorAll(".threads tbody tr").length > 0 && document.querySelectorAll(".strip-labels li").length > 0));
  assert.ok(await dom_nodes(page) < MAX_DOM_NODES);
  await done();
});

flow("download: every format, with the selection's filters", async () => {
  const session = await api<Session>(at.small, "session");
  const { page, done } = await open(at.small, "#1&v=flame&focus=.");
  await boxes(page);
  const links = await page.evaluate(() => [...document.querySelectorAll<HTMLAnchorElement>(".choices a")].map((a) => a.href));
  assert.equal(links.length, (session.formats ?? []).length);
  for (const link of links) {
    assert.ok(link.includes("focus=."), link);
    const answer = await fetch(link);
    assert.equal(answer.status, 200, link);
    assert.ok((await answer.arrayBuffer()).byteLength > 0);
  }
  await done();
});

flow("links of another version, or damaged, say so and show what they can", async () => {
  const { page, done } = await open(at.small, "#7&v=hologram");
  await boxes(page);
  assert.match(await text(page, ".banner"), /does not read/);
  await page.goto(`${at.small}/#1&v=top&root=zzz&from=yesterday`);
  await until(page, "the table", () => page.evaluate(() => document.querySelector(".table tbody tr[data-row]") !== null));
  assert.match(await text(page, ".banner"), /root, from/);
  await done();
});

flow("narrow and small: nothing overlaps the view", async () => {
  const { page, done } = await open(at.small, "", { size: [1100, 700] });
  await boxes(page);
  const found = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth <= innerWidth, view: document.querySelector<HTMLElement>(".view")?.clientHeight ?? 0, foot: document.querySelector(".foot")?.getBoundingClientRect().bottom ?? 9999 }));
  assert.ok(found.wide && found.view > 200 && found.foot <= 701, JSON.stringify(found));
  await done();
});

flow("errors, slowness and emptiness are told (mock)", async () => {
  const broken = await open(at.mock("broken"), "", { expects_failures: true });
  await until(broken.page, "the error", async () => (await text(broken.page, ".view")).includes("<b>the tables are broken</b>"));
  assert.match(await text(broken.page, ".view"), /500 internal/);
  await broken.page.click(".view .notice button");
  await until(broken.page, "asked again", async () => broken.requests.filter((r) => r.includes("/tree?") && !r.includes("nodes=1&")).length >= 2);
  await broken.done();

  const slow = await open(at.mock("slow"));
  await until(slow.page, "it is told", async () => /Still computing flame graph: \d+ s/.test(await text(slow.page, ".view")));
  await slow.page.click(".view .notice button");
  await until(slow.page, "cancelled", async () => (await text(slow.page, ".view")).includes("Cancelled"));
  await slow.done();

  const empty = await open(at.mock("empty"));
  await until(empty.page, "it is told", async () => (await text(empty.page, ".view")).includes("No samples in this selection"));
  await empty.done();

  const malformed = await open(at.mock("malformed"));
  await until(malformed.page, "it is told", async () => (await text(malformed.page, ".view")).includes("malformed"));
  await malformed.page.keyboard.press("t");
  await until(malformed.page, "it is told", async () => (await text(malformed.page, ".view")).includes("cannot be shown"));
  await malformed.page.evaluate(() => [...document.querySelectorAll<HTMLElement>(".tabs a")].find((a) => a.innerText === "Threads")?.click());
  await until(malformed.page, "another view works", () => malformed.page.evaluate(() => document.querySelectorAll(".threads tbody tr").length > 0));
  await malformed.done();
});

flow("types: another one is asked for, with its own unit", async () => {
  const session = await api<Session>(at.small, "session");
  const other = session.types.find((type) => type.id !== session.default_type);
  assert.ok(other !== undefined, "the profile has two types");
  const { page, done } = await open(at.small);
  await boxes(page);
  const before = await text(page, ".details");
  await page.select(".type select", other.id);
  await until(page, "the other type", async () => fragment(page).includes("&type=") && (await text(page, ".details")) !== before && !(await busy(page)));
  await boxes(page);
  await done();
});

flow("history: ranges that follow the clock, and new data on demand (mock)", async () => {
  const { page, requests, done } = await open(at.mock("history"));
  await boxes(page);
  await page.select(".range-actions select", "now-15m");
  await until(page, "the range", async () => fragment(page).includes("&from=now-15m") && requests.some((r) => /tree\?.*from=\d+/.test(r)));
  const asked = requests.length;
  await page.evaluate(() => [...document.querySelectorAll<HTMLButtonElement>(".head button")].find((b) => b.innerText === "Refresh")?.click());
  await until(page, "asked anew", async () => requests.slice(asked).some((r) => r.endsWith("/api/session")) && requests.slice(asked).some((r) => r.includes("/tree?")) && !(await busy(page)));
  await done();
});

flow("governor and pipeline where the server has them (mock)", async () => {
  const { page, done } = await open(at.mock("history"), "#1&v=governor");
  await until(page, "the budget", async () => /Budget[\s\S]*1 %[\s\S]*256 MiB/.test(await text(page, ".view")));
  await page.evaluate(() => [...document.querySelectorAll<HTMLElement>(".tabs a")].find((a) => a.innerText === "Pipeline")?.click());
  await until(page, "the components", async () => (await text(page, ".view")).includes("connection refused"));
  const files = await open(at.small);
  await boxes(files.page);
  if (!at.real) assert.ok(!(await text(files.page, ".tabs")).includes("Governor"));
  await files.done();
  await done();
});

