// Colours of the drawings. A module has one of twelve hues, by the hash of its name, at one lightness a theme,
// so that no box shouts and every label has a contrast of at least 4.5:1 (tests/color.test.ts proves it).
// A difference is blue (less) or orange (more); grey says nothing was found.

export type Theme = "light" | "dark";

export interface Ink { fill: string; text: string }

export type Rgb = readonly [number, number, number];

/** OKLCH to sRGB, 0…255; what lies outside of sRGB is cut. */
export function oklch(lightness: number, chroma: number, hue: number): Rgb {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    gamma(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    gamma(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    gamma(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ];
}

function gamma(value: number): number {
  const v = Math.min(1, Math.max(0, value));
  return Math.round(255 * (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055));
}

export function css(rgb: Rgb): string {
  return `#${rgb.map((c) => c.toString(16).padStart(2, "0")).join("")}`;
}

/** WCAG contrast of two `#rrggbb` colours. */
export function contrast(a: string, b: string): number {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

function luminance(hex: string): number {
  const part = (at: number) => {
    const c = parseInt(hex.slice(at, at + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
}

const HUES = [65, 245, 145, 350, 185, 300, 95, 215, 25, 120, 325, 270];

const TEXT = { light: "#1b2230", dark: "#f0f3f7" } as const;

function box(theme: Theme, hue: number, chroma: number): Ink {
  const fill = theme === "light" ? oklch(0.875, chroma, hue) : oklch(0.41, chroma, hue);
  return { fill: css(fill), text: TEXT[theme] };
}

export const MODULE_INKS: Record<Theme, Ink[]> = {
  light: HUES.map((hue) => box("light", hue, 0.066)),
  dark: HUES.map((hue) => box("dark", hue, 0.066)),
};

/** The root, folded boxes and what is not told from noise are grey; the kernel is blue-grey. */
export const PLAIN: Record<Theme, Ink> = { light: box("light", 260, 0.008), dark: box("dark", 260, 0.012) };
export const KERNEL: Record<Theme, Ink> = { light: box("light", 255, 0.035), dark: box("dark", 255, 0.045) };
/** Functions without a module: interpreted code has none. */
export const UNBOUND: Record<Theme, Ink> = { light: box("light", 80, 0.03), dark: box("dark", 80, 0.028) };
export const HIT: Record<Theme, Ink> = {
  light: { fill: "#ffcf3f", text: "#1b2230" },
  dark: { fill: "#e9b824", text: "#14171c" },
};
export const DIM: Record<Theme, Ink> = {
  light: { fill: "#eceef1", text: "#59626f" },
  dark: { fill: "#282d35", text: "#a3adba" },
};

/** A stable number for a text (FNV-1a, 32 bits). */
export function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

export function is_kernel(module: string): boolean {
  return /^\[?(kernel|kernel\.kallsyms|guest\.kernel.*|vmlinux.*)\]?(_text)?$/.test(module) || module.endsWith(".ko") || module.endsWith(".ko.xz");
}

/**
 * Modules and their hues. The hue is by hash; where two that both matter would get the same one, the
 * later one takes the next that is free. Ask in order of weight.
 */
export class ModuleColors {
  private readonly slots = new Map<string, number>();
  private readonly taken = new Set<number>();

  constructor(modules: string[] = []) {
    for (const module of modules) if (module !== "" && !is_kernel(module)) this.slot(module);
  }

  slot(module: string): number {
    const known = this.slots.get(module);
    if (known !== undefined) return known;
    const wanted = hash32(module) % HUES.length;
    let slot = wanted;
    if (this.taken.size < HUES.length) while (this.taken.has(slot)) slot = (slot + 5) % HUES.length;
    this.taken.add(slot);
    this.slots.set(module, slot);
    return slot;
  }

  ink(module: string, theme: Theme): Ink {
    if (module === "") return UNBOUND[theme];
    if (is_kernel(module)) return KERNEL[theme];
    return MODULE_INKS[theme][this.slot(module)] ?? PLAIN[theme];
  }

  /** Class of a swatch in the style sheet. */
  swatch(module: string): string {
    if (module === "") return "swatch unbound";
    return is_kernel(module) ? "swatch kernel" : `swatch hue${this.slot(module)}`;
  }
}

export const DIFF_STEPS = 5;
const scale = (theme: Theme, hue: number, chroma: number) =>
  Array.from({ length: DIFF_STEPS }, (_, i) => {
    const part = (i + 1) / DIFF_STEPS;
    const lightness = theme === "light" ? 0.94 - 0.17 * part : 0.36 + 0.13 * part;
    return { fill: css(oklch(lightness, chroma * part, hue)), text: TEXT[theme] };
  });

export const MORE: Record<Theme, Ink[]> = { light: scale("light", 58, 0.135), dark: scale("dark", 52, 0.11) };
export const LESS: Record<Theme, Ink[]> = { light: scale("light", 248, 0.12), dark: scale("dark", 252, 0.12) };

/** What is known of a change: more than noise, not told from noise, or only its size, since nothing was tested. */
export type Evidence = "found" | "none" | "untested";

/** Below this share an effect that was not tested stays grey. */
const LEAST_UNTESTED = 0.002;

/** Ink of a difference: `delta` in shares (0.05 = five points), grey where nothing was found, pale where not tested. */
export function diff_ink(delta: number, evidence: Evidence, theme: Theme): Ink {
  if (evidence === "none" || delta === 0 || (evidence === "untested" && Math.abs(delta) < LEAST_UNTESTED)) return PLAIN[theme];
  const size = Math.min(1, Math.abs(delta) / 0.1);
  const most = evidence === "untested" ? 1 : DIFF_STEPS - 1;
  const step = Math.min(most, Math.floor(Math.sqrt(size) * DIFF_STEPS));
  return (delta > 0 ? MORE : LESS)[theme][step] ?? PLAIN[theme];
}

/** Heat of a row of the timeline, 0…1. Zero is the ground itself. */
export function heat(value: number, theme: Theme): string {
  const part = Math.sqrt(Math.min(1, Math.max(0, value)));
  return theme === "light"
    ? css(oklch(0.965 - 0.445 * part, 0.02 + 0.12 * part, 255))
    : css(oklch(0.235 + 0.5 * part, 0.015 + 0.1 * part, 250));
}
