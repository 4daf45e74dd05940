// Names of functions, short enough to read. A box shows the last two components of a name, shortened
// from the middle where that is too long; the full name stands in the details bar. Names come from the
// profiled programs, so they are hostile: any length, any characters. Nothing here is exponential.

const OPEN: Record<string, string> = { "<": ">", "(": ")", "[": "]", "{": "}" };
const LONGEST = 4096;

/** Splits a name at `::`, `.` and `/` outside of brackets. */
export function components(name: string): string[] {
  const parts: string[] = [];
  const closers: string[] = [];
  let from = 0;
  for (let i = 0; i < name.length; i++) {
    const c = name[i] as string;
    if (Object.hasOwn(OPEN, c) && !(c === "<" && name.startsWith("operator", i - 8))) {
      closers.push(OPEN[c] as string);
    } else if (closers.length > 0 && c === closers[closers.length - 1] && name[i - 1] !== "-") {
      closers.pop();
    } else if (closers.length === 0) {
      const size = c === ":" && name[i + 1] === ":" ? 2 : c === "." || c === "/" ? 1 : 0;
      if (size > 0) {
        if (i > from) parts.push(name.slice(from, i));
        i += size - 1;
        from = i + 1;
      }
    }
  }
  if (from < name.length) parts.push(name.slice(from));
  return parts.length > 0 ? parts : [name];
}

/** Characters that would change what is beside them, or draw nothing, as visible ones. */
export function visible(name: string): string {
  return name.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, "\u00b7");
}

/** `<A as Trait>::f` is told by its type: `A::f`. */
function self_type(part: string): string {
  if (!part.startsWith("<")) return part;
  const as = part.indexOf(" as ");
  if (as < 0 && !part.includes("::")) return part;
  const inner = part.slice(1, as > 0 ? as : part.endsWith(">") ? -1 : undefined);
  const parts = components(inner.replace(/^&(mut )?/, ""));
  return parts[parts.length - 1] ?? part;
}

/** Without C++ arguments, and without template and generic arguments that are long. */
function without_arguments(part: string): string {
  const paren = part.indexOf("(");
  if (paren > 0 && !part.startsWith("operator")) part = part.slice(0, paren);
  if (part.length <= 24) return part;
  const angle = part.indexOf("<");
  return angle > 0 && part.endsWith(">") && !part.startsWith("operator") ? part.slice(0, angle) + "<…>" : part;
}

const IGNORED = new Set(["<locals>", "{closure}", "{{closure}}", "{impl}", "(anonymous namespace)"]);

/** The last two components, as a box shows them. */
export function short_name(full: string): string {
  const name = visible(full.slice(0, LONGEST));
  // A file or an address keeps its form.
  if (/\+0x[0-9a-f]+$/.test(name) || /^(0x[0-9a-f]+|\(.*\)|\[.*\])$/i.test(name)) return name;
  const space = name.search(/ \/|\s\(|\s\[/);
  const core = space > 0 ? name.slice(0, space) : name;
  const separator = core.includes("::") ? "::" : ".";
  let closure = "";
  const parts = components(core);
  while (parts.length > 1 && IGNORED.has(parts[parts.length - 1] as string)) {
    const last = parts.pop() as string;
    if (last.includes("closure")) closure = separator + "{closure}";
  }
  const kept = parts.filter((p) => !IGNORED.has(p)).slice(-2).map((p) => without_arguments(self_type(p)));
  return (kept.join(separator) || name) + closure;
}

/** The last component alone. */
export function last_component(short: string): string {
  const parts = components(short);
  return parts[parts.length - 1] ?? short;
}

/** At most `most` characters of `text`, both ends kept. */
export function shorten_middle(text: string, most: number): string {
  const characters = Array.from(text);
  if (characters.length <= most) return text;
  if (most < 3) return "";
  const tail = Math.floor((most - 1) / 2);
  const head = most - 1 - tail;
  return characters.slice(0, head).join("") + "…" + characters.slice(characters.length - tail).join("");
}

const LEAST_CHARACTERS = 5;

/** What of a name fits `width`, as `measure` measures; nothing when not even five characters do. */
export function fit(short: string, width: number, measure: (text: string) => number): string {
  const needed = measure(short);
  if (needed <= width) return short;
  const last = /\+0x[0-9a-f]+$/.test(short) ? short : last_component(short);
  if (last !== short && measure(last) <= width && last.length > 2) return last;
  const source = (last.length > 2 ? last : short).replace("<…>", "");
  if (measure(source) <= width) return source;
  const average = measure(source) / Math.max(1, source.length);
  let most = Math.floor(width / average);
  for (; most >= LEAST_CHARACTERS; most--) {
    const text = shorten_middle(source, most);
    if (measure(text) <= width) return text;
  }
  return "";
}
