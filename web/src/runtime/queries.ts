// The charts of the time line: what each asks of PromQL, in what unit it is written, and the profile that a click on it opens.

import { formatSelector, parseSelector, quote } from "../selector";
import { literal, type PromSeries } from "./prom";

export type Unit = "cores" | "bytes" | "bytes/s" | "seconds" | "share" | "count" | "/min";

/**
 * Scope is what all charts share: matchers without braces, the window of rates, how long a value counts that is not followed by another, the label that is grouped by ("": none), and
 * whether processes are added up or the largest is taken.
 * Prometheus lets a value count for five minutes: after a restart the old process would be added to the new one for as long.
 */
export interface Scope {
  matchers: string;
  window: string;
  recent: string;
  by: string;
  how: "sum" | "max";
}

/**
 * scopeOf makes the windows out of the chart's step and of how often samples come, both in seconds. Three samples: one may be missing, and two make a rate; 45 s at least, three of what a
 * collector takes every 15 s. A longer window would keep a start, a stop or a restart in the chart for as long.
 */
export function scopeOf(matchers: string, by: string, step: number, interval: number, how: Scope["how"] = "sum"): Scope {
  const recent = Math.min(300, Math.max(45, Math.round(3 * interval)));
  return { matchers, by, how, window: `${Math.max(recent, step)}s`, recent: `${recent}s` };
}

/** What every process has one of, from whatever source. */
const sampled = ["process_resident_memory_bytes", "go_goroutines", "go_sched_goroutines_goroutines"];

/**
 * sparsestQuery finds the process with the fewest samples in the last five minutes, of those that were there all the while: what is sampled less often than the windows are long is left out of
 * sums in silence. Where none was there that long, it is the one with the most: of one that has just started, how often it is sampled is hardly known.
 */
export function sparsestQuery(matchers: string): string {
  const counts = sampled.map((n) => `count_over_time(${n}{${matchers}}[5m]) and last_over_time(${n}{${matchers}}[75s]) and ${n}{${matchers}} and ${n}{${matchers}} offset 5m`);
  return `bottomk(1, ${counts.join(" or ")}) or topk(1, ${sampled.map((n) => `count_over_time(${n}{${matchers}}[5m])`).join(" or ")})`;
}

/** samplesQuery asks for the samples of that process as they are stored. */
export function samplesQuery(labels: Record<string, string>): string {
  const own = Object.entries(labels).filter(([name]) => name !== "__name__").map(([name, value]) => `${name}=${quote(value)}`);
  return `{${[`__name__=~"${sampled.join("|")}"`, ...own].join(",")}}[5m]`;
}

/** intervalOf is how far apart the samples usually are, seconds: the middle one of the gaps, whatever part of the five minutes the process lived. 15, as a collector samples, where there are not two. */
export function intervalOf(found: readonly PromSeries[]): number {
  const times = found.map((s) => (s.values ?? []).map(([t]) => t)).sort((a, b) => b.length - a.length)[0] ?? [];
  const gaps = times.slice(1).map((t, i) => t - times[i]).sort((a, b) => a - b);
  return gaps.length ? gaps[gaps.length >> 1] : 15;
}

export interface Line {
  id: string;
  name: string;
  limit?: boolean; // drawn dashed, and only where it is near what it limits
  expr: (s: Scope) => string;
}

export interface Chart {
  id: string;
  title: string;
  unit: Unit;
  profile: string; // what a click opens
  lines: Line[];
  none: string; // why there may be no data, and what brings some
}

/** of is the last value, where it is recent; a process that ended, and was marked as ended, has none at once: range selectors do not see such marks, instant ones do. */
const of = (s: Scope, name: string, own = "") => {
  const one = `${name}{${[s.matchers, own].filter(Boolean).join(",")}}`;
  return `(${one} and last_over_time(${one}[${s.recent}]))`;
};
const rate = (s: Scope, name: string) => `rate(${name}{${s.matchers}}[${s.window}])`;
const agg = (s: Scope, how: string, expr: string, also = "") => {
  const by = [s.by, also].filter(Boolean).join(", ");
  return `${how}${by ? ` by (${by})` : ""} (${expr})`;
};
const all = (expr: (s: Scope) => string) => (s: Scope) => agg(s, s.how, expr(s));
const first = (s: Scope, ...names: string[]) => names.map((n) => of(s, n)).join(" or ");

/** quantile is of a native histogram; where a process has only classic buckets, of those. */
const quantile = (q: number, name: string) => (s: Scope) =>
  `histogram_quantile(${q}, ${agg(s, "sum", rate(s, name))}) or histogram_quantile(${q}, ${agg(s, "sum", rate(s, `${name}_bucket`), "le")})`;

export const charts: readonly Chart[] = [
  {
    id: "cpu", title: "CPU", unit: "cores", profile: "cpu:cpu", none: "No CPU time of a process in this range.",
    lines: [
      { id: "process", name: "process", expr: all((s) => rate(s, "process_cpu_seconds_total")) },
      { id: "gc", name: "in the GC", expr: all((s) => rate(s, "go_cpu_classes_gc_total_cpu_seconds_total")) },
      { id: "limit", name: "cgroup limit", limit: true, expr: all((s) => `${of(s, "container_spec_cpu_quota")} / ${of(s, "container_spec_cpu_period")}`) },
    ],
  },
  {
    id: "throttled", title: "CPU throttled", unit: "share", profile: "cpu:cpu", none: "Not throttled: no CPU limit of a cgroup is known here.",
    lines: [
      { id: "periods", name: "periods", expr: (s) => `${agg(s, "sum", rate(s, "container_cpu_cfs_throttled_periods_total"))} / (${agg(s, "sum", rate(s, "container_cpu_cfs_periods_total"))} > 0)` },
      { id: "waiting", name: "time some waited", expr: (s) => agg(s, "max", rate(s, "container_pressure_cpu_waiting_seconds_total")) },
    ],
  },
  {
    id: "memory", title: "Memory", unit: "bytes", profile: "heap:inuse_space", none: "No memory of a process in this range.",
    lines: [
      { id: "rss", name: "RSS", expr: all((s) => of(s, "process_resident_memory_bytes")) },
      { id: "heap", name: "heap objects", expr: all((s) => first(s, "go_memory_classes_heap_objects_bytes", "go_memstats_heap_alloc_bytes")) },
      { id: "live", name: "heap live", expr: all((s) => `${of(s, "go_gc_heap_live_bytes")} or ignoring (at) ${of(s, "gctrace_heap_bytes", 'at="live"')}`) },
      { id: "goal", name: "heap goal", expr: all((s) => first(s, "go_gc_heap_goal_bytes", "go_memstats_next_gc_bytes", "gctrace_goal_bytes")) },
      // Without a limit GOMEMLIMIT is the largest int64.
      { id: "gomemlimit", name: "GOMEMLIMIT", limit: true, expr: all((s) => `${of(s, "go_gc_gomemlimit_bytes")} < 4e18`) },
      { id: "limit", name: "cgroup limit", limit: true, expr: all((s) => of(s, "container_spec_memory_limit_bytes")) },
    ],
  },
  {
    id: "alloc", title: "Allocation", unit: "bytes/s", profile: "heap:alloc_space", none: "Allocation is known of processes with the agent, a /metrics endpoint or gops.",
    lines: [{ id: "rate", name: "allocated", expr: all((s) => `${rate(s, "go_gc_heap_allocs_bytes_total")} or ${rate(s, "go_memstats_alloc_bytes_total")}`) }],
  },
  {
    id: "cycles", title: "GC cycles", unit: "/min", profile: "heap:alloc_space", none: "GC cycles are known of processes with the agent, a /metrics endpoint or gops, or under sonde run.",
    lines: [
      {
        id: "all", name: "cycles", // traces tell each cycle by one sample
        expr: all((s) => `60 * (${rate(s, "go_gc_cycles_total_gc_cycles_total")} or ${rate(s, "go_gc_duration_seconds_count")} or count_over_time(gctrace_cycle{${s.matchers}}[${s.window}]) / ${parseInt(s.window)})`),
      },
      { id: "forced", name: "forced", expr: all((s) => `60 * ${rate(s, "go_gc_cycles_forced_gc_cycles_total")}`) },
    ],
  },
  {
    id: "pause", title: "GC pause", unit: "seconds", profile: "cpu:cpu", none: "Pauses are known of processes with the agent or under sonde run.",
    lines: [
      { id: "p99", name: "p99", expr: quantile(0.99, "go_gc_pauses_seconds") },
      { id: "p50", name: "p50", expr: quantile(0.5, "go_gc_pauses_seconds") },
      { id: "longest", name: "longest traced", expr: (s) => agg(s, "max", `max_over_time(gctrace_pause_seconds{${s.matchers}}[${s.window}])`) },
    ],
  },
  {
    id: "goroutines", title: "Goroutines", unit: "count", profile: "goroutine:goroutine", none: "Goroutines are known of processes with the agent, a /metrics endpoint or gops.",
    lines: [
      { id: "goroutines", name: "goroutines", expr: all((s) => first(s, "go_sched_goroutines_goroutines", "go_goroutines")) },
      { id: "threads", name: "threads", expr: all((s) => first(s, "process_threads", "go_threads")) },
    ],
  },
  {
    id: "latency", title: "Scheduler latency", unit: "seconds", profile: "cpu:cpu", none: "The scheduler's latency is known of processes with the agent.",
    lines: [
      { id: "p99", name: "p99", expr: quantile(0.99, "go_sched_latencies_seconds") },
      { id: "p50", name: "p50", expr: quantile(0.5, "go_sched_latencies_seconds") },
    ],
  },
  {
    id: "runqueue", title: "Run queue", unit: "count", profile: "goroutine:goroutine", none: "The length of run queues is in schedtrace: sonde run --schedtrace 1000.",
    lines: [
      { id: "global", name: "global", expr: all((s) => of(s, "schedtrace_runqueue")) },
      { id: "local", name: "of the Ps", expr: all((s) => of(s, "schedtrace_local_runqueue")) },
    ],
  },
];

/** matchersOf is the inside of a selector as PromQL wants it, "" for everything; null where it cannot be read. */
export function matchersOf(query: string): string | null {
  const ms = parseSelector(query);
  return ms && formatSelector(ms).slice(1, -1);
}

/** onlyGroups narrows matchers to the values of a label. */
export function onlyGroups(matchers: string, by: string, values: readonly string[]): string {
  return [matchers, `${by}=~${quote(values.map(literal).join("|"))}`].filter(Boolean).join(",");
}

/** chartQuery is one query for all lines of a chart; the label "line" tells them apart. */
export function chartQuery(lines: readonly Line[], s: Scope): string {
  return lines.map((l) => `label_replace(${l.expr(s)}, "line", "${l.id}", "", "")`).join(" or ");
}

/** The labels that tell a reader which process an instance is. */
const telling = ["k8s_pod_name", "host_name", "process_pid"];

/** groupsQuery finds the n groups that use the most CPU over the range; those of which no CPU time is known come last. */
export function groupsQuery(matchers: string, by: string, range: string, n: number): string {
  const known = [`__name__=~"process_resident_memory_bytes|go_goroutines|go_sched_goroutines_goroutines|gctrace_cycle"`, matchers].filter(Boolean).join(",");
  const labels = by === "service_instance_id" ? [by, ...telling].join(", ") : by;
  return `topk(${n}, sum by (${labels}) (rate(process_cpu_seconds_total{${matchers}}[${range}])) or 0 * max by (${labels}) (last_over_time({${known}}[${range}])))`;
}

/** groupName is what a reader calls a group: of an instance its pod, or host and pid. */
export function groupName(by: string, m: Record<string, string>): string {
  const value = m[by] ?? "";
  if (by !== "service_instance_id") return value || `no ${by}`;
  const place = m.k8s_pod_name || m.host_name;
  if (place) return m.process_pid && !m.k8s_pod_name ? `${place}:${m.process_pid}` : place;
  return value.slice(0, 8) || "no instance";
}
