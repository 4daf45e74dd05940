// Takes the README's pictures: a profile of a Python program beside esbuild (Go), looked at in both themes. Palette and size
// are reduced by ImageMagick or pngquant where there is one (ui/page/picture).

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { spawn, spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, boxes, launch, until, watch } from "./browser";

const program = process.env["PROFPIPE"];
const path = chromium();
const [, , folder = "."] = process.argv;
if (program === undefined || path === undefined) throw new Error("PROFPIPE names the program to record and to look with; Chromium must be there");

const SHOP = `
import json, re, time, zlib

class Catalog:
    def __init__(self):
        self.items = [{"id": i, "name": "item %d" % i, "price": i * 37 % 1000} for i in range(3000)]

    def search(self, text):
        return [item for item in self.items if text in item["name"]]

    def cheapest(self, count):
        return sorted(self.search("1"), key=self.price)[:count]

    def price(self, item):
        return sum(item["price"] * rate % 11 for rate in range(6))

def render(catalog):
    body = json.dumps(catalog.items)
    return zlib.compress(re.sub("item", "article", body).encode(), 6)

catalog, until = Catalog(), time.time() + 7
while time.time() < until:
    for _ in range(3):
        catalog.cheapest(20)
    json.loads(zlib.decompress(render(catalog)))
`;
const work = mkdtempSync(join(tmpdir(), "profpipe-picture-"));
const profile = process.env["PROFPIPE_PROFILE"] ?? join(work, "host.otlp");
if (process.env["PROFPIPE_PROFILE"] === undefined) {
  const script = join(work, "shop.py");
  writeFileSync(script, SHOP);
  const bundle = `node_modules/esbuild/bin/esbuild node_modules/typescript/lib/typescript.js --minify --log-level=error --outfile=${join(work, "out.js")} --allow-overwrite`;
  const command = `python3 ${script} & for i in 1 2 3 4; do ${bundle}; done; wait`;
  const run = spawnSync(program, ["record", "-F", "499", "-o", profile, "--", "sh", "-c", command], { stdio: "inherit" });
  if (run.status !== 0) throw new Error("profpipe record failed");
}
const server = spawn(program, ["ui", profile, "--no-open"], { stdio: ["ignore", "pipe", "inherit"] });
const base = await new Promise<string>((done) => server.stdout.on("data", (chunk: Buffer) => done(chunk.toString().trim().replace(/\/$/, ""))));
const browser = await launch(path);
try {
  for (const scheme of ["light", "dark"] as const) {
    const { page } = await watch(browser, base, { scheme, size: [1440, 860] });
    await page.goto(`${base}/#1&v=flame&by=process_executable_name`);
    await boxes(page);
    await page.evaluate(() => document.querySelector<HTMLElement>(".strip-labels .more")?.remove());
    const room = await (await page.$(".flame canvas"))?.boundingBox();
    if (room) await page.mouse.click(room.x + room.width * 0.1, room.y + 5.5 * 20);
    await until(page, "a box is chosen", () => page.evaluate(() => document.querySelector(".details-actions") !== null));
    await page.mouse.move(5, 5);
    await page.screenshot({ path: join(folder, `page-${scheme}.png`) as `${string}.png` });
  }
} finally {
  await browser.close();
  server.kill();
  rmSync(work, { recursive: true, force: true });
}
