// The drawing of a tree: an icicle (root on top), or upside down for callers. The canvas is as high as the view
// and no higher; the browser scrolls a spacer. Boxes too small to see are merged, folded ones hatched. What was
// drawn is counted in the canvas's data attributes, so that a test needs no pixels.

import { DIM, HIT, PLAIN, diff_ink, type Evidence, type Ink, type ModuleColors, type Theme } from "./color";
import { reduced_motion } from "./hooks";
import type { Layout } from "./layout";
import { fit, short_name } from "./names";

export const ROW = 20;
const TEXT_LEAST_PX = 26;
const ANIMATION_MS = 140;
const FONT = "12px system-ui, -apple-system, \"Segoe UI\", Roboto, \"Noto Sans\", \"Liberation Sans\", sans-serif";

/** Change of a share, and what is known of it. */
export interface Effect { delta: number; evidence: Evidence }

export interface Look {
  theme: Theme;
  colors: ModuleColors;
  up: boolean;
  /** Boxes that a search found. */
  matches: ((name: string) => boolean) | undefined;
  /** The module whose boxes are kept in colour. */
  module: string | undefined;
  /** Share of a function's change, and whether it is more than noise; undefined outside of comparisons. */
  change: ((node: number) => Effect) | undefined;
}

interface Camera { x0: number; x1: number; row: number }

export class FlameCanvas {
  private layout: Layout | undefined;
  private look: Look | undefined;
  private camera: Camera = { x0: 0, x1: 1, row: 0 };
  private selected = -1;
  private hovered = -1;
  private frame = 0;
  private readonly measured = new Map<string, number>();
  private readonly context: CanvasRenderingContext2D;
  private hatch: { theme: Theme; pattern: CanvasPattern | null } | undefined;
  private hits: Uint8Array | undefined;
  private labels: string[] = [];
  private width = 0;
  private height = 0;

  constructor(readonly canvas: HTMLCanvasElement, readonly scroller: HTMLElement, private readonly spacer: HTMLElement) {
    const context = canvas.getContext("2d", { alpha: false });
    if (context === null) throw new Error("this browser has no canvas");
    this.context = context;
    scroller.addEventListener("scroll", () => this.request());
  }

  show(layout: Layout, look: Look): void {
    const fresh = layout !== this.layout;
    const matches = this.look?.matches;
    this.look = look;
    if (fresh) {
      const hash = this.selected >= 0 ? this.layout?.hash_of(this.selected) : undefined;
      this.layout = layout;
      this.labels = [];
      this.selected = hash === undefined ? -1 : layout.find(hash);
      this.hovered = -1;
      this.camera = { x0: 0, x1: layout.width, row: 0 };
    }
    if (fresh || matches !== look.matches) this.find_hits();
    this.resize();
    if (fresh) this.scroller.scrollTop = look.up ? this.scroller.scrollHeight : 0;
  }

  private find_hits(): void {
    const { layout, look } = this;
    this.hits = undefined;
    if (layout === undefined || look?.matches === undefined) return;
    const by_name = layout.tree.names.map((name) => (look.matches?.(name) === true ? 1 : 0));
    this.hits = Uint8Array.from(layout.name, (ix) => by_name[ix] ?? 0);
  }

  /** Nodes of the drawn tree that a search found, in drawing order. */
  hit_nodes(): number[] {
    const found: number[] = [];
    this.hits?.forEach((hit, node) => hit === 1 && found.push(node));
    return found;
  }

  resize(): void {
    const ratio = Math.min(3, window.devicePixelRatio || 1);
    this.width = this.scroller.clientWidth;
    this.height = this.scroller.clientHeight;
    const rows = this.layout?.rows.length ?? 0;
    this.spacer.style.height = `${Math.max(0, rows * ROW + 8)}px`;
    const [w, h] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
      this.canvas.style.width = `${this.width}px`;
      this.canvas.style.height = `${this.height}px`;
    }
    this.request();
  }

  request(): void {
    if (this.frame !== 0) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  stop(): void {
    cancelAnimationFrame(this.frame);
    this.frame = -1;
  }

  private get scale(): number {
    return this.width / Math.max(1e-9, this.camera.x1 - this.camera.x0);
  }

  private y_of(depth: number): number {
    const row = depth - this.camera.row;
    if (this.look?.up !== true) return row * ROW - this.scroller.scrollTop;
    const height = Math.max(this.height, (this.layout?.rows.length ?? 0) * ROW);
    return height - (row + 1) * ROW - this.scroller.scrollTop;
  }

  /** The node under a point of the canvas, or -1. */
  at(x: number, y: number): number {
    if (this.layout === undefined) return -1;
    const first = this.y_of(0);
    const depth = this.look?.up === true ? Math.floor((first + ROW - y - 1e-6) / ROW) : Math.floor((y - first) / ROW);
    return depth < 0 ? -1 : this.layout.at(depth, this.camera.x0 + x / this.scale);
  }

  hover(node: number): void {
    if (node === this.hovered) return;
    this.hovered = node;
    this.request();
  }

  get selection(): number {
    return this.selected;
  }

  select(node: number): void {
    this.selected = node;
    if (node >= 0) this.reveal(node);
    this.request();
  }

  private reveal(node: number): void {
    const { layout } = this;
    if (layout === undefined) return;
    const y = this.y_of(layout.depth[node] ?? 0);
    if (y < 0) this.scroller.scrollTop += y - ROW;
    else if (y + ROW > this.height) this.scroller.scrollTop += y + 2 * ROW - this.height;
    const start = layout.start[node] as number;
    const end = start + (layout.total[node] as number);
    const { x0, x1 } = this.camera;
    if (end <= x0 || start >= x1) this.move({ ...this.camera, x0: start, x1: start + (x1 - x0) });
  }

  /** The drawn node with this hash, or -1. */
  find(hash: string): number {
    return this.layout?.find(hash) ?? -1;
  }

  /** Makes a node as wide as the view: at once where motion is not wanted. */
  zoom(node: number): void {
    const { layout } = this;
    if (layout === undefined || node < 0) return;
    const x0 = layout.start[node] as number;
    const to = { x0, x1: x0 + (layout.total[node] as number), row: this.look?.up === true ? 0 : (layout.depth[node] as number) };
    this.scroller.scrollTop = this.look?.up === true ? this.scroller.scrollTop : 0;
    this.glide(to);
  }

  reset(): void {
    this.glide({ x0: 0, x1: this.layout?.width ?? 1, row: 0 });
  }

  get zoomed(): boolean {
    return this.layout !== undefined && this.camera.x1 - this.camera.x0 < this.layout.width * 0.9999;
  }

  /** Zooms around a point of the view, for the wheel. */
  zoom_by(factor: number, x: number): void {
    const { x0, x1, row } = this.camera;
    const at = x0 + x / this.scale;
    this.move({ x0: at - (at - x0) * factor, x1: at + (x1 - at) * factor, row });
  }

  pan_by(pixels: number): void {
    const shift = pixels / this.scale;
    this.move({ ...this.camera, x0: this.camera.x0 + shift, x1: this.camera.x1 + shift });
  }

  private move(to: Camera): void {
    const width = this.layout?.width ?? 1;
    const size = Math.min(width, Math.max(width * 1e-6, to.x1 - to.x0));
    const x0 = Math.min(width - size, Math.max(0, to.x0));
    this.camera = { x0, x1: x0 + size, row: to.row };
    this.request();
  }

  private glide(to: Camera): void {
    if (reduced_motion()) {
      this.camera = to;
      this.request();
      return;
    }
    const from = { ...this.camera };
    const { layout } = this;
    const began = performance.now();
    const step = () => {
      if (this.layout !== layout || this.frame === -1) return;
      const part = Math.min(1, (performance.now() - began) / ANIMATION_MS);
      const ease = 1 - (1 - part) ** 3;
      const mix = (a: number, b: number) => a + (b - a) * ease;
      this.camera = part === 1 ? to : { x0: mix(from.x0, to.x0), x1: mix(from.x1, to.x1), row: mix(from.row, to.row) };
      this.request();
      if (part < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  private measure = (text: string): number => {
    let width = this.measured.get(text);
    if (width === undefined) {
      if (this.measured.size > 20_000) this.measured.clear();
      width = this.context.measureText(text).width;
      this.measured.set(text, width);
    }
    return width;
  };

  private draw(): void {
    const { context: c, layout, look, width, height } = this;
    if (layout === undefined || look === undefined || width === 0) return;
    const ratio = this.canvas.width / width;
    const style = getComputedStyle(this.canvas);
    const ground = style.getPropertyValue("--ground").trim();
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = ground;
    c.fillRect(0, 0, width, height);
    c.font = FONT;
    c.textBaseline = "middle";
    const names = this.labels;
    const drawn = { boxes: 0, labels: 0, slivers: 0, merged: 0, hits: 0, folded: 0 };
    const { x0, x1 } = this.camera;
    const scale = this.scale;
    for (let depth = 0; depth < layout.rows.length; depth++) {
      const y = this.y_of(depth);
      if (y + ROW <= 0 || y >= height) continue;
      layout.visible(depth, x0, x1, scale, (node) => {
        const left = Math.max(-4, ((layout.start[node] as number) - x0) * scale);
        const right = Math.min(width + 4, ((layout.start[node] as number) + (layout.total[node] as number) - x0) * scale);
        const hit = this.hits?.[node] === 1;
        const ink = this.ink(node, hit, look);
        const gap = right - left > 2.5 ? 1 : 0;
        c.fillStyle = ink.fill;
        c.fillRect(left, y, right - left - gap, ROW - 1);
        drawn.boxes++;
        if (hit) drawn.hits++;
        if ((layout.folded[node] as number) > 0) {
          drawn.folded++;
          c.fillStyle = this.hatching(look.theme) ?? ink.fill;
          c.fillRect(left, y, right - left - gap, ROW - 1);
        }
        const from = Math.max(0, left) + 4;
        const room = Math.min(width, right) - from - 4;
        if (room < TEXT_LEAST_PX - 8) return;
        const ix = layout.name[node] as number;
        const short = names[ix] || (names[ix] = (layout.folded[node] as number) > 0 ? layout.name_of(node) : short_name(layout.name_of(node)));
        const label = fit(short, room, this.measure);
        if (label === "") return;
        c.fillStyle = ink.text;
        c.fillText(label, from, y + ROW / 2);
        drawn.labels++;
      }, (from, to, nodes) => {
        const left = (from - x0) * scale;
        c.fillStyle = PLAIN[look.theme].fill;
        c.fillRect(left, y, Math.max(0.5, (to - from) * scale), ROW - 1);
        drawn.slivers++;
        drawn.merged += nodes;
      });
    }
    this.outline(this.hovered, style.getPropertyValue("--text").trim(), 1);
    this.outline(this.selected, style.getPropertyValue("--accent").trim(), 2);
    const data = this.canvas.dataset;
    data.nodes = String(layout.count);
    data.rows = String(layout.rows.length);
    for (const [key, value] of Object.entries(drawn)) data[key] = String(value);
    data.camera = `${x0.toPrecision(6)} ${x1.toPrecision(6)}`;
    data.selected = this.selected >= 0 ? layout.name_of(this.selected).slice(0, 200) : "";
    data.theme = look.theme;
  }

  private ink(node: number, hit: boolean, look: Look): Ink {
    const { layout } = this;
    if (layout === undefined) return PLAIN[look.theme];
    if (this.hits !== undefined) {
      if (hit) return HIT[look.theme];
      if (look.change === undefined) return DIM[look.theme];
    }
    if ((layout.folded[node] as number) > 0) return PLAIN[look.theme];
    if (look.change !== undefined) {
      const { delta, evidence } = look.change(node);
      return diff_ink(delta, evidence, look.theme);
    }
    const module = layout.module_of(node);
    if (look.module !== undefined && module !== look.module) return DIM[look.theme];
    if (layout.depth[node] === 0 && module === "") return PLAIN[look.theme];
    return look.colors.ink(module, look.theme);
  }

  private hatching(theme: Theme): CanvasPattern | null {
    if (this.hatch?.theme === theme) return this.hatch.pattern;
    const tile = document.createElement("canvas");
    tile.width = tile.height = 6;
    const t = tile.getContext("2d");
    if (t !== null) {
      t.strokeStyle = theme === "light" ? "rgba(27,34,48,.13)" : "rgba(240,243,247,.13)";
      t.lineWidth = 1;
      t.beginPath();
      for (const shift of [-3, 3, 9]) {
        t.moveTo(shift - 1, 7);
        t.lineTo(shift + 7, -1);
      }
      t.stroke();
    }
    const pattern = this.context.createPattern(tile, "repeat");
    this.hatch = { theme, pattern };
    return pattern;
  }

  private outline(node: number, color: string, thickness: number): void {
    const { layout, context: c } = this;
    if (layout === undefined || node < 0) return;
    const left = ((layout.start[node] as number) - this.camera.x0) * this.scale;
    const width = Math.max(2, (layout.total[node] as number) * this.scale - 1);
    const inset = thickness / 2;
    const from = Math.max(-8, left);
    const to = Math.min(this.width + 8, left + width);
    if (to < from) return;
    c.strokeStyle = color;
    c.lineWidth = thickness;
    c.strokeRect(from + inset, this.y_of(layout.depth[node] ?? 0) + inset, Math.max(1, to - from - thickness), ROW - 1 - thickness);
  }
}
