// Selectors as Prometheus writes them, as far as the service picker must read and change them. The server is the judge of the rest.

export interface Matcher {
  name: string;
  op: "=" | "!=" | "=~" | "!~";
  value: string;
}

const one = /^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(,|$)/;

/** parseSelector reads {a="b",c=~"d"} or a bare service name. Null where it is neither. */
export function parseSelector(text: string): Matcher[] | null {
  const s = text.trim();
  if (s === "") return [];
  if (!s.startsWith("{")) {
    return /^[^{}"=,\s]+$/.test(s) ? [{ name: "service_name", op: "=", value: s }] : null;
  }
  if (!s.endsWith("}")) return null;
  let rest = s.slice(1, -1).trim();
  const out: Matcher[] = [];
  while (rest !== "") {
    const m = one.exec(rest);
    if (!m) return null;
    out.push({ name: m[1], op: m[2] as Matcher["op"], value: unquote(m[3]) });
    rest = rest.slice(m[0].length).trim();
  }
  return out;
}

function unquote(s: string): string {
  return s.replace(/\\(.)/g, (_, c: string) => (c === "n" ? "\n" : c === "t" ? "\t" : c));
}

/** quote writes a value as selectors want it. */
export function quote(s: string): string {
  return `"${s.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n").replace(/\t/g, "\\t")}"`;
}

/** formatSelector writes matchers; none is the empty string. */
export function formatSelector(ms: Matcher[]): string {
  return ms.length ? `{${ms.map((m) => m.name + m.op + quote(m.value)).join(",")}}` : "";
}

/** serviceOf returns the one service that the selector names, "" where it names none or several. */
export function serviceOf(text: string): string {
  const ms = parseSelector(text)?.filter((m) => m.name === "service_name") ?? [];
  return ms.length === 1 && ms[0].op === "=" ? ms[0].value : "";
}

/** withService returns the selector with its service replaced; the other matchers stay. */
export function withService(text: string, service: string): string {
  return withLabel(text, "service_name", service);
}

/** withLabel returns the selector with the matchers of one label replaced by name="value", or taken away where value is empty. */
export function withLabel(text: string, name: string, value: string): string {
  const rest = (parseSelector(text) ?? []).filter((m) => m.name !== name);
  const first: Matcher[] = value ? [{ name, op: "=", value }] : [];
  return formatSelector(name === "service_name" ? [...first, ...rest] : [...rest, ...first]);
}
