// The views on one selection, but for comparison: flame graph, top, sandwich, source, threads.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { address, type FunctionRow, type Sandwich, type Source, type Threads, type Tree } from "./api";
import { count, rate, share, weight } from "./format";
import { Flame } from "./flame";
import { useApi, useSize } from "./hooks";
import { visible } from "./names";
import { Awaited, Bar, Empty } from "./parts";
import { pruning_width, type ViewProps } from "./shared";
import { FunctionTable } from "./table";
import { chart_points, samples_of, shown_window } from "./timeline";

// With their hashes about 120 KB compressed; a zoom asks for more.
const MAX_TREE_NODES = 8000;
const LEGEND = 9;

export function tree_address(props: Pick<ViewProps, "selection" | "state">): string {
  const { selection, state } = props;
  return address("tree", { ...selection, nodes: MAX_TREE_NODES, width: pruning_width(), invert: state.invert ? 1 : "", root: state.root });
}

export function NothingSelected({ change, state }: Pick<ViewProps, "change" | "state">) {
  const filtered = state.query !== "" || state.focus !== "" || state.hide !== "" || state.from !== "" || state.to !== "" || state.wait !== "";
  return (
    <Empty title="No samples in this selection">
      {filtered
        ? <><p>The filters and the range of time leave nothing.</p><button type="button" onClick={() => change({ query: "", focus: "", hide: "", fold: "", wait: "", from: "", to: "", root: "" })}>Show everything</button></>
        : <p>The profile has no samples of this type. Another type may have some.</p>}
    </Empty>
  );
}

/** `trail` keeps the hashes of the paths that were zoomed through, for the breadcrumb. */
export function FlameView(props: ViewProps & { trail: Map<string, string[]>; whole: number }) {
  const { state, change, colors, theme, trail } = props;
  const answer = useApi<Tree>(tree_address(props));
  const [module, set_module] = useState<string | undefined>();
  const shown = answer.data;
  const root = shown?.root;
  // Zoomed in the drawing at once; the finer tree follows.
  useEffect(() => {
    if (answer.loading && state.root !== "") props.control.value?.zoom(state.root);
  }, [state.root]);
  const modules = useMemo(() => legend(shown), [shown]);
  const zoom = (tree: Tree, hash: string) => {
    const above = state.root === "" ? [] : (tree.root?.hashes ?? trail.get(state.root));
    if (above !== undefined) trail.set(hash, [...above, ...hashes_below(tree, hash)]);
    change({ root: hash });
  };
  return (
    <>
      <div class="toolbar">
        <Crumbs {...props} path={state.root === "" ? [] : (root?.path ?? [])} hashes={root?.hashes ?? trail.get(state.root) ?? []} />
        {modules.length > 1 && (
          <ul class="legend" aria-label="Modules">
            {modules.map((name) => (
              <li key={name}><button type="button" class="quiet" aria-pressed={module === name} title={`Only ${name} in colour`} onClick={() => set_module(module === name ? undefined : name)}>
                <span class={colors.swatch(name)} aria-hidden="true" />{visible(short_module(name))}
              </button></li>
            ))}
          </ul>
        )}
        <label class="switch"><input type="checkbox" checked={state.invert} onChange={() => change({ invert: !state.invert, root: "" })} /> Inverted</label>
      </div>
      <Awaited answer={answer} what="flame graph">
        {(tree) => tree.total > 0 && tree.nodes.depth.length > 0
          ? <Flame {...props} tree={tree} whole={props.whole} theme={theme} colors={colors} module={module}
              label={`Flame graph${state.invert ? ", inverted" : ""} of ${weight(tree.total, tree.unit)}, ${count(tree.nodes.depth.length)} boxes`}
              onZoom={(node) => zoom(tree, node.hash)} />
          : <NothingSelected {...props} />}
      </Awaited>
      {answer.error !== undefined && state.root !== "" && <p class="below-error"><button type="button" onClick={() => change({ root: "" })}>Zoom out to everything</button></p>}
    </>
  );
}

/** Hashes of the path from below the tree's root to a node of it. */
function hashes_below(tree: Tree, hash: string): string[] {
  const { nodes } = tree;
  const found: string[] = [];
  let node = nodes.hash?.indexOf(hash) ?? -1;
  for (let depth = nodes.depth[node] ?? 0; node > 0 && depth > 0; node--) {
    if (nodes.depth[node] !== depth) continue;
    found.push(nodes.hash?.[node] ?? "");
    depth--;
  }
  return found.reverse();
}

function short_module(name: string): string {
  const base = name.slice(name.lastIndexOf("/") + 1) || name;
  return base.length > 28 ? `${base.slice(0, 27)}…` : base;
}

/** Modules by self weight, as far as a legend holds them. */
function legend(tree: Tree | undefined): string[] {
  if (tree === undefined) return [];
  const sums = new Map<string, number>();
  tree.nodes.self.forEach((self, i) => {
    const name = tree.modules[tree.nodes.module[i] ?? 0] ?? "";
    if (name !== "" && (tree.nodes.folded[i] ?? 0) === 0) sums.set(name, (sums.get(name) ?? 0) + self);
  });
  return [...sums].sort((a, b) => b[1] - a[1]).slice(0, LEGEND).map(([name]) => name);
}

function Crumbs({ path, hashes, change }: ViewProps & { path: string[]; hashes: string[] }) {
  if (path.length === 0) return <p class="crumbs muted">All stacks</p>;
  const skipped = Math.max(0, path.length - 6);
  return (
    <nav class="crumbs" aria-label="Path of the zoom">
      <ol>
        <li><button type="button" class="link" onClick={() => change({ root: "" })}>All stacks</button></li>
        {skipped > 0 && <li class="muted" title={path.slice(0, skipped).join(" → ").slice(0, 2000)}>{skipped} more</li>}
        {path.slice(skipped).map((name, i) => {
          const ix = i + skipped;
          const hash = hashes[ix];
          const text = <bdi>{visible(name.slice(0, 300)) || "(no name)"}</bdi>;
          if (ix === path.length - 1) return <li key={ix} aria-current="location" title={name.slice(0, 500)}><b>{text}</b></li>;
          return <li key={ix} title={name.slice(0, 500)}>{hash === undefined ? text : <button type="button" class="link" onClick={() => change({ root: hash })}>{text}</button>}</li>;
        })}
      </ol>
    </nav>
  );
}

export function TopView(props: ViewProps) {
  return <FunctionTable {...props} label="Functions" onPick={(row) => props.change({ view: "sandwich", fn: row.name, mod: row.module })} />;
}

export function SandwichView(props: ViewProps) {
  const { state, change, selection } = props;
  const pick = (row: FunctionRow) => change({ fn: row.name, mod: row.module });
  const answer = useApi<Sandwich>(state.fn === "" ? null : address("sandwich", { ...selection, function: state.fn, module: state.mod, width: pruning_width(), nodes: MAX_TREE_NODES, hash: 0 }));
  return (
    <div class="split">
      <aside class="side" aria-label="Choose a function"><FunctionTable {...props} compact label="Choose a function" onPick={pick} /></aside>
      <div class="split-main">
        {state.fn === ""
          ? <Empty title="Who calls it, and what it calls"><p>Choose a function at the left, or in the flame graph and press <kbd>s</kbd>.</p></Empty>
          : answer.error?.status === 404 ? <NotHere {...props} />
          : <Awaited answer={answer} what="callers and callees">{(data) => <Halves {...props} data={data} />}</Awaited>}
      </div>
    </div>
  );
}

function NotHere({ state }: Pick<ViewProps, "state">) {
  return <Empty title="Not in this selection"><p>No stack of the selection has <bdi>{visible(state.fn.slice(0, 300))}</bdi>.</p></Empty>;
}

function Halves(props: ViewProps & { data: Sandwich }) {
  const { data, state, change } = props;
  if (!(data.function_total > 0)) return <NotHere {...props} />;
  return (
    <div class="halves">
      <header class="half-head">
        <h2 title={state.fn.slice(0, 1000)}><bdi>{visible(state.fn.slice(0, 400))}</bdi></h2>
        <p>{weight(data.function_total, data.unit)} ({share(data.function_total, data.total)}), self {weight(data.self, data.unit)} ({share(data.self, data.total)})</p>
        <p class="half-actions">
          <button type="button" onClick={() => change({ view: "source" })}>Source</button>
        </p>
      </header>
      <section aria-label="Callers" class="half"><h3>Callers</h3><Flame {...props} tree={data.callers} whole={data.total} up label={`Callers of ${state.fn.slice(0, 200)}, the nearest at the bottom`} control={undefined} /></section>
      <section aria-label="Callees" class="half"><h3>Callees</h3><Flame {...props} tree={data.callees} whole={data.total} label={`Callees of ${state.fn.slice(0, 200)}, the nearest on top`} /></section>
    </div>
  );
}

export function SourceView(props: ViewProps) {
  const { state, change, selection } = props;
  const answer = useApi<Source>(state.fn === "" ? null : address("source", { ...selection, function: state.fn }));
  return (
    <div class="split">
      <aside class="side" aria-label="Choose a function"><FunctionTable {...props} compact label="Choose a function" onPick={(row) => change({ fn: row.name, mod: row.module })} /></aside>
      <div class="split-main scrolls" tabIndex={0} role="region" aria-label="Source">
        {state.fn === ""
          ? <Empty title="What each line costs"><p>Choose a function at the left.</p></Empty>
          : answer.error?.status === 404 ? <NotHere {...props} />
          : <Awaited answer={answer} what="source">{(data) => data.functions.length === 0
              ? <Empty title="No lines"><p>The profile has no lines for <bdi>{visible(state.fn.slice(0, 300))}</bdi>: its binary has no line information, or the function is not in this selection.</p></Empty>
              : <>{data.functions.map((f, i) => <Listing key={i} f={f} unit={props.unit} />)}</>}</Awaited>}
      </div>
    </div>
  );
}

function Listing({ f, unit }: { f: Source["functions"][number]; unit: string }) {
  const most = Math.max(1, ...f.lines.map((line) => line.total));
  return (
    <article class="listing">
      <h2><bdi>{visible(f.name.slice(0, 500))}</bdi></h2>
      <p class="muted">{visible(f.file.slice(0, 500)) || "no file is known"}{!f.found && `: ${f.why ?? "not found"}`}</p>
      <table aria-label={`Lines of ${f.name.slice(0, 200)}`}>
        <thead><tr><th scope="col" class="number">Self</th><th scope="col" class="number">Total</th><th scope="col" class="number">Line</th><th scope="col">Source</th></tr></thead>
        <tbody>{f.lines.slice(0, 5000).map((line) => (
          <tr key={line.line} class={line.total > 0 ? "" : "cold"}>
            <td class="number">{line.self > 0 ? weight(line.self, unit) : ""}</td>
            <td class="number">{line.total > 0 ? weight(line.total, unit) : ""}<Bar part={line.total / most} /></td>
            <td class="number muted">{line.line}</td>
            <td class="code">{visible_code(line.text ?? "")}</td>
          </tr>
        ))}</tbody>
      </table>
    </article>
  );
}

function visible_code(text: string): string {
  return visible(text.slice(0, 2000).replace(/\t/g, "    "));
}

export function ThreadsView(props: ViewProps) {
  const { selection, unit } = props;
  const [ref, width] = useSize<HTMLDivElement>();
  const window = shown_window(props);
  const from = Number(selection.from ?? window.from);
  const until = Number(selection.until ?? window.until);
  const points = chart_points(width, samples_of(props));
  const answer = useApi<Threads>(width === 0 ? null : address("threads", { ...selection, from, until, points }));
  return (
    <div class="threads" ref={ref} tabIndex={0} role="region" aria-label="Threads over time">
      <Awaited answer={answer} what="threads">
        {(data) => {
          if (data.rows.length === 0) return <NothingSelected {...props} />;
          const peak = Math.max(1e-9, ...data.rows.map((row) => Math.max(0, ...row.values)));
          const whole = data.rows.reduce((sum, row) => sum + row.total, 0);
          return (
            <table aria-label="Threads">
              <thead><tr><th scope="col">Thread</th><th scope="col" class="number">Total</th><th scope="col">Over time <span class="muted">(full height: {rate(peak, data.step, unit)})</span></th></tr></thead>
              <tbody>{data.rows.slice(0, 200).map((row) => (
                <tr key={row.key}>
                  <th scope="row" title={row.key.slice(0, 300)}><bdi>{visible(row.key.slice(0, 80)) || "(no name)"}</bdi></th>
                  <td class="number">{weight(row.total, unit)} <span class="muted">{share(row.total, whole)}</span></td>
                  <td class="chart"><Chart values={row.values} peak={peak} theme={props.theme} label={`${row.key.slice(0, 80)}: at most ${rate(Math.max(0, ...row.values), data.step, unit)}`} /></td>
                </tr>
              ))}</tbody>
              {data.more > 0 && <tfoot><tr><td colSpan={3} class="muted">and {count(data.more)} more threads that cost less</td></tr></tfoot>}
            </table>
          );
        }}
      </Awaited>
    </div>
  );
}

function Chart({ values, peak, theme, label }: { values: number[]; peak: number; theme: string; label: string }) {
  const [room, width] = useSize<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const element = canvas.current;
    if (element === null || width === 0) return;
    const ratio = Math.min(3, devicePixelRatio || 1);
    const height = 26;
    element.width = Math.round(width * ratio);
    element.height = Math.round(height * ratio);
    element.style.width = `${width}px`;
    element.style.height = `${height}px`;
    const c = element.getContext("2d");
    if (c === null) return;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    c.fillStyle = getComputedStyle(element).getPropertyValue("--area").trim();
    values.forEach((value, i) => {
      const tall = (value / peak) * (height - 1);
      const left = (i / values.length) * width;
      c.fillRect(left, height - tall, width / values.length + 0.3, tall);
    });
  }, [values, peak, width, theme]);
  return <div class="chart-room" ref={room}><canvas ref={canvas} role="img" aria-label={label} /></div>;
}
