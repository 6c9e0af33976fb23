import { computed } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { get, type Params } from "../api";
import { Command } from "../command";
import { Problem } from "../fleet/problem";
import { count } from "../fleet/words";
import { fetching, loaded } from "../loading";
import { clock } from "../time";
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
}

const lines = loaded<Answer>();
const limit = 2000;

const wanted = computed(() => {
  const { tab, instance, grep } = view.value, r = range.value;
  return tab === "lines" && r ? JSON.stringify({ service: service.value, instance, grep, ...r, limit }) : "";
});

/** startLines keeps the lines loaded while their tab is shown. */
export function startLines(): void {
  fetching(lines, () => (wanted.value ? (JSON.parse(wanted.value) as Params) : null), (p, stop) => get<Answer>("lines", p, stop));
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
        {data && <span class="note">{count(data.lines.length)} lines{data.more ? ", the first of more: choose a shorter range" : ""}</span>}
      </div>
      {error && <Problem error={error} what="raw lines" />}
      {data && data.lines.length === 0 && !loading && (
        <div class="none">
          <p>No lines of the runtime's traces{service.value ? ` of ${service.value}` : ""} in this range{v.grep ? ` with “${v.grep}”` : ""}.</p>
          <Command what="the command" text={`sonde run --service ${service.value || "cart"} --schedtrace 1000 -- ./${service.value || "cart"}`} />
        </div>
      )}
      {data && data.lines.length > 0 && <Text list={data.lines} stale={loading} />}
    </section>
  );
}

/** Text is the lines with their times; where they are of several processes, also of which. */
function Text(p: { list: readonly RawLine[]; stale: boolean }) {
  const zone = view.value.zone;
  const several = p.list.some((l) => l.instance !== p.list[0].instance);
  const day = (l: RawLine) => clock(l.time, zone).slice(0, 10);
  return (
    <pre class={`raw mono ${p.stale ? "stale" : ""}`} tabIndex={0}>
      {p.list.map((l, i) => (
        <div key={i}>
          <span class="note" title={`${day(l)} ${l.service} ${l.instance} ${l.source}`}>
            {(i === 0 || day(l) !== day(p.list[i - 1])) && `${day(l)}\n`}{clock(l.time, zone, "time")}.{String(l.time % 1000).padStart(3, "0")}{several && ` ${l.service} ${l.instance.slice(0, 8)}`}{"  "}
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
