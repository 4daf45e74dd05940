// Two selections beside each other: base and new. First what differs in their environments, then the functions
// with interval and class, then a flame graph coloured by effect. What cannot be told from noise is grey.

import { useMemo, useState } from "preact/hooks";
import { address, type Diff, type DiffRow, type Labels } from "./api";
import { clock, count, percent, points, weight } from "./format";
import type { Evidence } from "./color";
import { Flame } from "./flame";
import type { Effect } from "./flame_canvas";
import { useApi, useSignal } from "./hooks";
import { type State, resolve_time } from "./link";
import { visible } from "./names";
import { Awaited, Empty } from "./parts";
import { parse_selector, with_matcher } from "./selector";
import { pruning_width, type ViewProps } from "./shared";
import { drag_target } from "./timeline";

const FEW_ROWS = 100;

/** The question of a comparison, or null while there is no base. */
export function diff_address(props: Pick<ViewProps, "selection" | "session" | "state">): string | null {
  const { selection, session, state } = props;
  const shared = { ...selection, width: pruning_width(), nodes: 8000, hash: 0, by: state.base_by === "total" ? "total" : "self" };
  if (state.base === "time" && state.base_from !== "" && state.base_to !== "") {
    return address("diff", {
      ...shared, base_query: state.query, base_from: resolve_time(state.base_from, session.until), base_until: resolve_time(state.base_to, session.until),
    });
  }
  if (state.base === "labels" && state.base_query !== "") {
    return address("diff", { ...shared, base_query: state.base_query, base_from: selection.from, base_until: selection.until });
  }
  if (state.base === "files" && state.base_files !== "") {
    return address("diff", { ...shared, files: state.files, base_files: state.base_files, base_query: state.query });
  }
  return null;
}

export function DiffView(props: ViewProps) {
  const url = diff_address(props);
  const answer = useApi<Diff>(url);
  return (
    <div class="diff" tabIndex={0} role="region" aria-label="Comparison">
      <Chooser {...props} />
      {url === null
        ? <Empty title="Compare with what?"><p>Choose a base above: an earlier time, other labels, or other files. The selection is the new side.</p></Empty>
        : <Awaited answer={answer} what="comparison">{(data) => <Result {...props} data={data} />}</Awaited>}
    </div>
  );
}

function Chooser(props: ViewProps) {
  const { session, state, change } = props;
  const many_files = (session.files?.length ?? 0) > 1;
  const has_time = session.until > session.from;
  const mode = (base: State["base"], label: string) => (
    <button type="button" aria-pressed={state.base === base} onClick={() => change({ base: state.base === base ? "" : base })}>{label}</button>
  );
  return (
    <div class="chooser">
      <fieldset class="segments" aria-label="The base of the comparison is">
        <span class="muted">Base:</span>
        {has_time && mode("time", "Another time")}
        {session.labels.length > 0 && mode("labels", "Other labels")}
        {many_files && mode("files", "Other files")}
      </fieldset>
      {state.base === "time" && <TimeBase {...props} />}
      {state.base === "labels" && <LabelBase {...props} />}
      {state.base === "files" && <FileBase {...props} />}
    </div>
  );
}

function TimeBase({ session, state, change }: ViewProps) {
  const from = resolve_time(state.from, session.until) ?? session.from;
  const until = resolve_time(state.to, session.until) ?? session.until;
  const middle = Math.round((session.from + session.until) / 2);
  const before = from - (until - from);
  const target = useSignal(drag_target);
  const base_from = resolve_time(state.base_from, session.until);
  const base_to = resolve_time(state.base_to, session.until);
  return (
    <p class="chooser-line">
      <button type="button" onClick={() => change({ base_from: String(session.from), base_to: String(middle), from: String(middle), to: String(session.until) })}>First half → second half</button>
      {before >= session.from && <button type="button" onClick={() => change({ base_from: String(before), base_to: String(from), from: String(from), to: String(until) })}>Just before the selection</button>}
      <span class="muted">
        {base_from !== undefined && base_to !== undefined ? `Base ${clock(base_from, 60_000)} – ${clock(base_to, 60_000)}, new ${clock(from, 60_000)} – ${clock(until, 60_000)}. ` : ""}
        A drag on the timeline selects the
      </span>
      <fieldset class="segments" aria-label="What a drag on the timeline selects">
        <button type="button" aria-pressed={target === "base"} onClick={() => drag_target.set("base")}>base</button>
        <button type="button" aria-pressed={target === "new"} onClick={() => drag_target.set("new")}>new side</button>
      </fieldset>
    </p>
  );
}

function LabelBase({ selection, session, state, change }: ViewProps) {
  const labels = useApi<Labels>(address("labels", { type: selection.type, from: selection.from, until: selection.until }));
  const [problem, set_problem] = useState("");
  const pairs = (labels.data?.labels ?? []).filter((label) => label.values.length > 1).slice(0, 12);
  const write = (part: "query" | "base_query") => (event: Event) => {
    const text = (event.currentTarget as HTMLInputElement).value.trim();
    const read = parse_selector(text);
    set_problem(typeof read === "string" ? read : "");
    if (typeof read !== "string") change({ [part]: text });
  };
  return (
    <div class="chooser-line">
      <label>Base <input type="text" class="wide" spellcheck={false} value={state.base_query} placeholder={"{service_version=\"1.4.1\"}"} onChange={write("base_query")} /></label>
      <label>New <input type="text" class="wide" spellcheck={false} value={state.query} placeholder="{}: everything" onChange={write("query")} /></label>
      {pairs.map((label) => {
        const [a, b] = [...label.values].sort((x, y) => (x.value < y.value ? -1 : 1));
        if (a === undefined || b === undefined) return null;
        return (
          <button type="button" key={label.name} title={`Base ${label.name} = ${a.value}, new ${label.name} = ${b.value}`.slice(0, 400)}
            onClick={() => change({
              base_query: with_matcher("", { name: label.name, operator: "=", value: a.value }),
              query: with_matcher("", { name: label.name, operator: "=", value: b.value }), root: "",
            })}>{visible(label.name.slice(0, 40))}: {visible(a.value.slice(0, 24))} → {visible(b.value.slice(0, 24))}</button>
        );
      })}
      {problem !== "" && <span class="problem" role="alert">{problem}</span>}
      {session.labels.length > 0 && labels.error !== undefined && <span class="problem">{labels.error.message}</span>}
    </div>
  );
}

function FileBase({ session, state, change }: ViewProps) {
  const files = session.files ?? [];
  const chosen = (list: string) => new Set(list.split(",").filter((ix) => ix !== "").map(Number));
  const toggle = (key: "files" | "base_files", ix: number) => {
    const set = chosen(state[key]);
    if (!set.delete(ix)) set.add(ix);
    const other = key === "files" ? "base_files" : "files";
    const rest = chosen(state[other]);
    rest.delete(ix);
    const join = (s: Set<number>) => [...s].sort((a, b) => a - b).join(",");
    change({ [key]: join(set), [other]: join(rest) });
  };
  return (
    <div class="chooser-files">
      <table aria-label="Files of each side">
        <thead><tr><th scope="col">Base</th><th scope="col">New</th><th scope="col">File</th></tr></thead>
        <tbody>{files.slice(0, 500).map((file, ix) => (
          <tr key={ix}>
            {(["base_files", "files"] as const).map((key) => (
              <td key={key}><input type="checkbox" aria-label={`${key === "files" ? "New" : "Base"}: ${file.name.slice(0, 200)}`} checked={chosen(state[key]).has(ix)} onChange={() => toggle(key, ix)} /></td>
            ))}
            <td><bdi>{visible(file.name.slice(0, 300))}</bdi> <span class="muted">{weight(file.bytes, "bytes")}</span></td>
          </tr>
        ))}</tbody>
      </table>
    </div>
  );
}

function Result(props: ViewProps & { data: Diff }) {
  const { data, state, change } = props;
  const [all, set_all] = useState(false);
  const [view, set_view] = useState<"table" | "flame">("table");
  const rows = useMemo(() => {
    const wanted = props.matches;
    return wanted === undefined ? data.rows : data.rows.filter((row) => wanted(row.name) || wanted(row.module));
  }, [data, props.matches]);
  const by_name = useMemo(() => new Map(data.rows.map((row) => [`${row.module}\u0000${row.name}`, row])), [data]);
  const effect_of = useMemo(() => (name: string, module: string): Effect => {
    const row = by_name.get(`${module}\u0000${name}`);
    return { delta: row?.delta_share ?? 0, evidence: row === undefined ? "none" : evidence_of(row, data.decidable) };
  }, [by_name]);
  const found = data.rows.filter((row) => evidence_of(row, data.decidable) === "found").length;
  const shown = rows.slice(0, all ? 2000 : FEW_ROWS);
  const scale = Math.max(0.001, ...shown.map((row) => Math.max(Math.abs(row.low ?? row.delta_share), Math.abs(row.high ?? row.delta_share))));
  if (data.base.total === 0 || data.new.total === 0) {
    return <Empty title={`The ${data.base.total === 0 ? "base" : "new side"} has no samples`}><p>{data.why}</p></Empty>;
  }
  const ratio = data.base.total > 0 ? data.new.total / data.base.total - 1 : 0;
  return (
    <>
      {data.environment.length > 0 && (
        <section class="environment" aria-label="Environment differences">
          <h2>The environments differ</h2>
          <dl>{data.environment.slice(0, 40).map((e) => <div key={e.key}><dt>{visible(e.key.slice(0, 100))}</dt><dd><bdi>{visible(String(e.base).slice(0, 200)) || "–"}</bdi> → <bdi>{visible(String(e.new).slice(0, 200)) || "–"}</bdi></dd></div>)}</dl>
        </section>
      )}
      <div class="diff-head">
        <p><b>{weight(data.base.total, data.unit)} → {weight(data.new.total, data.unit)}</b> ({ratio >= 0 ? "+" : ""}{percent(ratio)}) · base {count(data.base.samples)} samples in {count(data.base.windows)} {data.base.windows === 1 ? "window" : "windows"}, new {count(data.new.samples)} in {count(data.new.windows)}
          {" · "}{data.decidable ? `${count(found)} of ${count(data.count ?? data.rows.length)} functions changed by more than noise` : <span class="problem">not decidable: {data.why}</span>}</p>
        <fieldset class="segments" aria-label="Compare by">
          <button type="button" aria-pressed={state.base_by === ""} onClick={() => change({ base_by: "" })}>Self</button>
          <button type="button" aria-pressed={state.base_by === "total"} onClick={() => change({ base_by: "total" })}>Total</button>
        </fieldset>
        <fieldset class="segments" aria-label="Show as">
          <button type="button" aria-pressed={view === "table"} onClick={() => set_view("table")}>Table</button>
          <button type="button" aria-pressed={view === "flame"} onClick={() => set_view("flame")}>Flame graph</button>
        </fieldset>
      </div>
      {view === "flame" && data.tree !== undefined
        ? <div class="diff-flame"><DiffKey decidable={data.decidable} /><Flame {...props} tree={data.tree} whole={data.new.total} effect={effect_of} label="Flame graph of both sides, coloured by change" /></div>
        : <DiffTable {...props} rows={shown} scale={scale} unit={data.unit} decidable={data.decidable} />}
      {view === "table" && rows.length > shown.length && <p class="more-rows"><button type="button" onClick={() => set_all(true)}>{all ? `The first ${count(shown.length)} of ${count(rows.length)} are shown: search to see others` : `Show ${count(Math.min(2000, rows.length) - shown.length)} more`}</button></p>}
      {view === "table" && rows.length === 0 && <Empty title={state.search === "" ? "No functions on either side" : "No function matches"} />}
    </>
  );
}

/** What is known of a row: the server says whether anything could be tested at all. */
function evidence_of(row: DiffRow, decidable: boolean): Evidence {
  if (!decidable) return "untested";
  return row.class === "same" ? "none" : "found";
}

function DiffKey({ decidable }: { decidable: boolean }) {
  return (
    <p class="diff-key muted" aria-label="Colours">
      <span class="swatch less" aria-hidden="true" /> less than before <span class="swatch more" aria-hidden="true" /> more than before <span class="swatch plain" aria-hidden="true" /> {decidable ? "not told from noise." : "about the same. Pale: these are effects, nothing was tested against noise."} A box is as wide as its shares of both sides together.
    </p>
  );
}

function DiffTable({ rows, scale, unit, change, colors, decidable }: ViewProps & { rows: DiffRow[]; scale: number; decidable: boolean }) {
  return (
    <table class="diff-table" aria-label="Functions by change">
      <thead><tr>
        <th scope="col">Change</th><th scope="col" class="number">Base</th><th scope="col" class="number">New</th><th scope="col" class="number">Points</th>
        <th scope="col">95 % interval</th><th scope="col" class="number" title="Share of false findings among those at least as clear">q</th><th scope="col">Function</th><th scope="col">Module</th>
      </tr></thead>
      <tbody>{rows.map((row) => (
        <tr key={`${row.module}\u0000${row.name}`} class={`class-${/^[a-z]+$/.test(row.class) ? row.class : "same"}`} title={`${weight(row.base, unit)} → ${weight(row.new, unit)}`}>
          <td><span class={`badge ${row.delta_share > 0 ? "more" : "less"} ${evidence_of(row, decidable) === "found" ? "" : "none"}`}>{row.class === "same" ? (decidable ? "no finding" : "not tested") : visible(row.class.slice(0, 20))}</span></td>
          <td class="number">{percent(row.base_share)}</td>
          <td class="number">{percent(row.new_share)}</td>
          <td class="number"><b>{points(row.delta_share)}</b></td>
          <td class="interval"><Interval row={row} scale={scale} found={evidence_of(row, decidable) === "found"} /></td>
          <td class="number muted">{row.q === undefined || row.q === null ? "–" : row.q < 0.001 ? "< 0.001" : row.q.toFixed(3)}</td>
          <td class="name"><button type="button" class="link" onClick={() => change({ view: "sandwich", fn: row.name, mod: row.module })}><bdi>{visible(row.name.slice(0, 400)) || "(no name)"}</bdi></button></td>
          <td class="module"><span class={colors.swatch(row.module)} aria-hidden="true" /> {visible(row.module.slice(0, 200))}</td>
        </tr>
      ))}</tbody>
    </table>
  );
}

/** The interval as a line about zero; the mark is the estimate. */
function Interval({ row, scale, found }: { row: DiffRow; scale: number; found: boolean }) {
  const at = (value: number) => 60 + (Math.max(-1, Math.min(1, value / scale)) * 58);
  const [low, high] = [row.low ?? row.delta_share, row.high ?? row.delta_share];
  const kind = !found ? "none" : row.delta_share > 0 ? "more" : "less";
  return (
    <svg class={`ci ${kind}`} width="120" height="14" viewBox="0 0 120 14" role="img" aria-label={`${points(low)} to ${points(high)} points`}>
      <line class="zero" x1="60" x2="60" y1="0" y2="14" />
      <line class="span" x1={at(low)} x2={at(high)} y1="7" y2="7" />
      <circle cx={at(row.delta_share)} cy="7" r="3" />
    </svg>
  );
}
