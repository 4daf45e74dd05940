// A flame graph with its pointer, keyboard and tooltip: `FlameCanvas` draws, this listens.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Loss, Tree } from "./api";
import type { ModuleColors, Theme } from "./color";
import { points, share, weight } from "./format";
import { type Effect, FlameCanvas } from "./flame_canvas";
import { Signal } from "./hooks";
import { Layout } from "./layout";
import { visible } from "./names";

/** What a pointer or a key is on, for the details bar. */
export interface Node {
  name: string;
  module: string;
  hash: string;
  self: number;
  total: number;
  folded: number;
  path: string[];
  base?: number;
}

/** Keys that a flame graph takes from the page: the last one that was drawn or touched. */
export interface FlameControl {
  next_hit: (step: 1 | -1) => void;
  zoom: (hash: string) => void;
  reset: () => void;
  selected: () => Node | undefined;
}

export interface FlameProps {
  tree: Tree;
  unit: string;
  /** What shares are of. */
  whole: number;
  theme: Theme;
  colors: ModuleColors;
  label: string;
  up?: boolean;
  matches?: ((name: string) => boolean) | undefined;
  module?: string | undefined;
  /** Change of a function, in a comparison. */
  effect?: ((name: string, module: string) => Effect) | undefined;
  over: Signal<Node | undefined>;
  chosen: Signal<Node | undefined>;
  control?: Signal<FlameControl | undefined> | undefined;
  /** Zooms into a path; without it a zoom stays in the drawing. */
  onZoom?: ((node: Node) => void) | undefined;
  onOut?: (() => void) | undefined;
  loss?: Loss | undefined;
}

export function describe(node: Node, unit: string, whole: number): string {
  if (node.base !== undefined) return `${weight(node.base, unit)} → ${weight(node.total, unit)}`;
  const own = node.folded > 0 ? "" : `, self ${weight(node.self, unit)} (${share(node.self, whole)})`;
  return `${weight(node.total, unit)} (${share(node.total, whole)})${own}`;
}

export function Flame(props: FlameProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const spacer = useRef<HTMLDivElement>(null);
  const view = useRef<FlameCanvas | undefined>(undefined);
  const [tip, set_tip] = useState<{ x: number; y: number; node: Node } | undefined>();
  const latest = useRef(props);
  latest.current = props;

  const layout = useMemo(() => {
    try {
      return new Layout(props.tree);
    } catch (error) {
      return (error as Error).message;
    }
  }, [props.tree]);
  const broken = typeof layout === "string" ? layout : undefined;
  const drawn = typeof layout === "string" ? undefined : layout;

  const node_of = (ix: number): Node | undefined => {
    if (drawn === undefined || ix < 0) return undefined;
    const node: Node = {
      name: drawn.name_of(ix), module: drawn.module_of(ix), hash: drawn.hash_of(ix), self: drawn.self[ix] ?? 0,
      total: drawn.weight[ix] ?? 0, folded: drawn.folded[ix] ?? 0, path: drawn.path_of(ix),
    };
    if (drawn.base !== undefined) node.base = drawn.base[ix] ?? 0;
    return node;
  };
  const nodes = useRef(node_of);
  nodes.current = node_of;

  useLayoutEffect(() => {
    if (canvas.current === null || scroller.current === null || spacer.current === null) return;
    const made = new FlameCanvas(canvas.current, scroller.current, spacer.current);
    view.current = made;
    const observer = new ResizeObserver(() => made.resize());
    observer.observe(scroller.current);
    const wheel = (event: WheelEvent) => {
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        made.zoom_by(Math.exp(Math.max(-100, Math.min(100, event.deltaY)) * 0.004), event.offsetX);
      } else if (made.zoomed && (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))) {
        event.preventDefault();
        made.pan_by(event.deltaX || event.deltaY);
      }
      set_tip(undefined);
    };
    made.canvas.addEventListener("wheel", wheel, { passive: false });
    return () => {
      made.stop();
      observer.disconnect();
      made.canvas.removeEventListener("wheel", wheel);
      latest.current.over.set(undefined);
    };
  }, [broken]);

  const zoom = (ix: number) => {
    const node = nodes.current(ix);
    if (node === undefined) return;
    set_tip(undefined);
    view.current?.zoom(ix);
    if (latest.current.onZoom === undefined) return;
    // What is folded is seen from its caller, with boxes of its own.
    const target = node.folded > 0 ? nodes.current(drawn?.parent[ix] ?? -1) : node;
    if (target !== undefined && target.hash !== "" && target.path.length > 0) latest.current.onZoom(target);
  };

  const choose = (ix: number) => {
    view.current?.select(ix);
    latest.current.chosen.set(nodes.current(ix));
  };

  useLayoutEffect(() => {
    const { theme, colors, up, matches, module, effect } = props;
    if (drawn === undefined) return;
    view.current?.show(drawn, {
      theme, colors, up: up === true, matches, module,
      change: effect === undefined ? undefined : (node) => effect(drawn.name_of(node), drawn.module_of(node)),
    });
    if (view.current !== undefined && view.current.selection >= 0) props.chosen.set(node_of(view.current.selection));
  }, [drawn, props.theme, props.colors, props.matches, props.module, props.up, props.effect]);

  useEffect(() => {
    props.control?.set({
      next_hit: (step) => {
        const found = view.current?.hit_nodes() ?? [];
        const at = found.indexOf(view.current?.selection ?? -1);
        const next = found[(at + step + found.length) % Math.max(1, found.length)] ?? found[0];
        if (next !== undefined) choose(next);
      },
      zoom: (hash) => {
        const ix = view.current?.find(hash) ?? -1;
        if (ix >= 0) view.current?.zoom(ix);
      },
      reset: () => view.current?.reset(),
      selected: () => nodes.current(view.current?.selection ?? -1),
    });
  }, [drawn]);

  useEffect(() => props.chosen.watch((node) => {
    if (node === undefined) view.current?.select(-1);
  }), [props.chosen]);

  const key = (event: KeyboardEvent) => {
    if (drawn === undefined || view.current === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = view.current.selection;
    const up = latest.current.up === true;
    const child = at < 0 ? (drawn.count > 0 ? 0 : -1) : drawn.first_child(at);
    const parent = at < 0 ? -1 : (drawn.parent[at] ?? -1);
    const moves: Record<string, () => number> = {
      ArrowDown: () => (up ? parent : child), ArrowUp: () => (up ? child : parent),
      ArrowLeft: () => (at < 0 ? 0 : drawn.beside(at, -1)), ArrowRight: () => (at < 0 ? 0 : drawn.beside(at, 1)),
      Home: () => (drawn.count > 0 ? 0 : -1),
    };
    const move = Object.hasOwn(moves, event.key) ? moves[event.key] : undefined;
    if (move !== undefined) {
      const to = move();
      if (to >= 0) choose(to);
    } else if (event.key === "Enter" && at >= 0) zoom(at);
    else if (event.key === "+" || event.key === "-") view.current.zoom_by(event.key === "+" ? 0.7 : 1 / 0.7, (scroller.current?.clientWidth ?? 0) / 2);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  const drag = useRef<{ x: number; y: number; moved: boolean } | undefined>(undefined);
  const over = (event: PointerEvent) => {
    const made = view.current;
    if (made === undefined) return;
    const held = drag.current;
    if (held !== undefined && event.buttons === 1) {
      const dx = held.x - event.clientX;
      const dy = held.y - event.clientY;
      if (held.moved || Math.abs(dx) + Math.abs(dy) > 4) {
        if (!held.moved) made.canvas.setPointerCapture(event.pointerId);
        made.pan_by(dx);
        made.scroller.scrollTop += dy;
        drag.current = { x: event.clientX, y: event.clientY, moved: true };
        set_tip(undefined);
        return;
      }
    }
    const ix = made.at(event.offsetX, event.offsetY);
    made.hover(ix);
    made.canvas.classList.toggle("pointing", ix >= 0);
    const node = nodes.current(ix);
    props.over.set(node);
    set_tip(node === undefined ? undefined : { x: event.clientX, y: event.clientY, node });
  };
  const leave = () => {
    view.current?.hover(-1);
    props.over.set(undefined);
    set_tip(undefined);
  };
  const click = (event: MouseEvent) => {
    const made = view.current;
    const moved = drag.current?.moved === true;
    drag.current = undefined;
    if (made === undefined || moved) return;
    const ix = made.at(event.offsetX, event.offsetY);
    if (ix >= 0 && ix === made.selection) zoom(ix);
    else choose(ix);
  };

  if (broken !== undefined) return <div class="notice error" role="alert"><p>{broken}</p></div>;
  return (
    <div class="flame" ref={scroller}>
      <div class="spacer" ref={spacer}>
        <canvas
          ref={canvas} tabIndex={0} role="application" aria-roledescription="flame graph" aria-describedby="details"
          aria-label={`${props.label}. Arrow keys move between boxes, Enter zooms, Backspace goes back. The Top view has the same functions as a table.`}
          onKeyDown={key} onPointerMove={over} onPointerLeave={leave}
          onPointerDown={(event) => { drag.current = { x: event.clientX, y: event.clientY, moved: false }; }} onClick={click}
        />
      </div>
      {tip !== undefined && <Tip {...tip} {...props} />}
    </div>
  );
}

function Tip({ x, y, node, unit, whole, effect }: { x: number; y: number; node: Node } & FlameProps) {
  const ref = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const element = ref.current;
    if (element === null) return;
    const { offsetWidth: w, offsetHeight: h } = element;
    const left = Math.max(4, Math.min(x + 14, innerWidth - w - 6));
    const top = y + 18 + h > innerHeight ? Math.max(4, y - h - 10) : y + 18;
    element.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }, [x, y, node]);
  const found = effect?.(node.name, node.module);
  return (
    <div class="tip" ref={ref} role="presentation">
      <div class="tip-name">{visible(node.name.slice(0, 300)) || "(no name)"}</div>
      <div class="tip-facts">{describe(node, unit, whole)}{node.module !== "" && ` · ${visible(node.module.slice(0, 80))}`}</div>
      {found !== undefined && <div class="tip-facts">{points(found.delta)} points of the function in all{found.evidence === "found" ? "" : found.evidence === "none" ? ": not told from noise" : ": not tested against noise"}</div>}
      {node.folded > 0 && <div class="tip-facts">Too narrow to draw. A zoom shows them; Top has them all.</div>}
    </div>
  );
}
