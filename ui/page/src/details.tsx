// The bar below every view: the function under the pointer or chosen, in full, and what can be done with it;
// below it what the selection lacks, as a share: stacks cut off, broken, guessed, lost.

import type { Loss, Tree } from "./api";
import { count, percent, share, weight } from "./format";
import { describe, type Node } from "./flame";
import { type Answer, useSignal } from "./hooks";
import { visible } from "./names";
import type { ViewProps } from "./shared";

export function escape_regex(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

export function Details(props: ViewProps & { whole: number; samples: number | undefined }) {
  const over = useSignal(props.over);
  const chosen = useSignal(props.chosen);
  const node = over ?? chosen;
  return (
    <section id="details" class="details" aria-label="Details" aria-live={over === undefined ? "polite" : "off"}>
      {node === undefined
        ? <p class="details-idle muted">{weight(props.whole, props.unit)}{props.samples !== undefined && ` in ${count(props.samples)} samples`}. Point at a box, or choose one with the arrow keys, to read its name; <kbd>?</kbd> lists the keys.</p>
        : <Facts {...props} node={node} actions={chosen !== undefined && (over === undefined || over.hash === chosen.hash)} />}
    </section>
  );
}

function Facts(props: ViewProps & { node: Node; whole: number; actions: boolean }) {
  const { node, change, state, unit, whole, colors } = props;
  const real = node.folded === 0 && node.path.length > 0;
  const only = `^${escape_regex(node.name)}$`;
  return (
    <>
      <div class="details-text">
        <p class="details-name"><span class={colors.swatch(node.module)} aria-hidden="true" /> <bdi>{visible(node.name) || "(no name)"}</bdi></p>
        <p class="details-facts">{describe(node, unit, whole)}{node.module !== "" && <span class="muted"> · {visible(node.module.slice(0, 300))}</span>}</p>
      </div>
      {props.actions && real && (
        <div class="details-actions">
          {props.state.view === "flame" && <button type="button" onClick={() => change({ root: node.hash })}>Zoom</button>}
          <button type="button" onClick={() => change({ view: "sandwich", fn: node.name, mod: node.module })}>Sandwich</button>
          <button type="button" onClick={() => change({ view: "source", fn: node.name, mod: node.module })}>Source</button>
          <button type="button" onClick={() => change({ focus: only, root: "" })} title="Only stacks that have this function">Focus</button>
          <button type="button" onClick={() => change({ hide: state.hide === "" ? only : `${state.hide}|${only}`, root: "" })} title="Take this function out of stacks">Hide</button>
          <button type="button" onClick={() => void navigator.clipboard?.writeText(node.name).catch(() => undefined)}>Copy name</button>
        </div>
      )}
    </>
  );
}

const KINDS: readonly (readonly [string, string, string])[] = [
  ["complete", "complete", "from the outermost function to the innermost, on evidence"],
  ["switched", "switched", "complete on a stack that a runtime switched to"],
  ["guessed", "guessed", "a part was found by scanning, not by evidence"],
  ["truncated", "truncated", "the outer end is missing"],
  ["broken", "broken", "the middle could not be unwound"],
  ["unnamed", "without names", "functions that have an address and no name"],
  ["lost", "lost", "samples that the kernel dropped, beside the selection's weight"],
];

/** How whole the selection's stacks are, on every view. */
export function Completeness({ answer, unit }: { answer: Answer<Tree>; unit: string }) {
  const loss = answer.data?.loss;
  if (answer.error !== undefined || loss === undefined) return <p class="muted loss" data-loss="none">{answer.loading ? "\u00a0" : "Nothing is said about whether stacks are complete"}</p>;
  return <LossLine loss={loss} total={answer.data?.total ?? 0} unit={unit} />;
}

function LossLine({ loss, total, unit }: { loss: Loss; total: number; unit: string }) {
  const known = KINDS.filter(([key]) => Object.hasOwn(loss, key) && typeof loss[key] === "number");
  const whole = total + (loss.lost ?? 0);
  const said = known.reduce((sum, [key]) => sum + (key === "unnamed" ? 0 : (loss[key] ?? 0)), 0);
  if (!(said > 0) || !(whole > 0)) return <p class="muted loss" data-loss="none">Nothing is said about whether stacks are complete</p>;
  const bad = known.filter(([key]) => key !== "complete" && (loss[key] ?? 0) > 0);
  const complete = loss.complete ?? 0;
  return (
    <p class="loss" data-loss="known">
      <span class={complete / whole > 0.95 ? "dot good" : complete / whole > 0.8 ? "dot fair" : "dot poor"} aria-hidden="true" />
      Stacks: <b>{percent(complete / whole)}</b> complete
      {bad.map(([key, name, meaning]) => <span key={key} title={`${meaning}: ${weight(loss[key] ?? 0, unit)}`}> · {share(loss[key] ?? 0, whole)} {name}</span>)}
    </p>
  );
}
