// What the flows look at: the real `profpipe ui` over files where PROFPIPE names the program, else the mock. A site is a
// base address with a profile; the flows learn its functions from its API, so the same flows run against both.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Data, hostile, large } from "./mock/data";
import { start } from "./mock/server";

const ASSETS = fileURLToPath(new URL("../../assets", import.meta.url));
const START_DEADLINE_MS = 60_000;

export interface Sites {
  /** Whether this is the real server. */
  real: boolean;
  /** A recorded profile with times and labels. */
  small: string;
  /** 20,000 functions. */
  large: string;
  hostile: string;
  /** What only the mock has: errors on demand. */
  mock: (scenario: string) => string;
  close: () => Promise<void>;
}

export async function sites(): Promise<Sites> {
  const mock = await start(ASSETS);
  const of_mock = (scenario: string) => `${mock.address}/${scenario}`;
  const program = process.env["PROFPIPE"] ?? "";
  if (program === "") {
    return { real: false, small: of_mock("small"), large: of_mock("large"), hostile: of_mock("hostile"), mock: of_mock, close: mock.close };
  }
  const folder = mkdtempSync(join(tmpdir(), "profpipe-page-"));
  const running: ChildProcess[] = [];
  const close = async () => {
    for (const child of running) child.kill();
    await mock.close();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const serve = async (file: string) => {
      const [child, address] = await serve_file(program, file);
      running.push(child);
      return address;
    };
    const recorded = record(program, folder);
    return {
      real: true, small: await serve(recorded), large: await serve(folded(large(), join(folder, "large.folded"))),
      hostile: await serve(folded(hostile(), join(folder, "hostile.folded"))), mock: of_mock, close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

const BURN = [
  "import time, zlib, json, threading",
  "def price(n):",
  "    total = 0",
  "    for i in range(n):",
  "        total += i * i % 7",
  "    return total",
  "def parse_items(text):",
  "    return [item['id'] for item in json.loads(text)]",
  "def pack(data):",
  "    return zlib.compress(data, 9)",
  "def work(until):",
  "    text = json.dumps([{'id': i, 'name': 'item %d' % i} for i in range(2000)])",
  "    while time.time() < until:",
  "        price(20000); parse_items(text); pack(text.encode() * 4)",
  "until = time.time() + 4",
  "threads = [threading.Thread(target=work, args=(until,), name='worker-%d' % i) for i in range(2)]",
  "for thread in threads: thread.start()",
  "for thread in threads: thread.join()",
];

/** Records a program that burns CPU in Python, zlib and the interpreter, for four seconds. */
function record(program: string, folder: string): string {
  const asked = process.env["PROFPIPE_PROFILE"];
  if (asked !== undefined && asked !== "") return asked;
  const script = join(folder, "shop.py");
  const out = join(folder, "shop.otlp");
  writeFileSync(script, BURN.join("\n"));
  const run = spawnSync(program, ["record", "-o", out, "--", "python3", script], { encoding: "utf8", timeout: 120_000 });
  if (run.status !== 0) throw new Error(`profpipe record failed (${run.status}): ${run.stderr}`);
  return out;
}

/** The stacks of a seeded profile as collapsed stacks, which `profpipe` reads. */
function folded(data: Data, file: string): string {
  const name = (ix: number) => (data.frames[ix]?.name ?? "").replace(/[;\n\r]/g, ",").replace(/\u0000/g, "\u0001").trim() || "-";
  writeFileSync(file, data.samples.map((s) => `${s.stack.map(name).join(";")} ${s.weight}\n`).join(""));
  return file;
}

/** Starts `profpipe ui` and reads its address, the first line of its standard output. */
async function serve_file(program: string, file: string): Promise<[ChildProcess, string]> {
  const child = spawn(program, ["ui", file, "--no-open"], { cwd: dirname(file), stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let errors = "";
  child.stderr?.on("data", (chunk: Buffer) => { errors = (errors + chunk.toString()).slice(-4000); });
  const address = await new Promise<string>((done, fail) => {
    const timer = setTimeout(() => fail(new Error(`profpipe ui printed no address: ${errors}`)), START_DEADLINE_MS);
    child.on("exit", (code) => fail(new Error(`profpipe ui ended with ${code}: ${errors}`)));
    child.stdout?.on("data", (chunk: Buffer) => {
      out += chunk.toString();
      const line = /^(http:\/\/\S+)\r?\n/.exec(out);
      if (line?.[1] === undefined) return;
      clearTimeout(timer);
      done(line[1].replace(/\/$/, ""));
    });
  });
  return [child, address];
}

/** An answer of a site's API, for what a flow expects. */
export async function api<T>(base: string, path: string): Promise<T> {
  const response = await fetch(`${base}/api/${path}`);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return (await response.json()) as T;
}
