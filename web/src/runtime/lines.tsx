import { computed } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { get, type Params } from "../api";
import { Command } from "../command";
import { Problem } from "../fleet/problem";
import { several } from "../fleet/words";
import { fetching, loaded } from "../loading";
import { clock } from "../time";
import { pageIn, pageOf, turns } from "./paging";
import { go, range, service, view } from "./state";

interface RawLine {
  time: number;
  service: string;
  instance: string;
  source: string;
  text: string;
}

interface Answer {
  lines: RawLine[];
  more: boolean;
  next?: number; // where the next page begins, or of the newest, ends
}

interface Page extends Answer {
  page: string; // as the address has it
}

const lines = loaded<Page>();
const limit = 2000;

const wanted = computed(() => {
  const { tab, instance, grep } = view.value, r = range.value;
  if (tab !== "lines" || !r) return "";
  const page = pageIn(view.value.page, r);
  return JSON.stringify({ page, asked: { service: service.value, instance, grep, ...r, ...pageOf(page), limit } });
});

/** startLines keeps the lines loaded while their tab is shown. */
export function startLines(): void {
  fetching(lines, () => (wanted.value ? { wanted: wanted.value } : null), async (p, stop) => {
    const { page, asked } = JSON.parse(String(p.wanted)) as { page: string; asked: Params };
    return { ...(await get<Answer>("lines", asked, stop)), page };
  });
}

/** LinesTab is what the runtime printed, as it printed it. */
export function LinesTab() {
  const { data, error, loading } = lines.value;
  const v = view.value;
  return (
    <section class="runtime" aria-label="Raw lines" aria-busy={loading}>
      <div class="tools fields">
        <Field label="matching" name="grep" placeholder="regular expression" />
        <Field label="instance" name="instance" placeholder="any" />
        {data && <Pages d={data} />}
      </div>
      {error && <Problem error={error} what="raw lines" />}
      {data && data.lines.length === 0 && !loading && (
        <div class="none">
          <p>No lines of the runtime's traces{service.value ? ` of ${service.value}` : ""} in this range{v.grep ? ` with “${v.grep}”` : ""}.</p>
          <Command what="the command" text={`sonde run --service ${service.value || "cart"} --schedtrace 1000 -- ./${service.value || "cart"}`} />
        </div>
      )}
      {data && data.lines.length > 0 && <Text d={data} stale={loading} />}
    </section>
  );
}

/** Pages says which lines these are, and leads to those before and after. */
function Pages(p: { d: Page }) {
  const { page } = p.d, { older, newer } = turns(page, p.d);
  const n = several(p.d.lines.length, "line");
  return (
    <>
      <span class="note">{page ? `${n} ${page.replace(/:.*/, "")} ${clock(Number(page.split(":")[1]), view.value.zone)}` : p.d.more ? `the newest ${n}, there are older ones` : n}</span>
      {(older || newer) && (
        <span class="group">
          <button disabled={!older} onClick={() => go({ page: older })}>older</button>
          <button disabled={!newer} onClick={() => go({ page: newer })}>newer</button>
          <button disabled={!page} onClick={() => go({ page: "" })}>newest</button>
        </span>
      )}
    </>
  );
}

const atEnd = (el: HTMLElement) => el.scrollTop + el.clientHeight >= el.scrollHeight - 20;

/** Text is the lines with their times; where they are of several processes, also of which. */
function Text(p: { d: Page; stale: boolean }) {
  const zone = view.value.zone, { lines: list, page } = p.d;
  const mixed = list.some((l) => l.instance !== list[0].instance);
  const box = useRef<HTMLPreElement>(null), seen = useRef({ page: "?", end: false });
  // The newest are at the end: shown when a page comes, and kept in view by who has not scrolled away.
  useLayoutEffect(() => {
    const el = box.current!;
    if (seen.current.page !== page) el.scrollTop = page.startsWith("after:") ? 0 : el.scrollHeight;
    else if (seen.current.end) el.scrollTop = el.scrollHeight;
    seen.current = { page, end: atEnd(el) };
  }, [list]);
  const day = (l: RawLine) => clock(l.time, zone).slice(0, 10);
  return (
    <pre class={`raw mono ${p.stale ? "stale" : ""}`} tabIndex={0} ref={box} onScroll={(e) => (seen.current.end = atEnd(e.currentTarget))}>
      {list.map((l, i) => (
        <div key={i}>
          <span class="note" title={`${day(l)} ${l.service} ${l.instance} ${l.source}`}>
            {(i === 0 || day(l) !== day(list[i - 1])) && `${day(l)}\n`}{clock(l.time, zone, "time")}.{String(l.time % 1000).padStart(3, "0")}{mixed && ` ${l.service} ${l.instance.slice(0, 8)}`}{"  "}
          </span>
          {l.text}
        </div>
      ))}
    </pre>
  );
}

/** Field is a text of the view that Enter applies. */
export function Field(p: { label: string; name: "grep" | "instance" | "module" | "version" | "a" | "b"; placeholder: string }) {
  const value = view.value[p.name];
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  const apply = () => text.trim() !== value && go({ [p.name]: text.trim() });
  return (
    <label class="by">{p.label}
      <input
        class="mono" placeholder={p.placeholder} aria-label={p.label} spellcheck={false} autocomplete="off" value={text} onInput={(e) => setText(e.currentTarget.value)} onBlur={apply}
        onKeyDown={(e) => {
          if (e.key === "Enter") apply();
          if (e.key === "Escape") setText(value);
        }}
      />
    </label>
  );
}
