// Label selectors, `{service_name="web",env=~"prod.*"}`: read into matchers for the picker, written back.

export type Operator = "=" | "!=" | "=~" | "!~";

export interface Matcher {
  name: string;
  operator: Operator;
  value: string;
}

const MATCHER = /\s*([A-Za-z_][A-Za-z0-9_.:-]*|"(?:[^"\\]|\\.)*")\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(,|$)/y;

/** The matchers of a selector, or what is wrong with it. */
export function parse_selector(text: string): Matcher[] | string {
  const body = text.trim();
  if (body === "" || body === "{}") return [];
  if (!body.startsWith("{") || !body.endsWith("}")) return "a selector stands in braces: {service_name=\"web\"}";
  const inner = body.slice(1, -1).trim();
  const found: Matcher[] = [];
  MATCHER.lastIndex = 0;
  while (MATCHER.lastIndex < inner.length) {
    const at = MATCHER.lastIndex;
    const match = MATCHER.exec(inner);
    if (match === null) return `not a matcher: ${inner.slice(at, at + 40)}`;
    found.push({ name: unquote(match[1] ?? ""), operator: match[2] as Operator, value: unescape_value(match[3] ?? "") });
    if (match[4] === "") break;
  }
  return found;
}

function unquote(name: string): string {
  return name.startsWith("\"") ? unescape_value(name.slice(1, -1)) : name;
}

function unescape_value(text: string): string {
  return text.replace(/\\(.)/g, (_, c: string) => (c === "n" ? "\n" : c === "t" ? "\t" : c));
}

export function write_selector(matchers: Matcher[]): string {
  if (matchers.length === 0) return "";
  return `{${matchers.map(write_matcher).join(",")}}`;
}

export function write_matcher(m: Matcher): string {
  const name = /^[A-Za-z_][A-Za-z0-9_.]*$/.test(m.name) ? m.name : JSON.stringify(m.name);
  const value = m.value.replace(/[\\"]/g, "\\$&").replace(/\n/g, "\\n").replace(/\t/g, "\\t");
  return `${name}${m.operator}"${value}"`;
}

/** The selector with one more matcher; an equal one is not added twice. */
export function with_matcher(text: string, matcher: Matcher): string {
  const matchers = parse_selector(text);
  if (typeof matchers === "string") return write_selector([matcher]);
  const rest = matchers.filter((m) => !(m.name === matcher.name && m.operator === matcher.operator && m.operator === "="));
  if (rest.some((m) => write_matcher(m) === write_matcher(matcher))) return write_selector(rest);
  return write_selector([...rest, matcher]);
}
