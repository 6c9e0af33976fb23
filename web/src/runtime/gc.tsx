import { computed } from "@preact/signals";
import { Command } from "../command";
import { Problem } from "../fleet/problem";
import { count, several } from "../fleet/words";
import { formatShare } from "../format";
import { fetching, loaded } from "../loading";
import { quote, withLabel } from "../selector";
import { clock, toParam } from "../time";
import { cyclesOf, lastSteps, quantile, type Cycle } from "./cycles";
import { unitText } from "./draw";
import { column, instant, ranged } from "./prom";
import { groupName, matchersOf } from "./queries";
import { go, linkTo, profilesAt, range, service, view, type Span } from "./state";

/** Traced is a process whose cycles are known. */
interface Traced {
  instance: string;
  name: string;
  cycles: number;
}

interface Cycles {
  processes: Traced[];
  of: string; // the process whose cycles they are
  list: Cycle[];
}

const cycles = loaded<Cycles>();
const maxCycles = 500;

const wanted = computed(() => {
  const r = range.value, matchers = matchersOf(view.value.query);
  return view.value.tab === "gc" && r && matchers !== null ? JSON.stringify({ ...r, matchers, instance: view.value.instance }) : "";
});

async function load(text: string, stop: AbortSignal): Promise<Cycles> {
  const { from, to, matchers, instance } = JSON.parse(text) as { from: number; to: number; matchers: string; instance: string };
  const length = Math.max(1, Math.round((to - from) / 1000));
  const by = "service_instance_id";
  const found = await instant(`topk(200, sum by (${by}, k8s_pod_name, host_name, process_pid) (count_over_time(gctrace_cycle{${matchers}}[${length}s])))`, to, stop);
  const processes = found.map((s) => ({ instance: s.metric[by] ?? "", name: groupName(by, s.metric), cycles: Number(s.value?.[1] ?? 0) })).sort((a, b) => b.cycles - a.cycles);
  const one = processes.find((p) => p.instance === instance) ?? processes[0];
  if (!one) return { processes, of: "", list: [] };
  const only = [matchers, `${by}=${quote(one.instance)}`].filter(Boolean).join(",");
  const part = one.cycles > maxCycles ? await lastOnes(only, { from, to }, stop) : { from, to };
  const samples = await instant(`{${only},__name__=~"gctrace_.+"}[${Math.max(1, Math.ceil((part.to - part.from) / 1000))}s]`, part.to, stop);
  return { processes, of: one.instance, list: cyclesOf(samples).slice(0, maxCycles) };
}

/** lastOnes narrows a range to the part that holds the last maxCycles cycles, and little more: a process may have ended long ago, and cycles come in bursts. Each turn counts them in a hundred steps. */
async function lastOnes(only: string, range: Span, stop: AbortSignal): Promise<Span> {
  for (let turn = 0; turn < 4 && range.to - range.from > 1000; turn++) {
    const step = Math.max(1000, Math.ceil((range.to - range.from) / 100_000) * 1000), n = Math.ceil((range.to - range.from) / step);
    const grid = { start: range.to - (n - 1) * step, step, n };
    const [one] = await ranged(`sum(count_over_time(gctrace_cycle{${only}}[${step / 1000}s]))`, grid, stop);
    const counts = column(one?.values ?? [], grid);
    const last = lastSteps(counts, maxCycles);
    if (!last) return range;
    range = { from: grid.start + (last.first - 1) * step, to: grid.start + last.last * step };
    if (last.total <= 2 * maxCycles) break;
  }
  return range;
}

/** startGC keeps the cycles loaded while their tab is shown. */
export function startGC(): void {
  fetching(cycles, () => (wanted.value ? { wanted: wanted.value } : null), (p, stop) => load(String(p.wanted), stop));
}

/** GCTab is a table of the cycles of one process as gctrace told them. */
export function GCTab() {
  const { data, error, loading } = cycles.value;
  return (
    <section class="runtime" aria-label="GC cycles" aria-busy={loading}>
      {error && <Problem error={error} what="GC cycles" />}
      {data && (
        <div class={loading ? "stale" : ""}>
          {data.processes.length > 0 ? <Traces d={data} /> : !loading && <NoTraces />}
        </div>
      )}
    </section>
  );
}

function NoTraces() {
  const name = service.value || "cart";
  return (
    <div class="none">
      <p>No gctrace{service.value ? ` of ${service.value}` : ""} in this range. The runtime prints a line for each cycle where GODEBUG says so at the start; sonde run says so, and takes the lines out of what the program prints:</p>
      <Command what="the command" text={`sonde run --service ${name} -- ./${name}`} />
      <p class="note">Output that is in a log already is read from there: see godebug in the configuration.</p>
    </div>
  );
}

function Traces(p: { d: Cycles }) {
  const { processes, of, list } = p.d;
  const one = processes.find((t) => t.instance === of)!;
  const pauses = list.map((c) => c.pause), total = pauses.reduce((a, b) => a + b, 0);
  const forced = list.filter((c) => c.forced).length;
  const seconds = (v: number) => unitText(v, "seconds");
  return (
    <>
      <div class="tools">
        <label class="by">process
          <select aria-label="Process" value={of} onChange={(e) => go({ instance: e.currentTarget.value }, true)}>
            {processes.map((t) => <option key={t.instance} value={t.instance}>{`${t.name}: ${several(t.cycles, "cycle")}`}</option>)}
          </select>
        </label>
        <a href={linkTo({ tab: "charts", query: withLabel(view.value.query, "service_instance_id", of) })}>its time line</a>
      </div>
      <ul class="figures">
        <li><b class="num">{count(list.length)}</b> {list.length === 1 ? "cycle" : "cycles"}{list.length < one.cycles && <span class="note"> of {count(one.cycles)}: the last ones; a range that ends earlier shows others</span>}</li>
        <li>pause p50 <b class="num">{seconds(quantile(pauses, 0.5))}</b></li>
        <li>p99 <b class="num">{seconds(quantile(pauses, 0.99))}</b></li>
        <li>longest <b class="num">{seconds(quantile(pauses, 1))}</b></li>
        <li>all pauses <b class="num">{seconds(total)}</b></li>
        <li>forced <b class="num">{forced}</b></li>
      </ul>
      <div class="list">
        <table class="rows cycles">
          <thead>
            <tr>
              <th scope="col">time</th><th scope="col" class="n">cycle</th><th scope="col" class="n">pause</th><th scope="col" class="n">concurrent</th>
              <th scope="col" class="n" title="CPU time of goroutines that had to help">assist</th><th scope="col" class="n">background</th><th scope="col" class="n">idle</th><th scope="col" class="n" title="Of all CPU time since the program started">GC's CPU</th>
              <th scope="col" class="n">heap before</th><th scope="col" class="n">after</th><th scope="col" class="n">live</th><th scope="col" class="n">goal</th><th scope="col" class="n">Ps</th><th scope="col" /><th scope="col"><span class="sr">links</span></th>
            </tr>
          </thead>
          <tbody>{list.map((c) => <Row key={c.at} c={c} instance={of} />)}</tbody>
        </table>
      </div>
    </>
  );
}

function Row(p: { c: Cycle; instance: string }) {
  const { c } = p;
  const seconds = (v: number | undefined) => (v === undefined ? "" : unitText(v, "seconds"));
  const bytes = (v: number) => unitText(v, "bytes");
  const near = { from: toParam(c.at - 5000), to: toParam(c.at + 5000) };
  return (
    <tr>
      <td class="num">{clock(c.at, view.value.zone)}.{String(c.at % 1000).padStart(3, "0")}</td>
      <td class="n">{c.n}</td><td class="n">{seconds(c.pause)}</td><td class="n">{seconds(c.concurrent)}</td>
      <td class="n">{seconds(c.cpu.assist)}</td><td class="n">{seconds(c.cpu.background)}</td><td class="n">{seconds(c.cpu.idle)}</td><td class="n">{formatShare(c.ratio, 1)}</td>
      <td class="n">{bytes(c.start)}</td><td class="n">{bytes(c.end)}</td><td class="n">{bytes(c.live)}</td><td class="n">{bytes(c.goal)}</td><td class="n">{c.procs}</td>
      <td>{c.forced && "forced"}</td>
      <td>
        <a href={linkTo({ tab: "lines", instance: p.instance, grep: `^gc ${c.n} @`, ...near, live: false })}>raw lines</a>{" "}
        <a href={profilesAt({ type: "heap:alloc_space", from: c.at - 30_000, to: c.at + 30_000 })}>what allocated</a>
      </td>
    </tr>
  );
}
