// Keys of the whole page. What an element takes for itself (the flame graph, the handles of the timeline, a text
// field) never arrives here.

import { useEffect, useRef, useState } from "preact/hooks";
import { DEFAULTS, resolve_time, type View } from "./link";
import type { ViewProps } from "./shared";

const KEYS: readonly (readonly [string, string])[] = [
  ["/", "search; Esc clears"], ["n  N", "next and previous hit"], ["← → ↑ ↓", "neighbour, parent, child in the flame graph"], ["Enter", "zoom into the box"],
  ["Backspace  u", "out of the zoom"], ["+  −", "wider and narrower, in the drawing"], ["f", "flame graph"], ["t", "top"], ["s", "sandwich of the chosen function"], ["d", "compare"],
  ["l", "source of the chosen function"], ["i", "invert"], ["[  ]", "the range of time back and forth"], ["r", "reset everything"], ["y", "copy a link to this"], ["?", "these keys"], ["Esc", "close, or choose nothing"],
];

const VIEWS: Record<string, View> = { f: "flame", t: "top", s: "sandwich", d: "diff", l: "source" };
const NOTICE_MS = 2500;

/** Listens to keys; the answer is what to tell for a moment. */
export function usePageKeys(props: ViewProps, help: { current: HTMLDialogElement | null }): string {
  const latest = useRef(props);
  latest.current = props;
  const [notice, set_notice] = useState("");
  useEffect(() => {
    if (notice === "") return;
    const timer = setTimeout(() => set_notice(""), NOTICE_MS);
    return () => clearTimeout(timer);
  }, [notice]);
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      // AltGr, with which many keyboards write brackets, looks like Ctrl and Alt together.
      const held = (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState("AltGraph");
      if (held || event.defaultPrevented || help.current?.open === true) return;
      const target = event.target as HTMLElement;
      if (/^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) return;
      const told = press(event.key, latest.current, help);
      if (told === undefined) return;
      event.preventDefault();
      if (told !== "") set_notice(told);
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, []);
  return notice;
}

/** Does what a key is for; undefined when it is for nothing. */
function press(key: string, props: ViewProps, help: { current: HTMLDialogElement | null }): string | undefined {
  const { state, change, chosen, control } = props;
  if (Object.hasOwn(VIEWS, key)) {
    const node = chosen.value;
    const picks = (key === "s" || key === "l") && node !== undefined && node.folded === 0 && node.path.length > 0;
    change(picks ? { view: VIEWS[key] as View, fn: node.name, mod: node.module } : { view: VIEWS[key] as View });
    return "";
  }
  switch (key) {
    case "/": document.getElementById("search")?.focus(); return "";
    case "n": control.value?.next_hit(1); return "";
    case "N": control.value?.next_hit(-1); return "";
    case "Backspace": case "u": return zoom_out(props);
    case "i": change({ invert: !state.invert, root: "" }); return state.invert ? "Callers on top" : "Inverted";
    case "[": case "]": return shift_range(props, key === "[" ? -1 : 1);
    case "r": change({ ...DEFAULTS, view: state.view }); control.value?.reset(); return "Everything is shown";
    case "y": void navigator.clipboard?.writeText(location.href).catch(() => undefined); return "Link copied";
    case "?": help.current?.showModal(); return "";
    case "Escape": chosen.set(undefined); return "";
    default: return undefined;
  }
}

function zoom_out({ state, change, control }: ViewProps): string {
  control.value?.reset();
  if (state.root === "") return "";
  const crumbs = document.querySelectorAll<HTMLButtonElement>(".crumbs button");
  const last = crumbs[crumbs.length - 1];
  if (last === undefined) change({ root: "" });
  else last.click();
  return "";
}

function shift_range({ session, state, change }: ViewProps, step: 1 | -1): string {
  const whole = session.until - session.from;
  if (!(whole > 0)) return "These profiles have no times";
  const from = resolve_time(state.from, session.until) ?? (state.to === "" ? (step > 0 ? session.from - whole / 10 : session.until) : session.from);
  const until = resolve_time(state.to, session.until) ?? (state.from === "" ? from + whole / 10 : session.until);
  const length = until - from;
  const low = Math.round(Math.max(session.from, Math.min(session.until - length, from + step * length)));
  change({ from: String(low), to: String(Math.round(low + length)), root: "" });
  return "";
}

export function Help({ dialog }: { dialog: { current: HTMLDialogElement | null } }) {
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title" onClick={(event) => { if (event.target === dialog.current) dialog.current?.close(); }}>
      <h2 id="help-title">Keys</h2>
      <dl>{KEYS.map(([key, what]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{what}</dd></div>)}</dl>
      <p class="muted">Click a box to choose it, click it again to zoom. Ctrl and the wheel widen, a drag moves. A drag on the timeline selects a range.</p>
      <button type="button" onClick={() => dialog.current?.close()}>Close</button>
    </dialog>
  );
}
