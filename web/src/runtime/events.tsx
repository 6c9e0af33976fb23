import { useEffect, useRef, useState } from "preact/hooks";
import type { Event } from "../api";
import { Command } from "../command";
import { Problem } from "../fleet/problem";
import { quote, withLabel } from "../selector";
import { clock } from "../time";
import { tickCount, ticks } from "./draw";
import { events, go, hover, picked, profilesAt, service, view, type Shown } from "./state";
import { toggle } from "./url";

// In this order they lie on top of each other, the last the lowest. People choose the kinds of their events: names of objects' own fields among them.
const signs = new Map([["oom_kill", "✕"], ["deploy", "▲"], ["change", "◆"], ["note", "✎"], ["restart", "↻"], ["exit", "■"], ["capture", "●"]]);
const sign = (kind: string) => signs.get(kind) ?? "○";
const classes = (e: Event) => `${e.kind === "oom_kill" ? "oom_kill" : ""} ${picked.value === e.id ? "picked" : ""}`;

/** visible are the events that are shown: of kinds that are not hidden, newest first. */
function visible(): Event[] {
  const hidden = view.value.hide.split(",");
  return (events.value.data ?? []).filter((e) => !hidden.includes(e.kind)).sort((a, b) => b.time - a.time);
}

/** drawn are those of the range, the most telling last: it is drawn over the others. */
function drawn(s: Shown): Event[] {
  const order = [...signs.keys()];
  const place = (e: Event) => (order.indexOf(e.kind) + order.length + 1) % (order.length + 1);
  return visible().slice(0, 300).filter((e) => e.time >= s.from && e.time <= s.to).sort((a, b) => place(b) - place(a));
}

const share = (s: Shown, t: number) => (100 * (t - s.from)) / (s.to - s.from);

/** Lane is the line of times with a sign for each event; it stays in view. */
export function Lane(p: { s: Shown }) {
  const { s } = p;
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(960);
  useEffect(() => {
    const el = box.current!;
    const watch = new ResizeObserver(() => setWidth(el.clientWidth));
    watch.observe(el);
    return () => watch.disconnect();
  }, []);
  const zone = view.value.zone, at = hover.value;
  return (
    <div class="lane">
      <div class="about num">{at === null ? <span class="note">{zone === "utc" ? "UTC" : "local time"}</span> : clock(at, zone)}</div>
      <div class="times-line" ref={box}>
        <div class="inner">
          {drawn(s).map((e) => (
            <button
              key={e.id} tabIndex={-1} class={`mark ${classes(e)}`} style={{ left: `${share(s, e.time)}%` }} aria-label={`${e.kind} ${clock(e.time, zone, "time")}: ${e.text}`} title={`${clock(e.time, zone, "time")} ${e.text}`}
              onMouseEnter={() => (hover.value = e.time)}
              onClick={() => {
                picked.value = e.id;
                document.getElementById(`event-${e.id}`)?.scrollIntoView({ block: "nearest" });
              }}
            >
              {sign(e.kind)}
            </button>
          ))}
          {ticks(s.from, s.to, tickCount(width), zone).map((t) => <span key={t.at} class="tick" style={{ left: `${share(s, t.at)}%` }}>{t.text}</span>)}
        </div>
      </div>
    </div>
  );
}

/** Marks are the events' lines over all charts. */
export function Marks(p: { s: Shown }) {
  const { s } = p;
  return (
    <>
      {drawn(s).map((e) => <div key={e.id} class={`line ${classes(e)}`} style={{ left: `${share(s, e.time)}%` }} />)}
    </>
  );
}

/** Events lists what happened, each with its profiles before and after. */
export function Events(p: { s: Shown }) {
  const { data, error, loading } = events.value;
  const [most, setMost] = useState(50);
  const kinds = [...new Set((data ?? []).map((e) => e.kind))].sort();
  const list = visible();
  const hidden = view.value.hide.split(",");
  return (
    <section class="events" aria-label="Events" aria-busy={loading}>
      <div class="tools">
        <h2>events</h2>
        <span class="group" role="group" aria-label="Kinds of events">
          {kinds.map((k) => <button key={k} aria-pressed={!hidden.includes(k)} onClick={() => go({ hide: toggle(view.value.hide, k) }, true)}>{sign(k)} {k}</button>)}
        </span>
      </div>
      {error && <Problem error={error} what="events" />}
      {data && !data.length && <NoEvents />}
      {list.length > 0 && (
        <div class="list">
          <table class="rows wrapped">
            <thead><tr><th scope="col">time</th><th scope="col">kind</th><th scope="col">service</th><th scope="col">what</th><th scope="col"><span class="sr">profiles</span></th></tr></thead>
            <tbody>{list.slice(0, most).map((e) => <Row key={e.id} e={e} s={p.s} />)}</tbody>
          </table>
          {list.length > most && <div class="next"><button onClick={() => setMost(most + 200)}>show more</button></div>}
        </div>
      )}
    </section>
  );
}

function NoEvents() {
  return (
    <div class="none">
      <p class="note">Nothing happened in this range: no deploy, restart, change, OOM kill or capture. What people and pipelines do is told by</p>
      <Command what="the command" text={`sonde event "feature x on" --service ${service.value || "cart"}`} />
    </div>
  );
}

/** around compares as much before the event with as much after it: what the range holds, one to fifteen minutes. */
function around(e: Event, s: Shown): string {
  const w = Math.min(15 * 6e4, Math.max(6e4, Math.min(e.time - s.from, s.to - e.time)));
  const query = e.service ? withLabel(view.value.query, "service_name", e.service) : view.value.query;
  return profilesAt({ query, from: e.time, to: e.time + w, baseFrom: e.time - w, baseTo: e.time });
}

function Row(p: { e: Event; s: Shown }) {
  const { e, s } = p;
  const only = `{service_name=${quote(e.service)}}`;
  return (
    <tr id={`event-${e.id}`} class={`${picked.value === e.id ? "picked" : ""} ${e.kind === "oom_kill" ? "crashed" : ""}`} onMouseEnter={() => (hover.value = e.time)} onMouseLeave={() => (hover.value = null)}>
      <td class="num">{clock(e.time, view.value.zone)}</td>
      <td class="state">{sign(e.kind)} {e.kind}</td>
      <td>{e.service && e.service !== service.value ? <button class="link" onClick={() => go({ query: only })}>{e.service}</button> : e.service}</td>
      <td class="text">
        {e.text}
        {e.attrs && Object.keys(e.attrs).length > 0 && (
          <details>
            <summary class="note">more</summary>
            <ul class="attrs">{Object.entries(e.attrs).map(([k, v]) => <li key={k}><span class="note">{k}</span> <span class="mono">{v}</span></li>)}</ul>
          </details>
        )}
      </td>
      <td><a href={around(e, s)}>compare before and after</a></td>
    </tr>
  );
}
