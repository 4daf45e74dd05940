// Builds the page: src/ → ../assets/{index.html,app.js,app.css}. The same sources give the same bytes.
// `node build.mjs tests` bundles the tests and the mock into build/ instead.
import { build } from "esbuild";
import { copyFileSync, readFileSync, readdirSync, rmSync } from "node:fs";

const here = new URL(".", import.meta.url).pathname;
const target = ["chrome114", "firefox121", "safari17"];
const jsx = { jsx: "automatic", jsxImportSource: "preact" };

if (process.argv[2] === "tests") {
  rmSync(`${here}build-tests`, { recursive: true, force: true });
  const entries = readdirSync(`${here}tests`).filter((name) => name.endsWith(".ts")).map((name) => `${here}tests/${name}`);
  await build({
    entryPoints: [...entries, { in: `${here}tests/mock/main.ts`, out: "mock" }].map((e) => (typeof e === "string" ? { in: e, out: e.slice(e.lastIndexOf("/") + 1, -3) } : e)),
    outdir: `${here}build-tests`, outExtension: { ".js": ".mjs" }, bundle: true, packages: "external", platform: "node", format: "esm",
    target: "node18", sourcemap: "inline", logLevel: "warning", ...jsx,
  });
} else {
  const licence = readFileSync(`${here}node_modules/preact/LICENSE`, "utf8").trim().split("\n").map((line) => ` * ${line}`.trimEnd()).join("\n");
  const banner = `/* The page of profpipe (Apache-2.0). Built from ui/page by ui/page/build: change it there. Contains Preact:\n${licence} */`;
  await build({
    entryPoints: [{ in: `${here}src/main.tsx`, out: "app" }], outdir: `${here}../assets`, bundle: true, minify: true,
    format: "iife", platform: "browser", target, charset: "utf8",
    banner: { js: banner }, legalComments: "none", logLevel: "warning", ...jsx,
  });
  await build({
    stdin: { contents: `${readFileSync(`${here}src/app.css`, "utf8")}\n${await swatches()}`, loader: "css", resolveDir: `${here}src` },
    outfile: `${here}../assets/app.css`, minify: true, charset: "utf8", target, logLevel: "warning",
  });
  copyFileSync(`${here}src/index.html`, `${here}../assets/index.html`);
}

/** The colours of the drawings as classes, for what stands beside them. */
async function swatches() {
  const bundled = await build({ entryPoints: [`${here}src/color.ts`], bundle: true, write: false, format: "esm" });
  const color = await import(`data:text/javascript;base64,${Buffer.from(bundled.outputFiles[0].contents).toString("base64")}`);
  const rules = [];
  for (const theme of ["light", "dark"]) {
    const rule = (name, ink) => rules.push(`:root[data-theme="${theme}"] .swatch.${name}{background:${ink.fill}}`);
    color.MODULE_INKS[theme].forEach((ink, i) => rule(`hue${i}`, ink));
    rule("plain", color.PLAIN[theme]);
    rule("unbound", color.UNBOUND[theme]);
    rule("kernel", color.KERNEL[theme]);
    rule("more", color.MORE[theme].at(-1));
    rule("less", color.LESS[theme].at(-1));
  }
  return rules.join("\n");
}
