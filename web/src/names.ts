// Go function names, split and shortened from the left so that the function stays readable.

/** NameParts are the three parts of a Go symbol name: path + pkg + func is the name. */
export interface NameParts {
  path: string; // "github.com/prometheus/prometheus/", may be empty
  pkg: string; // "tsdb.", may be empty
  func: string; // "(*Head).Append"
}

/** splitName splits a Go symbol name. Slashes and dots inside type arguments and receivers do not count. */
export function splitName(name: string): NameParts {
  let stop = name.length;
  for (const c of "([") {
    const i = name.indexOf(c);
    if (i >= 0 && i < stop) stop = i;
  }
  if (stop === 0) return { path: "", pkg: "", func: name }; // (other)
  const slash = name.lastIndexOf("/", stop - 1) + 1;
  const dot = name.indexOf(".", slash);
  if (dot < 0 || dot > stop) return { path: name.slice(0, slash), pkg: "", func: name.slice(slash) };
  return { path: name.slice(0, slash), pkg: name.slice(slash, dot + 1), func: name.slice(dot + 1) };
}

/**
 * fitName shortens name to at most n characters: first the package path goes, from the left, then the package, then the receiver, and at last the end of the function.
 * Returns the grey part (what is left of the path, with the ellipsis) and the rest. Below three characters nothing is readable and both are empty.
 */
export function fitName(name: string, n: number): [grey: string, rest: string] {
  if (n < 3) return ["", ""];
  const { path, pkg, func } = splitName(name);
  if (name.length <= n) return [path, pkg + func];
  const tail = pkg + func;
  if (tail.length + 4 <= n) return ["…" + path.slice(path.length - (n - tail.length - 1)), tail];
  if (tail.length <= n) return ["", tail];
  const short = func.endsWith("[...]") ? func.slice(0, -5) : func;
  if (short.length <= n) return ["", short];
  const bare = withoutReceiver(short);
  // Some of the receiver tells one ServeHTTP from the next; two or three letters of it tell nothing.
  if (bare.length + 5 <= n) return ["", "…" + short.slice(short.length - n + 1)];
  return ["", bare.length <= n ? bare : bare.slice(0, n - 1) + "…"];
}

/** withoutReceiver leaves the method of "(*Head).Append" and "Value.SetLen"; a closure keeps the function it is in. */
function withoutReceiver(func: string): string {
  const method = /^(?:\([^()]*\)|[\w\u0080-\uffff]+)\.(?!func\d|\d)(.+)$/.exec(func);
  return method ? method[1] : func;
}

/** matcher returns a predicate for a search text: part of the name in any case, or a regular expression between slashes. Null where there is nothing to search for. */
export function matcher(text: string): ((name: string) => boolean) | null {
  const s = text.trim();
  if (!s) return null;
  const re = /^\/(.+)\/(i?)$/.exec(s);
  if (re) {
    try {
      const compiled = new RegExp(re[1], re[2]);
      return (name) => compiled.test(name);
    } catch {
      return () => false;
    }
  }
  const lower = s.toLowerCase();
  return (name) => name.toLowerCase().includes(lower);
}
