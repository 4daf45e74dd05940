// The page as a whole: its state is the link, every view shows the same selection.

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { address, forget_answers, type Functions, type KnownSession, known_session, type Parameters, type Session, type Tree } from "./api";
import { ModuleColors } from "./color";
import { Completeness, Details } from "./details";
import { DiffView } from "./diff";
import type { FlameControl, Node } from "./flame";
import { Filters, Header } from "./header";
import { generation, Signal, useApi, useTheme } from "./hooks";
import { matcher } from "./layout";
import { read_link, resolve_time, type State, type View, write_link } from "./link";
import { Help, usePageKeys } from "./keys";
import { visible } from "./names";
import { Panel } from "./panels";
import { Awaited, Boundary } from "./parts";
import type { ViewProps } from "./shared";
import { Timeline } from "./timeline";
import { FlameView, SandwichView, SourceView, ThreadsView, TopView, tree_address } from "./views";

const TABS: readonly (readonly [View, string])[] = [
  ["flame", "Flame graph"], ["top", "Top"], ["sandwich", "Sandwich"], ["diff", "Compare"], ["source", "Source"], ["threads", "Threads"],
  ["governor", "Governor"], ["pipeline", "Pipeline"],
];

/** How often a page that follows a history asks anew. */
const FOLLOW_MS = 10_000;

export function App() {
  const session = useApi<Session>(address("session", {}));
  // Colours go to modules by their weight in the whole profile, so that a filter changes none.
  const heaviest = useApi<Functions>(address("functions", { sort: "self", limit: 200 }));
  const colors = useMemo(() => new ModuleColors((heaviest.data?.rows ?? []).map((row) => row.module ?? "")), [heaviest.data]);
  return (
    <Awaited answer={session} what="profile">
      {(data) => heaviest.loading && heaviest.data === undefined ? null : <Boundary what="page"><Page answer={data} colors={colors} /></Boundary>}
    </Awaited>
  );
}

/** The state, and how it is changed: each change is a link, most are a step of the back button. */
function useLink(): [State, string, (part: Partial<State>, replace?: boolean) => void] {
  const [link, set] = useState(() => read_link(location.hash));
  const current = useRef(link.state);
  current.current = link.state;
  useEffect(() => {
    const read = () => set(read_link(location.hash));
    addEventListener("popstate", read);
    addEventListener("hashchange", read);
    return () => {
      removeEventListener("popstate", read);
      removeEventListener("hashchange", read);
    };
  }, []);
  const change = useCallback((part: Partial<State>, replace = false) => {
    const state = { ...current.current, ...part };
    const fragment = write_link(state);
    if (fragment === write_link(current.current)) return;
    current.current = state;
    if (replace) history.replaceState(null, "", fragment);
    else history.pushState(null, "", fragment);
    set({ state, problem: "" });
  }, []);
  return [link.state, link.problem, change];
}

/** Filters without the range of time; the timeline asks with them and shows all times. */
function filters_of(session: KnownSession, state: State): Parameters {
  const type = state.type || session.default_type;
  const all: Parameters = { type, query: state.query, focus: state.focus, hide: state.hide, fold: state.fold, wait: state.wait };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== ""));
}

function Page({ answer, colors }: { answer: Session; colors: ModuleColors }) {
  const session = useMemo(() => known_session(answer), [answer]);
  const [state, problem, change] = useLink();
  const [theme, choice, choose] = useTheme();
  const over = useMemo(() => new Signal<Node | undefined>(undefined), []);
  const chosen = useMemo(() => new Signal<Node | undefined>(undefined), []);
  const control = useMemo(() => new Signal<FlameControl | undefined>(undefined), []);
  const trail = useMemo(() => new Map<string, string[]>(), []);
  const type = session.types.find((t) => t.id === (state.type || session.default_type));

  const filters = useMemo(() => filters_of(session, state), [session, state.type, state.query, state.focus, state.hide, state.fold, state.wait]);
  const selection = useMemo(() => {
    const times: Parameters = {};
    const from = resolve_time(state.from, session.until);
    const until = resolve_time(state.to, session.until);
    if (from !== undefined) times.from = from;
    if (until !== undefined) times.until = until;
    return { ...filters, ...times };
  }, [filters, state.from, state.to, session]);
  const found = useMemo(() => (state.search === "" ? undefined : matcher(state.search)), [state.search]);
  const matches = typeof found === "function" ? found : undefined;
  // Totals and completeness of the selection: the flame graph's answer has them, other views ask for them alone.
  const is_flame = state.view === "flame";
  const drawn = useApi<Tree>(is_flame ? tree_address({ selection, state }) : null);
  const totals = useApi<Tree>(is_flame && drawn.error === undefined ? null : address("tree", { ...selection, nodes: 1, width: 800 }));
  const whole = is_flame && drawn.error === undefined ? drawn : totals;
  useEffect(() => chosen.set(undefined), [state.view, selection]);
  useEffect(() => {
    document.title = `${visible(session.title.slice(0, 100))} – profpipe`;
  }, [session]);

  const props: ViewProps = { session, state, change, selection, unit: type?.unit ?? "", theme, colors, over, chosen, control, matches };
  const help = useRef<HTMLDialogElement>(null);
  const notice = usePageKeys(props, help);
  const refresh = () => {
    forget_answers();
    generation.set(generation.value + 1);
  };
  const [follows, follow] = useState(false);
  useEffect(() => {
    if (!follows) return;
    const timer = setInterval(() => document.visibilityState === "visible" && refresh(), FOLLOW_MS);
    return () => clearInterval(timer);
  }, [follows]);
  const panels = session.panels ?? (session.source === "history" ? ["governor", "pipeline"] : []);
  const tabs = TABS.filter(([view]) => (view !== "governor" && view !== "pipeline") || panels.includes(view));
  return (
    <div class="page" data-view={state.view}>
      <Header {...props} choice={choice} choose={choose} help={() => help.current?.showModal()} follows={follows} follow={follow} refresh={session.source === "history" ? refresh : undefined} search_problem={typeof found === "string" ? found : ""} />
      <Filters {...props} />
      <Boundary what="timeline"><Timeline {...props} filters={filters} /></Boundary>
      <nav class="tabs" aria-label="Views">
        <ul>{tabs.map(([view, name]) => (
          <li key={view}><a href={write_link({ ...state, view })} aria-current={state.view === view ? "page" : undefined}
            onClick={(event) => { if (event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey) { event.preventDefault(); change({ view }); } }}>{name}</a></li>
        ))}</ul>
      </nav>
      {problem !== "" && <p class="banner" role="alert">{problem}</p>}
      <main class={`view view-${state.view}`} id="view" tabIndex={-1} aria-label={TABS.find(([view]) => view === state.view)?.[1]}>
        <Boundary what="view" key={state.view}><Shown {...props} trail={trail} whole={whole.data?.total ?? 0} /></Boundary>
      </main>
      <Details {...props} whole={whole.data?.total ?? 0} samples={whole.data?.samples} />
      <footer class="foot">
        <Completeness answer={whole} unit={props.unit} />
        <p class="muted" role="status">{notice}</p>
      </footer>
      <Help dialog={help} />
    </div>
  );
}

function Shown(props: ViewProps & { trail: Map<string, string[]>; whole: number }) {
  switch (props.state.view) {
    case "top": return <TopView {...props} />;
    case "sandwich": return <SandwichView {...props} />;
    case "diff": return <DiffView {...props} />;
    case "source": return <SourceView {...props} />;
    case "threads": return <ThreadsView {...props} />;
    case "governor": return <Panel name="governor" title="Governor" />;
    case "pipeline": return <Panel name="pipeline" title="Pipeline" />;
    default: return <FlameView {...props} />;
  }
}
