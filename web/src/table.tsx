import { computed } from "@preact/signals";
import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { scaledText, deltaText } from "./display";
import { rowsOf, sortLines, type Line, type Row } from "./flame/rows";
import { shown, zoomNode } from "./flame/panel";
import { formatChange, formatChance, formatShare, formatValue, type TypeInfo } from "./format";
import { fitName, matcher } from "./names";
import { ErrorNote } from "./notices";
import { flame, go, ranking, scale, top, view } from "./state";
import { formatDuration } from "./time";
import { isDiff, type SortKey } from "./url";

// The whole range's functions come from the server, exactly; those of a zoomed part from the flame graph.
const part = computed(() => zoomNode.value > 0 || view.value.only !== "");
const rows = computed<Row[]>(() => (part.value ? (shown.value ? rowsOf(shown.value, zoomNode.value) : []) : (top.value.data?.rows ?? [])));
const focusRows = computed<Row[]>(() => {
  // In focus the root is a function too.
  const m = shown.value;
  if (!m || !view.value.only || zoomNode.value !== 0) return rows.value;
  const root: Row = { function: m.names[m.name[0]], file: m.files[m.name[0]], kind: m.kinds[m.name[0]], self: m.self[0], total: m.value[0] };
  if (m.base) Object.assign(root, { base_self: m.baseSelf![0], base_total: m.base[0] });
  return [root, ...rows.value.filter((r) => r.function !== root.function)];
});

const sortKey = computed<SortKey>(() => {
  const { sort } = view.value;
  const diff = isDiff(view.value);
  if (!sort || (!diff && (sort === "base" || sort === "delta" || sort === "sure")) || (diff && sort === "self")) return diff ? "delta" : "self";
  return sort;
});

/** sure says whether functions are shown by the certainty of their change. */
const sure = computed(() => sortKey.value === "sure");

const lines = computed<Line[]>(() => {
  const { now, base } = scale.value;
  const match = matcher(view.value.q);
  if (sure.value) {
    const ranked = ranking.value.data?.rows ?? [];
    return sortLines(ranked.filter((r) => !match || match(r.function)).map((r) => ({ ...r, self: 0, total: r.now, delta: r.now - r.base, p: r.log10_p })), "sure", view.value.asc);
  }
  const kept = match ? focusRows.value.filter((r) => match(r.function)) : focusRows.value;
  const all = kept.map((r) => {
    const a = r.total * now, b = (r.base_total ?? 0) * base;
    return { ...r, now: a, base: b, delta: a - b };
  });
  return sortLines(all, sortKey.value, view.value.asc);
});

interface Column {
  key: SortKey;
  title: string;
  hint: string;
  cell: (l: Line, t: TypeInfo, whole: number) => string;
  share?: (l: Line, whole: number) => string;
}

const plainColumns: Column[] = [
  { key: "self", title: "self", hint: "in the function's own code", cell: (l, t) => formatValue(l.self, t.unit), share: (l, w) => formatShare(l.self, w) },
  { key: "total", title: "total", hint: "with all that it calls", cell: (l, t) => formatValue(l.total, t.unit), share: (l, w) => formatShare(l.total, w) },
];
const diffColumns: Column[] = [
  { key: "base", title: "base", hint: "total in the baseline", cell: (l, t) => scaledText(l.base, t) },
  { key: "total", title: "now", hint: "total in the range", cell: (l, t) => scaledText(l.now, t) },
  { key: "delta", title: "delta", hint: "now less base; sorted by size whatever the sign", cell: (l, t) => deltaText(l.delta, t), share: (l) => formatChange(l.now, l.base) },
];

const sureColumns: Column[] = [
  { ...diffColumns[0], hint: "mean of the windows of the baseline" },
  { ...diffColumns[1], hint: "mean of the windows of the range", share: (l) => formatChange(l.now, l.base) },
  { key: "sure", title: "chance", hint: "chance that a function that did not change stands here, by Welch's test of the windows, corrected for how many functions there are", cell: (l) => formatChance(l.q!, l.p!) },
];

const rowH = 22;
const narrow = 460; // below this there is no room for the shares

/** useSeen follows what part of a scrolling box is seen. */
function useSeen(scroller: RefObject<HTMLDivElement | null>): { top: number; height: number; width: number } {
  const [seen, setSeen] = useState({ top: 0, height: 600, width: 480 });
  useEffect(() => {
    const el = scroller.current!;
    const look = () => setSeen({ top: el.scrollTop, height: el.clientHeight, width: el.clientWidth });
    const watch = new ResizeObserver(look);
    watch.observe(el);
    el.addEventListener("scroll", look, { passive: true });
    return () => {
      watch.disconnect();
      el.removeEventListener("scroll", look);
    };
  }, []);
  return seen;
}

/** TablePanel is the functions as a table, only the rows that are seen in the page. */
export function TablePanel() {
  const v = view.value;
  const { error, loading } = sure.value ? ranking.value : top.value;
  const type = (top.value.data ?? flame.value.data)?.type;
  const scroller = useRef<HTMLDivElement>(null);
  const seen = useSeen(scroller);
  const [active, setActive] = useState(-1);
  const list = lines.value;
  const columns = sure.value ? sureColumns : isDiff(v) ? diffColumns : plainColumns;
  const whole = part.value ? (shown.value?.value[zoomNode.value] ?? 0) : (top.value.data?.total ?? 0);
  const lo = Math.max(0, Math.floor(seen.top / rowH) - 8);
  const hi = Math.min(list.length, Math.ceil((seen.top + seen.height) / rowH) + 8);
  const numbers = isDiff(v) ? (seen.width < narrow ? 300 : 360) : seen.width < narrow ? 168 : 264; // as page.css has them
  const chars = Math.floor((seen.width - numbers - 32) / 7.23);
  const move = (to: number) => {
    const i = Math.max(0, Math.min(list.length - 1, to));
    setActive(i);
    const el = scroller.current!;
    const y = i * rowH, room = el.clientHeight - rowH - 2;
    if (y < el.scrollTop) el.scrollTop = y;
    else if (y > el.scrollTop + room - rowH) el.scrollTop = y - room + rowH;
  };
  const onKeyDown = (e: KeyboardEvent) => {
    if ((e.target as HTMLElement).tagName === "BUTTON") return;
    const page = Math.max(1, Math.floor(seen.height / rowH) - 2);
    const to: Record<string, number> = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: list.length - 1 };
    if (e.key in to) move(to[e.key]);
    else if (e.key === "Enter" && list[active]) pick(list[active]);
    else if (e.key === "f" && list[active]) go({ only: list[active].function, zoom: "" });
    else if (e.key === "Escape" && v.fn) go({ fn: "" }, true);
    else return;
    e.preventDefault();
  };
  return (
    <section class="table-panel" aria-label="Functions" aria-busy={loading}>
      <div class="tools">
        <h2>functions</h2>
        <span class="note num">{count(list.length)}{part.value && !sure.value ? " in the part shown" : ""}</span>
        <span class="spring" />
        {isDiff(v) && (
          <span class="group" role="group" aria-label="Order">
            <button aria-pressed={!sure.value} onClick={() => go({ sort: "", asc: false }, true)} title="The largest change first">by change</button>
            <button aria-pressed={sure.value} onClick={() => go({ sort: "sure", asc: false }, true)} title="The most certain change first: a test of the values in the windows of both ranges">by certainty</button>
          </span>
        )}
      </div>
      {sure.value && <p class="windows note">{windowsText()}</p>}
      {error && <ErrorNote message={error.message} hint={error.hint} />}
      <div
        class={`table-scroll ${loading ? "stale" : ""}`} ref={scroller} tabIndex={0} onKeyDown={onKeyDown} role="group" aria-label="Functions, arrow keys move, Enter highlights, f shows only that function"
        aria-activedescendant={active >= lo && active < hi ? `row-${active}` : undefined}
      >
        <table class="functions" aria-rowcount={list.length + 1}>
          <colgroup><col />{columns.map((c) => <><col class={isDiff(v) ? "wide" : "value"} />{c.share && <col class="share" />}</>)}</colgroup>
          <thead><tr><Head k="name" title="function" hint="by name" />{columns.map((c) => <Head key={c.key} k={c.key} title={c.title} hint={c.hint} wide={c.share !== undefined} />)}</tr></thead>
          <tbody>
            {lo > 0 && <tr class="space" aria-hidden="true"><td ref={(el) => void (el && (el.style.height = `${lo * rowH}px`))} /></tr>}
            {type && list.slice(lo, hi).map((l, k) => <OneRow key={l.function + "\0" + l.file} l={l} i={lo + k} active={lo + k === active} chars={chars} columns={columns} type={type} whole={whole} />)}
            {hi < list.length && <tr class="space" aria-hidden="true"><td ref={(el) => void (el && (el.style.height = `${(list.length - hi) * rowH}px`))} /></tr>}
          </tbody>
        </table>
        {!loading && list.length === 0 && !error && <div class="nothing"><p>{v.q ? `No function matches ${v.q}.` : "No functions."}</p>{v.q && <button onClick={() => go({ q: "" }, true)}>clear the search</button>}</div>}
      </div>
    </section>
  );
}

/** windowsText says what the certainty rests on. */
function windowsText(): string {
  const r = ranking.value.data;
  if (!r) return " ";
  const what = `${r.windows} windows of ${formatDuration(r.window)} against ${r.base_windows}${r.per ? `, ${r.per}` : ""}`;
  return r.note ? `${what}. ${r.note}.` : what;
}

function count(n: number): string {
  if (sure.value) return n.toLocaleString("en");
  const t = top.value.data;
  const cut = !part.value && t && t.functions > t.rows.length ? ` of the ${t.rows.length.toLocaleString("en")} largest of ${t.functions.toLocaleString("en")}` : "";
  return n.toLocaleString("en") + cut;
}

function pick(l: Line): void {
  go({ fn: view.value.fn === l.function ? "" : l.function }, true);
}

function Head(p: { k: SortKey; title: string; hint: string; wide?: boolean }) {
  const on = sortKey.value === p.k;
  const asc = view.value.asc;
  return (
    <th scope="col" class={p.k === "name" ? "name" : "n"} colSpan={p.wide ? 2 : 1} aria-sort={on ? (asc ? "ascending" : "descending") : "none"}>
      <button title={`Sort by ${p.title}: ${p.hint}`} onClick={() => go({ sort: p.k, asc: on ? !asc : p.k === "name" }, true)}>
        {p.title}<span class="arrow" aria-hidden="true">{on ? (asc ? "▲" : "▼") : " "}</span>
      </button>
    </th>
  );
}

function OneRow(p: { l: Line; i: number; active: boolean; chars: number; columns: Column[]; type: TypeInfo; whole: number }) {
  const { l } = p;
  const [grey, rest] = fitName(l.function, p.chars);
  const picked = view.value.fn === l.function;
  return (
    <tr id={`row-${p.i}`} class={`${picked ? "picked" : ""} ${p.active ? "active" : ""}`} aria-rowindex={p.i + 2} aria-selected={picked} onClick={() => pick(l)}>
      <td class="name mono" title={`${l.function}\n${l.file}`}>
        <i class={`swatch k-${l.kind || "other"}`} /><span class="path">{grey}</span>{rest}
        <button class="only" tabIndex={-1} title={`Only ${l.function}`} onClick={(e) => (e.stopPropagation(), go({ only: l.function, zoom: "" }))}>only</button>
      </td>
      {p.columns.map((c) => (
        <>
          <td class={`n mono ${c.key === "delta" ? sign(l.delta) : ""}`}>{c.cell(l, p.type, p.whole)}</td>
          {c.share && <td class="n mono share">{c.share(l, p.whole)}</td>}
        </>
      ))}
    </tr>
  );
}

const sign = (d: number) => (d > 0 ? "up" : d < 0 ? "down" : "");
