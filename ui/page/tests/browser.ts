// A real headless Chromium for the flows: one process, a fresh profile of its own, pages that are watched. A page that logs
// an error, throws, or asks anybody but its own server fails the flow that opened it.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import puppeteer, { type Browser, type Page } from "puppeteer-core";

const DEADLINE_MS = 30_000;

/** The browser: what CHROMIUM names (`none`: as if there were none), else where distributions put it. */
export function chromium(): string | undefined {
  const asked = process.env["CHROMIUM"];
  if (asked === "none") return undefined;
  if (asked !== undefined && asked !== "") return asked;
  return ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/usr/bin/google-chrome-stable"].find((path) => existsSync(path));
}

export async function launch(path: string): Promise<Browser> {
  return puppeteer.launch({
    executablePath: path, headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"],
  });
}

export interface Options {
  scheme?: "light" | "dark";
  size?: [number, number];
  /** Failed answers that the flow is about; Chromium logs each. */
  expects_failures?: boolean;
}

/** Waits until `condition` holds in the page. The page's policy forbids to compile text, so this asks again and again. */
export async function until<T>(page: Page, what: string, condition: () => T | Promise<T>, deadline = DEADLINE_MS): Promise<NonNullable<T>> {
  const end = Date.now() + deadline;
  for (;;) {
    const value = await condition();
    if (value) return value as NonNullable<T>;
    if (Date.now() > end) {
      const text = await page.evaluate(() => document.body.innerText.slice(0, 1500));
      throw new Error(`not within ${deadline / 1000} s: ${what}\n${page.url()}\n${text}`);
    }
    await new Promise((done) => setTimeout(done, 40));
  }
}

export interface Watched {
  page: Page;
  requests: string[];
  bytes: () => number;
  /** Ends the flow: nothing unexpected may have happened. */
  done: () => Promise<void>;
}

export async function watch(browser: Browser, base: string, options: Options = {}): Promise<Watched> {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  const [width, height] = options.size ?? [1600, 1000];
  await page.setViewport({ width, height });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: options.scheme ?? "light" }, { name: "prefers-reduced-motion", value: "reduce" }]);
  const problems: string[] = [];
  const requests: string[] = [];
  let bytes = 0;
  page.on("console", (message) => {
    if (message.type() !== "error" && message.type() !== "warn") return;
    if (options.expects_failures === true && message.text().startsWith("Failed to load resource")) return;
    problems.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`error: ${String(error)}`));
  page.on("request", (request) => {
    requests.push(request.url());
    const url = request.url();
    if (!url.startsWith(base) && !url.startsWith("data:") && !url.startsWith("about:")) problems.push(`request to elsewhere: ${url}`);
  });
  const session = await page.createCDPSession();
  await session.send("Network.enable");
  session.on("Network.loadingFinished", (event) => { bytes += event.encodedDataLength; });
  return {
    page, requests, bytes: () => bytes,
    done: async () => {
      await context.close();
      assert.deepEqual(problems, []);
    },
  };
}

export type Drawn = Record<string, string>;

/** What the first flame graph says that it drew. */
export function drawn(page: Page, which = ".flame canvas"): Promise<Drawn | undefined> {
  return page.evaluate((selector) => {
    const canvas = document.querySelector<HTMLCanvasElement>(selector);
    return canvas === null || canvas.dataset["boxes"] === undefined ? undefined : { ...canvas.dataset } as Record<string, string>;
  }, which);
}

export async function boxes(page: Page, which?: string): Promise<Drawn> {
  return until(page, "boxes are drawn", async () => {
    const data = await drawn(page, which);
    return data !== undefined && Number(data["boxes"]) > 0 && !(await busy(page)) ? data : undefined;
  });
}

export function busy(page: Page): Promise<boolean> {
  return page.evaluate(() => document.querySelector("[aria-busy=true]") !== null || document.querySelector("#app > noscript") !== null);
}

export function text(page: Page, selector: string): Promise<string> {
  return page.evaluate((s) => (document.querySelector<HTMLElement>(s)?.innerText ?? "").replace(/[\u202f\u00a0]/g, " "), selector);
}

export function fragment(page: Page): string {
  return new URL(page.url()).hash;
}
