// The time axis, above every view: busy cores as an area, below it a heat strip of a row a service, process or
// thread. A drag selects a range; so do the two handles, with arrow keys. In a comparison by time there is a
// second range, the base.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { address, type Parameters, type Series } from "./api";
import { heat, type Theme } from "./color";
import { clock, rate, span, ticks, weight } from "./format";
import { Signal, useApi, useSignal, useSize, useWaiting } from "./hooks";
import { resolve_time, type State } from "./link";
import { visible } from "./names";
import { with_matcher } from "./selector";
import type { ViewProps } from "./shared";

const AREA_PX = 40;
const STRIP_PX = 14;
const AXIS_PX = 18;
const FEW_ROWS = 4;
const MANY_ROWS = 40;

/** Which side of a comparison a drag selects. */
export const drag_target = new Signal<"new" | "base">("base");

/** Steps of a chart so wide: a few pixels each, and samples enough in a step to say something. */
export function chart_points(width: number, samples: number): number {
  return Math.max(40, Math.min(400, Math.floor(width / 200) * 50, Math.floor(samples / 4)));
}

/** Samples of the type in force, in the whole profile. */
export function samples_of({ session, state }: Pick<ViewProps, "session" | "state">): number {
  return session.types.find((type) => type.id === (state.type || session.default_type))?.samples ?? 0;
}

export interface TimeRange { from: number; until: number }

/** The part of the time that the timeline shows. */
export function shown_window(props: Pick<ViewProps, "session" | "state">): TimeRange {
  const { session, state } = props;
  const from = resolve_time(state.zoom_from, session.until) ?? session.from;
  const until = resolve_time(state.zoom_to, session.until) ?? session.until;
  return until > from ? { from, until } : { from: session.from, until: session.until };
}

export function Timeline(props: ViewProps & { filters: Parameters }) {
  const { session, state, filters, unit, change } = props;
  const window = shown_window(props);
  const range = window.until - window.from;
  const [plot, width] = useSize<HTMLDivElement>();
  const [many, set_many] = useState(false);
  const target = useSignal(drag_target);
  const by = state.by || (session.labels.includes("service_name") ? "service_name" : "process");
  const points = chart_points(width, samples_of(props));
  const question = { ...filters, from: window.from, until: window.until, points };
  const wide = width > 0 && range > 0;
  const whole = useApi<Series>(wide ? address("series", { ...question, by: "none", limit: 1 }) : null);
  const rows = useApi<Series>(wide && by !== "none" ? address("series", { ...question, by, limit: many ? MANY_ROWS : FEW_ROWS }) : null);
  const strips = by === "none" || rows.error !== undefined ? [] : (rows.data?.rows ?? []);
  const more = by === "none" ? 0 : (rows.data?.more ?? 0);
  const total = whole.data?.rows[0];
  const seconds = useWaiting(whole.loading || rows.loading);
  const comparing = state.view === "diff" && state.base === "time";

  if (!(range > 0)) {
    return (
      <section class="timeline flat" aria-label="Time">
        <p class="muted">These profiles have no times to show: {weight(props.session.types.find((t) => t.id === (state.type || session.default_type))?.total ?? 0, unit)} in all.</p>
      </section>
    );
  }
  const height = AREA_PX + strips.length * STRIP_PX + AXIS_PX;
  return (
    <section class="timeline" aria-label="Time" aria-busy={whole.loading || rows.loading} data-rows={strips.length}>
      <div class="strip-labels">
        <div class="strip-head">
          <label>Rows <ByPicker {...props} by={by} /></label>
        </div>
        <ol>{strips.map((row) => (
          <li key={row.key}>
            {session.labels.includes(by)
              ? <button type="button" class="link" title={`Only ${by} = ${row.key.slice(0, 200)}`} onClick={() => change({ query: with_matcher(state.query, { name: by, operator: "=", value: row.key }), root: "" })}>{visible(row.key.slice(0, 60)) || "(none)"}</button>
              : <span title={row.key.slice(0, 200)}>{visible(row.key.slice(0, 60)) || "(none)"}</span>}
          </li>
        ))}</ol>
        {(more > 0 || many) && <button type="button" class="link more" onClick={() => set_many(!many)}>{many ? "Fewer rows" : `${more} more`}</button>}
      </div>
      <div class={`strip-plot rows${strips.length > 12 ? " tall" : ""}`} ref={plot}>
        {seconds > 0 && <div class="progress" role="progressbar" aria-label="Loading the timeline" />}
        {whole.error !== undefined
          ? <p class="strip-error" role="alert">No timeline: {whole.error.message} <button type="button" class="link" onClick={whole.retry}>Try again</button></p>
          : <Plot {...props} window={window} total={total} strips={strips} step={whole.data?.step ?? 1} start={whole.data?.from ?? window.from} width={width} height={height}
              target={comparing ? target : "new"} />}
      </div>
      <div class="strip-side">
        <RangeFacts {...props} window={window} />
        {!session.timed && <p class="muted small" title="The samples have no times of their own: a profile's weight is spread over its interval">One value a profile</p>}
      </div>
    </section>
  );
}

function ByPicker({ session, change, by }: ViewProps & { by: string }) {
  const names: Record<string, string> = { none: "none", service_name: "service", process: "process", thread: "thread", process_executable_name: "program", host_name: "host" };
  const keys = ["none", "process", "thread", ...session.labels.slice(0, 60)];
  return (
    <select aria-label="Rows of the timeline" value={by} onChange={(event) => change({ by: event.currentTarget.value }, true)}>
      {[...new Set([...keys, by])].map((key) => <option key={key} value={key}>{Object.hasOwn(names, key) ? names[key] : key.slice(0, 60)}</option>)}
    </select>
  );
}

const PRESETS = [["now-5m", "Last 5 min"], ["now-15m", "Last 15 min"], ["now-1h", "Last hour"], ["now-6h", "Last 6 h"], ["now-1d", "Last day"]] as const;

function RangeFacts({ session, state, change, window }: ViewProps & { window: TimeRange }) {
  const from = resolve_time(state.from, session.until);
  const until = resolve_time(state.to, session.until);
  const chosen = from !== undefined || until !== undefined;
  const low = from ?? session.from;
  const high = until ?? session.until;
  const zoomed = state.zoom_from !== "" || state.zoom_to !== "";
  const range = window.until - window.from;
  return (
    <>
      <p class="range">
        <span class="range-length">{span(Math.max(0, high - low))}</span>
        <span class="muted">{chosen ? "selected" : "all"}</span>
      </p>
      <p class="muted small">{clock(low, range)} – {clock(high, range)}</p>
      <p class="range-actions">
        {session.source === "history" && (
          <select aria-label="Range of time" value={state.to === "" ? state.from : ""} onChange={(event) => change({ from: event.currentTarget.value, to: "" })}>
            <option value="">All</option>
            {PRESETS.map(([value, label]) => <option key={value} value={value}>{label}</option>)}
          </select>
        )}
        {chosen && <button type="button" class="link" onClick={() => change({ from: "", to: "" })}>Select all</button>}
        {chosen && high > low && <button type="button" class="link" onClick={() => change({ zoom_from: String(low), zoom_to: String(high) })}>Zoom in</button>}
        {zoomed && <button type="button" class="link" onClick={() => change({ zoom_from: "", zoom_to: "" })}>Zoom out</button>}
      </p>
    </>
  );
}

interface PlotProps extends ViewProps {
  window: TimeRange;
  total: { values: number[] } | undefined;
  strips: { key: string; values: number[] }[];
  start: number;
  step: number;
  width: number;
  height: number;
  target: "new" | "base";
}

function Plot(props: PlotProps) {
  const { window, total, strips, start, step, width, height, theme, unit, state, session, change, target } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const [draft, set_draft] = useState<TimeRange | undefined>();
  const [at, set_at] = useState<{ x: number; y: number } | undefined>();
  const range = window.until - window.from;
  const peak = useMemo(() => Math.max(1e-9, ...(total?.values ?? [0])), [total]);
  const hottest = useMemo(() => Math.max(1e-9, ...strips.map((row) => Math.max(0, ...row.values))), [strips]);
  const x_of = (ms: number) => ((ms - window.from) / range) * width;
  const ms_of = (x: number) => Math.round(window.from + (Math.min(width, Math.max(0, x)) / Math.max(1, width)) * range);

  useEffect(() => {
    const element = canvas.current;
    if (element === null || width === 0) return;
    draw_plot(element, { theme, width, height, total: total?.values ?? [], strips, peak, hottest, window, x_of, bucket: (i) => [x_of(start + i * step), x_of(start + (i + 1) * step)] });
  }, [theme, width, height, total, strips, window.from, window.until]);

  const keys = target === "new" ? (["from", "to"] as const) : (["base_from", "base_to"] as const);
  const set_range = (next: TimeRange, replace = false) => {
    const part: Partial<State> = { [keys[0]]: String(Math.round(next.from)), [keys[1]]: String(Math.round(next.until)) };
    change(part, replace);
  };
  const from = resolve_time(state.from, session.until);
  const until = resolve_time(state.to, session.until);
  const chosen = from !== undefined || until !== undefined ? { from: from ?? session.from, until: until ?? session.until } : undefined;
  const base_from = resolve_time(state.base_from, session.until);
  const base_until = resolve_time(state.base_to, session.until);
  const base = state.view === "diff" && state.base === "time" && base_from !== undefined && base_until !== undefined ? { from: base_from, until: base_until } : undefined;
  const active = target === "base" ? base : chosen;
  const now = { new: target === "new" && draft ? draft : chosen, base: target === "base" && draft ? draft : base };

  const origin = useRef<number | undefined>(undefined);
  const down = (event: PointerEvent) => {
    if (event.button !== 0) return;
    origin.current = event.offsetX;
    canvas.current?.setPointerCapture(event.pointerId);
  };
  const move = (event: PointerEvent) => {
    set_at({ x: event.offsetX, y: event.offsetY });
    if (origin.current === undefined || Math.abs(event.offsetX - origin.current) < 4) return;
    const [a, b] = [ms_of(origin.current), ms_of(event.offsetX)].sort((p, q) => p - q) as [number, number];
    set_draft({ from: a, until: b });
  };
  const up = () => {
    origin.current = undefined;
    if (draft !== undefined && draft.until > draft.from) set_range(draft);
    set_draft(undefined);
  };

  const bucket = at === undefined ? -1 : Math.floor((ms_of(at.x) - start) / step);
  const row = at === undefined ? undefined : strips[Math.floor((at.y - AREA_PX) / STRIP_PX)];
  const value = at === undefined ? undefined : (row ?? total)?.values[bucket];
  return (
    <>
      <canvas ref={canvas} class="strip-canvas" role="img" aria-label={`Load over time, at most ${rate(peak, step, unit)}; ${strips.length} rows`}
        onPointerDown={down} onPointerMove={move} onPointerUp={up} onPointerCancel={() => { origin.current = undefined; set_draft(undefined); }}
        onPointerLeave={() => set_at(undefined)} onDblClick={() => change({ [keys[0]]: "", [keys[1]]: "" })} />
      <span class="peak muted" aria-hidden="true">{rate(peak, step, unit)}</span>
      {now.base !== undefined && <Shade range={now.base} x_of={x_of} width={width} kind="base" />}
      {now.new !== undefined && <Shade range={now.new} x_of={x_of} width={width} kind="new" />}
      <Handle side="from" range={active ?? window} window={window} x_of={x_of} set={set_range} name={target === "base" ? "base" : "selection"} quiet={active === undefined} />
      <Handle side="until" range={active ?? window} window={window} x_of={x_of} set={set_range} name={target === "base" ? "base" : "selection"} quiet={active === undefined} />
      {at !== undefined && value !== undefined && (
        <Cross x={at.x} width={width}>
          <b>{clock(start + bucket * step, Math.min(range, 60_000))}</b> {row !== undefined && `${visible(row.key.slice(0, 40)) || "(none)"} `}{rate(value, step, unit)}
        </Cross>
      )}
    </>
  );
}

function Cross({ x, width, children }: { x: number; width: number; children: unknown }) {
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (ref.current !== null) ref.current.style.left = `${x}px`;
  }, [x]);
  return <div class={x > width - 180 ? "cross left" : "cross"} ref={ref} aria-hidden="true"><span>{children as string}</span></div>;
}

function Shade({ range, x_of, width, kind }: { range: TimeRange; x_of: (ms: number) => number; width: number; kind: string }) {
  const ref = useRef<HTMLDivElement>(null);
  const left = Math.max(0, Math.min(width, x_of(range.from)));
  const right = Math.max(left + 1, Math.min(width, x_of(range.until)));
  useEffect(() => {
    if (ref.current === null) return;
    ref.current.style.left = `${left}px`;
    ref.current.style.width = `${right - left}px`;
  }, [left, right]);
  return <div class={`shade ${kind}`} ref={ref} aria-hidden="true" />;
}

function Handle({ side, range, window, x_of, set, name, quiet }: { side: "from" | "until"; range: TimeRange; window: TimeRange; x_of: (ms: number) => number; set: (range: TimeRange, replace?: boolean) => void; name: string; quiet: boolean }) {
  const ref = useRef<HTMLDivElement>(null);
  const value = Math.max(window.from, Math.min(window.until, range[side]));
  useEffect(() => {
    if (ref.current !== null) ref.current.style.left = `${x_of(value)}px`;
  });
  const held = (to: number): number => {
    const least = Math.max(1, (window.until - window.from) / 1000);
    const inside = Math.round(Math.max(window.from, Math.min(window.until, to)));
    return side === "from" ? Math.min(inside, Math.round(range.until - least)) : Math.max(inside, Math.round(range.from + least));
  };
  const drag = (event: PointerEvent) => {
    const room = ref.current?.parentElement?.getBoundingClientRect();
    if (event.buttons !== 1 || room === undefined || ref.current?.hasPointerCapture(event.pointerId) !== true) return;
    set({ ...range, [side]: held(window.from + ((event.clientX - room.left) / room.width) * (window.until - window.from)) }, true);
  };
  const key = (event: KeyboardEvent) => {
    const step = ((window.until - window.from) / 100) * (event.shiftKey ? 10 : 1);
    const moves: Record<string, number> = { ArrowLeft: value - step, ArrowRight: value + step, ArrowDown: value - step, ArrowUp: value + step, Home: window.from, End: window.until };
    if (!Object.hasOwn(moves, event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    set({ ...range, [side]: held(moves[event.key] as number) }, true);
  };
  return (
    <div class={quiet ? "handle quiet" : "handle"} ref={ref} tabIndex={0} role="slider" aria-orientation="horizontal" onKeyDown={key}
      onPointerDown={(event) => ref.current?.setPointerCapture(event.pointerId)} onPointerMove={drag}
      aria-label={side === "from" ? `Start of the ${name}` : `End of the ${name}`} aria-valuemin={window.from} aria-valuemax={window.until}
      aria-valuenow={value} aria-valuetext={clock(value, Math.min(60_000, window.until - window.from))} />
  );
}

interface PlotDrawing {
  theme: Theme; width: number; height: number; total: number[]; strips: { values: number[] }[]; peak: number; hottest: number;
  window: TimeRange; x_of: (ms: number) => number; bucket: (i: number) => [number, number];
}

function draw_plot(canvas: HTMLCanvasElement, d: PlotDrawing): void {
  const ratio = Math.min(3, devicePixelRatio || 1);
  canvas.width = Math.round(d.width * ratio);
  canvas.height = Math.round(d.height * ratio);
  canvas.style.width = `${d.width}px`;
  canvas.style.height = `${d.height}px`;
  const c = canvas.getContext("2d");
  if (c === null) return;
  const style = getComputedStyle(canvas);
  const color = (name: string) => style.getPropertyValue(name).trim();
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  const bottom = d.height - AXIS_PX;
  c.strokeStyle = color("--line");
  c.lineWidth = 1;
  c.font = "11px system-ui, -apple-system, \"Segoe UI\", Roboto, \"Noto Sans\", \"Liberation Sans\", sans-serif";
  c.textBaseline = "middle";
  const range = d.window.until - d.window.from;
  const labels = ticks(d.window.from, d.window.until, d.width / 90);
  const step = labels.length > 1 ? (labels[1] as number) - (labels[0] as number) : range;
  for (const at of labels) {
    const x = Math.round(d.x_of(at)) + 0.5;
    c.beginPath();
    c.moveTo(x, 0);
    c.lineTo(x, bottom + 3);
    c.stroke();
    c.fillStyle = color("--muted");
    const text = clock(at, step < 1000 ? step : range);
    const wide = c.measureText(text).width;
    if (x - wide / 2 >= 0 && x + wide / 2 <= d.width) c.fillText(text, x - wide / 2, d.height - AXIS_PX / 2 + 1);
  }
  c.beginPath();
  c.moveTo(0, AREA_PX - 2);
  d.total.forEach((value, i) => {
    const [x0, x1] = d.bucket(i);
    const y = AREA_PX - 2 - (value / d.peak) * (AREA_PX - 6);
    c.lineTo(x0, y);
    c.lineTo(x1, y);
  });
  c.lineTo(d.total.length > 0 ? d.bucket(d.total.length - 1)[1] : 0, AREA_PX - 2);
  c.closePath();
  c.fillStyle = color("--area");
  c.fill();
  let cells = 0;
  d.strips.forEach((row, r) => {
    const y = AREA_PX + r * STRIP_PX;
    c.fillStyle = heat(0, d.theme);
    c.fillRect(0, y, d.width, STRIP_PX - 1);
    row.values.forEach((value, i) => {
      if (value <= 0) return;
      const [x0, x1] = d.bucket(i);
      c.fillStyle = heat(value / d.hottest, d.theme);
      c.fillRect(x0, y, Math.max(1, x1 - x0 + 0.3), STRIP_PX - 1);
      cells++;
    });
  });
  canvas.dataset.cells = String(cells);
  canvas.dataset.points = String(d.total.length);
}
