// Small pieces that every view uses: what stands where there is nothing, not yet, or an error; menus; swatches.

import { Component, type ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { ApiError } from "./api";
import { type Answer, useWaiting } from "./hooks";

const SLOW_AFTER_S = 3;

/** The content of an answer, or what stands in its place. An older answer stays while a newer one is awaited. */
export function Awaited<T>({ answer, what, children }: { answer: Answer<T>; what: string; children: (data: T) => ComponentChildren }) {
  const { data, error, loading, retry, cancel } = answer;
  const seconds = useWaiting(loading);
  return (
    <div class={loading && data !== undefined && seconds > 0 ? "awaited stale" : "awaited"} aria-busy={loading}>
      {loading && seconds > 0 && <div class="progress" role="progressbar" aria-label={`Loading ${what}`} />}
      {loading && (data === undefined || seconds >= SLOW_AFTER_S) && (
        <Loading what={what} seconds={seconds} cancel={cancel} floating={data !== undefined} />
      )}
      {error !== undefined ? <Failure error={error} retry={retry} what={what} /> : data !== undefined ? children(data) : null}
    </div>
  );
}

function Loading({ what, seconds, cancel, floating }: { what: string; seconds: number; cancel: () => void; floating: boolean }) {
  if (seconds < SLOW_AFTER_S) return <div class="notice loading"><p>{seconds > 0 ? `Loading ${what}…` : "\u00a0"}</p></div>;
  return (
    <div class={floating ? "notice loading floating" : "notice loading"} role="status">
      <p>Still computing {what}: {Math.floor(seconds)} s</p>
      <button type="button" onClick={cancel}>Cancel</button>
    </div>
  );
}

export function Failure({ error, retry, what }: { error: ApiError; retry: () => void; what: string }) {
  return (
    <div class="notice error" role="alert">
      <h2>No {what}</h2>
      <p>{error.message}</p>
      <p class="muted">{error.status > 0 ? `${error.status} ${error.code}` : error.code}</p>
      <button type="button" onClick={retry}>Try again</button>
    </div>
  );
}

/** Keeps the rest of the page when one part meets an answer that it cannot show. */
export class Boundary extends Component<{ what: string; children: ComponentChildren }, { told?: string }> {
  override state: { told?: string } = {};
  override componentDidCatch(error: unknown): void {
    this.setState({ told: error instanceof Error ? error.message : String(error) });
  }
  override render() {
    if (this.state.told === undefined) return this.props.children;
    return (
      <div class="notice error" role="alert">
        <h2>The {this.props.what} cannot be shown</h2>
        <p>The server's answer is not what this page knows: {this.state.told.slice(0, 300)}</p>
        <button type="button" onClick={() => location.reload()}>Load the page again</button>
      </div>
    );
  }
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return <div class="notice empty" role="status"><h2>{title}</h2>{children}</div>;
}

/** A button that opens a panel below it. Escape and a click elsewhere close it. */
export function Menu({ label, title, children, right, quiet }: { label: ComponentChildren; title: string; children: (close: () => void) => ComponentChildren; right?: boolean; quiet?: boolean }) {
  const ref = useRef<HTMLDetailsElement>(null);
  const close = () => {
    const element = ref.current;
    if (element === null || !element.open) return;
    const inside = element.contains(document.activeElement);
    element.open = false;
    if (inside) element.querySelector("summary")?.focus();
  };
  useEffect(() => {
    const outside = (event: Event) => {
      if (ref.current !== null && !ref.current.contains(event.target as HTMLElement)) ref.current.open = false;
    };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, []);
  const escape = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || ref.current?.open !== true) return;
    event.stopPropagation();
    close();
  };
  return (
    <details class={right === true ? "menu right" : "menu"} ref={ref} onKeyDown={escape}>
      <summary class={quiet === true ? "quiet" : ""} title={title}>{label}</summary>
      <div class="panel" tabIndex={0} role="group" aria-label={title}>{children(close)}</div>
    </details>
  );
}

/** A bar of a share, with the width that CSP lets a script set. */
export function Bar({ part, kind = "bar", error }: { part: number; kind?: string; error?: number | undefined }) {
  const ref = useRef<HTMLSpanElement>(null);
  const whisker = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    const clamp = (value: number) => Math.min(100, Math.max(0, value * 100));
    if (ref.current !== null) ref.current.style.width = `${clamp(part)}%`;
    if (whisker.current !== null && error !== undefined) {
      const from = clamp(part - error);
      whisker.current.style.left = `${from}%`;
      whisker.current.style.width = `${clamp(part + error) - from}%`;
    }
  }, [part, error]);
  return (
    <span class="bar-room" aria-hidden="true">
      <span class={kind} ref={ref} />
      {error !== undefined && error > 0 && <span class="whisker" ref={whisker} />}
    </span>
  );
}
