// The head of the page: what is looked at, its type, the search, downloads, theme; below it the filters.

import { useEffect, useRef, useState } from "preact/hooks";
import { address, type Labels, type SearchAnswer } from "./api";
import { count, percent, share, weight } from "./format";
import { type ThemeChoice, useApi } from "./hooks";
import { visible } from "./names";
import { Bar, Menu } from "./parts";
import { parse_selector, with_matcher, write_matcher, write_selector } from "./selector";
import type { ViewProps } from "./shared";

const SEARCH_DELAY_MS = 180;

interface HeaderProps extends ViewProps {
  choice: ThemeChoice;
  choose: (choice: ThemeChoice) => void;
  help: () => void;
  /** Reads the newest data; absent where they do not grow. */
  refresh: (() => void) | undefined;
  follows: boolean;
  follow: (on: boolean) => void;
  search_problem: string;
}

export function Header(props: HeaderProps) {
  const { session, choice, choose, help, refresh, follows, follow } = props;
  return (
    <header class="head">
      <button type="button" class="skip" onClick={() => document.getElementById("view")?.focus()}>To the view</button>
      <h1><span class="brand">profpipe</span><span class="title" title={session.title.slice(0, 1000)}><bdi>{visible(session.title.slice(0, 200))}</bdi></span></h1>
      <TypePicker {...props} />
      <Search {...props} />
      <div class="head-actions">
        {refresh !== undefined && (
          <>
            <label class="switch" title="Reads the newest data every ten seconds"><input type="checkbox" checked={follows} onChange={() => follow(!follows)} /> Follow</label>
            <button type="button" class="quiet" onClick={refresh} title="Read the newest data">Refresh</button>
          </>
        )}
        <Download {...props} />
        <Menu label="About" title="Where these data come from" right quiet>{() => <About {...props} />}</Menu>
        <label class="theme"><span class="visually-hidden">Theme</span>
          <select value={choice} onChange={(event) => choose(event.currentTarget.value as ThemeChoice)}>
            <option value="auto">System</option><option value="light">Light</option><option value="dark">Dark</option>
          </select>
        </label>
        <button type="button" class="quiet" onClick={help} aria-label="Keys" title="Keys (?)">?</button>
      </div>
    </header>
  );
}

function TypePicker({ session, state, change }: ViewProps) {
  if (session.types.length === 0) return null;
  const value = state.type || session.default_type;
  const names = session.types.map((t) => t.name);
  return (
    <label class="type"><span class="visually-hidden">Profile type</span>
      <select value={value} onChange={(event) => change({ type: event.currentTarget.value, root: "" })}>
        {!session.types.some((t) => t.id === value) && <option value={value}>{value.slice(0, 80)}</option>}
        {session.types.slice(0, 300).map((t) => (
          <option key={t.id} value={t.id}>{visible(names.filter((n) => n === t.name).length > 1 ? t.id.split(":").slice(0, 3).join(" ") : `${t.name} · ${weight(t.total, t.unit)}`).slice(0, 120)}</option>
        ))}
      </select>
    </label>
  );
}

function Search(props: HeaderProps) {
  const { state, change, selection, search_problem } = props;
  const [text, set_text] = useState(state.search);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (document.activeElement !== input.current) set_text(state.search);
  }, [state.search]);
  useEffect(() => {
    if (text === state.search) return;
    const timer = setTimeout(() => change({ search: text.slice(0, 1000) }, true), SEARCH_DELAY_MS);
    return () => clearTimeout(timer);
  }, [text]);
  const answer = useApi<SearchAnswer>(state.search === "" || search_problem !== "" ? null : address("search", { ...selection, term: state.search }));
  const problem = search_problem || answer.error?.message;
  const key = (event: KeyboardEvent) => {
    if (event.key === "Escape") {
      set_text("");
      change({ search: "" }, true);
      input.current?.blur();
    } else if (event.key === "Enter") {
      props.control.value?.next_hit(event.shiftKey ? -1 : 1);
    }
  };
  return (
    <div role="search" class="search">
      <input ref={input} id="search" type="search" placeholder="Search functions  /" aria-label="Search functions: text, or /regular expression/" aria-describedby="search-result"
        spellcheck={false} autocomplete="off" value={text} onInput={(event) => set_text(event.currentTarget.value)} onKeyDown={key} />
      <span id="search-result" class={problem === undefined || problem === "" ? "search-result" : "search-result problem"} role="status">
        {state.search === "" ? "" : problem !== undefined && problem !== "" ? problem.slice(0, 120) : answer.data === undefined || answer.loading ? "…"
          : answer.data.functions.length === 0 ? "nothing found"
          : <>{percent(answer.data.share)} in <button type="button" class="link" onClick={() => change({ view: "top" })}>{answer.data.functions.length >= 200 ? "200 or more" : count(answer.data.functions.length)} {answer.data.functions.length === 1 ? "function" : "functions"}</button></>}
      </span>
    </div>
  );
}

const FORMAT_NAMES: Record<string, string> = {
  pprof: "pprof (.pb.gz)", otlp: "OTLP (.otlp)", json: "OTLP JSON (.json)", otlp_json: "OTLP JSON (.json)", folded: "Collapsed stacks (.folded)", svg: "Flame graph (.svg)",
  speedscope: "speedscope", firefox: "Firefox Profiler",
};

function Download({ session, selection, state }: ViewProps) {
  const formats = session.formats ?? ["pprof", "otlp", "json", "folded", "svg"];
  const filtered = Object.keys(selection).some((key) => key !== "type");
  return (
    <Menu label="Download" title="The selection as a file" right quiet>
      {(close) => (
        <>
          <p class="muted small">{filtered ? "The selection, with its filters" : "All of it"}, as</p>
          <ul class="choices">{formats.slice(0, 30).map((format) => (
            <li key={format}><a href={address("download", { ...selection, format })} download="" onClick={close}>{Object.hasOwn(FORMAT_NAMES, format) ? FORMAT_NAMES[format] : visible(format.slice(0, 40))}</a></li>
          ))}</ul>
          {state.root !== "" && <p class="muted small">The zoom is not part of it: use Focus for that.</p>}
        </>
      )}
    </Menu>
  );
}

function About({ session }: ViewProps) {
  const environment = Object.entries(session.environment ?? {}).slice(0, 60);
  return (
    <div class="about">
      <p class="muted small">profpipe {visible(session.version.slice(0, 60))}</p>
      {session.files !== undefined && session.files.length > 0 && (
        <><h2>Files</h2><ul>{session.files.slice(0, 100).map((file, i) => <li key={i}><bdi>{visible(file.name.slice(0, 300))}</bdi> <span class="muted">{weight(file.bytes, "bytes")}</span></li>)}</ul></>
      )}
      {environment.length > 0 && (
        <><h2>Environment</h2><dl class="facts">{environment.map(([key, value]) => <div key={key}><dt>{visible(key.slice(0, 100))}</dt><dd>{visible(String(typeof value === "object" ? JSON.stringify(value) : value).slice(0, 300))}</dd></div>)}</dl></>
      )}
    </div>
  );
}

export function Filters(props: ViewProps) {
  const { state, change } = props;
  const matchers = parse_selector(state.query);
  const chips = typeof matchers === "string" ? [] : matchers;
  const folds = state.fold.split(",").filter((f) => f !== "");
  const chip = (name: string, value: string, remove: () => void) => (
    <li class="chip" key={`${name} ${value}`}><span class="muted">{name}</span> <span class="chip-value" title={value.slice(0, 1000)}><bdi>{visible(value.slice(0, 200))}</bdi></span>
      <button type="button" class="quiet" aria-label={`Remove ${name} ${value.slice(0, 100)}`} onClick={remove}>×</button></li>
  );
  return (
    <section class="filters" aria-label="Filters">
      <Menu label="Labels" title="Choose by labels">{(close) => <LabelPicker {...props} close={close} />}</Menu>
      <Menu label="Stacks" title="Focus, hide, fold">{() => <StackFilters {...props} />}</Menu>
      <ul class="chips" aria-label="Filters in force">
        {typeof matchers === "string" && <li class="chip problem" role="alert">{matchers.slice(0, 120)} <button type="button" class="quiet" aria-label="Remove the selector" onClick={() => change({ query: "" })}>×</button></li>}
        {chips.map((m, i) => chip("label", write_matcher(m), () => change({ query: write_selector(chips.filter((_, j) => j !== i)), root: "" })))}
        {state.focus !== "" && chip("focus", state.focus, () => change({ focus: "", root: "" }))}
        {state.hide !== "" && chip("hide", state.hide, () => change({ hide: "", root: "" }))}
        {folds.map((fold) => chip("fold", fold, () => change({ fold: folds.filter((f) => f !== fold).join(","), root: "" })))}
        {state.wait !== "" && chip("wait", state.wait, () => change({ wait: "", root: "" }))}
      </ul>
    </section>
  );
}

function LabelPicker({ selection, state, change, close }: ViewProps & { close: () => void }) {
  const [open, set_open] = useState(false);
  const here = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const details = here.current?.closest("details");
    const toggle = () => set_open(details?.open === true);
    details?.addEventListener("toggle", toggle);
    return () => details?.removeEventListener("toggle", toggle);
  }, []);
  const answer = useApi<Labels>(open ? address("labels", selection) : null);
  const [problem, set_problem] = useState("");
  const all = Math.max(1, ...(answer.data?.labels ?? []).map((l) => l.values.reduce((sum, v) => sum + v.total, 0)));
  const write = (event: Event) => {
    const text = (event.currentTarget as HTMLInputElement).value.trim();
    const read = parse_selector(text);
    set_problem(typeof read === "string" ? read : "");
    if (typeof read !== "string") change({ query: text, root: "" });
  };
  return (
    <div class="label-picker" ref={here}>
      <label>Selector <input type="text" spellcheck={false} value={state.query} placeholder={"{service_name=\"web\"}"} onChange={write} /></label>
      {problem !== "" && <p class="problem" role="alert">{problem}</p>}
      {answer.error !== undefined && <p class="problem">{answer.error.message}</p>}
      {answer.loading && <p class="muted">Loading labels…</p>}
      {answer.data?.labels.length === 0 && <p class="muted">The selection has no labels.</p>}
      <div class="label-list">{answer.data?.labels.slice(0, 60).map((label) => (
        <section key={label.name} aria-label={label.name}>
          <h2>{visible(label.name.slice(0, 80))}</h2>
          <ul>{label.values.slice(0, 30).map((v) => (
            <li key={v.value}><button type="button" class="quiet" onClick={() => { change({ query: with_matcher(state.query, { name: label.name, operator: "=", value: v.value }), root: "" }); close(); }}>
              <span class="label-value"><bdi>{visible(v.value.slice(0, 120)) || "(empty)"}</bdi></span><span class="muted">{share(v.total, all)}</span><Bar part={v.total / all} />
            </button></li>
          ))}{((label.more ?? 0) > 0 || label.values.length > 30) && <li class="muted small">and more: write a selector</li>}</ul>
        </section>
      ))}</div>
    </div>
  );
}

function StackFilters({ session, state, change }: ViewProps) {
  const folds = new Set(state.fold.split(",").filter((f) => f !== ""));
  const [problem, set_problem] = useState("");
  const expression = (key: "focus" | "hide") => (event: Event) => {
    const text = (event.currentTarget as HTMLInputElement).value;
    try {
      new RegExp(text);
      set_problem("");
    } catch {
      set_problem(`not a regular expression: ${text.slice(0, 60)}`);
      return;
    }
    change({ [key]: text, root: "" });
  };
  const fold = (name: string, text: string) => (
    <label class="check"><input type="checkbox" checked={folds.has(name)} onChange={() => {
      const next = new Set(folds);
      if (!next.delete(name)) next.add(name);
      change({ fold: ["recursion", "libraries"].filter((f) => next.has(f)).join(","), root: "" });
    }} /> {text}</label>
  );
  const waits = session.waits ?? [];
  const waiting = waits.length > 0 || /off_cpu|wall/.test(state.type || session.default_type);
  return (
    <div class="stack-filters">
      <label>Focus: only stacks with <input type="text" spellcheck={false} placeholder="regular expression" value={state.focus} onChange={expression("focus")} /></label>
      <label>Hide: take out functions <input type="text" spellcheck={false} placeholder="regular expression" value={state.hide} onChange={expression("hide")} /></label>
      {fold("recursion", "Fold recursion")}
      {fold("libraries", "Fold libraries")}
      {waiting && <label>Waiting for <input type="text" list="waits" value={state.wait} onChange={(event) => change({ wait: event.currentTarget.value, root: "" })} /><datalist id="waits">{waits.slice(0, 50).map((w) => <option key={w} value={w} />)}</datalist></label>}
      {problem !== "" && <p class="problem" role="alert">{problem}</p>}
    </div>
  );
}
