import { useState } from "preact/hooks";
import { Failure, send } from "../api";
import { FlameCanvas } from "../flame/canvas";
import { buildModel, path, type Model } from "../flame/model";
import { formatValue } from "../format";
import { flame as shown } from "../state";
import { clock } from "../time";
import { AskDialog, type Subject } from "./ask";
import { Problem } from "./problem";
import { captures, flame, go, view, type Capture } from "./state";
import { span } from "./words";

/** CapturesTab lists what was captured, on demand or by a trigger. */
export function CapturesTab() {
  const v = view.value;
  const { data, error, loading } = captures.value;
  const [subject, setSubject] = useState<Subject | null>(null);
  const [said, setSaid] = useState("");
  const of = v.flame ? data?.find((c) => c.id === v.flame) : undefined;
  return (
    <section class="fleet" aria-label="Captures" aria-busy={loading}>
      {error && (error.status === 404 ? <div class="nothing"><p>This collector takes no captures.</p></div> : <Problem error={error} what="captures" />)}
      {v.flame && <CaptureFlame capture={of} />}
      {!(error?.status === 404) && (
        <div class="tools">
          <h2>captures</h2>
          <span class="bad" role="status">{said}</span>
          <span class="spring" />
          {v.service && <button onClick={() => setSubject({ service: v.service })}>capture {v.service}…</button>}
        </div>
      )}
      {data && data.length === 0 && !error && (
        <div class="nothing"><p>{v.service ? `Nothing was captured of ${v.service}.` : "Nothing was captured yet: the list of processes has a button for each."}</p><button onClick={() => go({ tab: "processes" })}>processes</button></div>
      )}
      {data && data.length > 0 && (
        <div class={`list ${loading ? "stale" : ""}`}>
          <table class="rows">
            <thead><tr><th scope="col">asked</th><th scope="col">kind</th><th scope="col">service</th><th scope="col">node</th><th scope="col">by</th><th scope="col" class="n">long</th><th scope="col" class="n">size</th><th scope="col">state</th><th scope="col">result</th></tr></thead>
            <tbody>{data.map((c) => <Row key={c.id} c={c} onSaid={setSaid} />)}</tbody>
          </table>
        </div>
      )}
      <AskDialog subject={subject} onClose={() => setSubject(null)} />
    </section>
  );
}

function Row(props: { c: Capture; onSaid: (text: string) => void }) {
  const { c } = props;
  return (
    <tr class={c.state === "failed" || c.state === "expired" ? "lost" : c.id === view.value.flame ? "picked" : ""}>
      <td class="mono">{clock(c.created, view.value.zone)}</td>
      <td>{c.kind}</td>
      <td><button class="link" onClick={() => go({ service: c.service })}>{c.service}</button></td>
      <td title={c.instance}>{c.host}</td>
      <td title={c.reason}>{c.trigger ? `trigger ${c.trigger}` : "hand"}{c.reason && <span class="note"> {c.reason}</span>}</td>
      <td class="n">{span(c.duration)}</td>
      <td class="n">{c.size ? formatValue(c.size, "bytes") : ""}</td>
      <td class="why" title={c.error}><span class="state">{c.state}</span>{c.error && <span class="note"> {c.error}</span>}</td>
      <td>
        {c.flamegraph && <a href={`?tab=captures&flame=${encodeURIComponent(c.id)}`} onClick={(e) => !e.ctrlKey && !e.metaKey && (e.preventDefault(), go({ flame: c.id }))}>flame graph</a>}{" "}
        {c.result && <button class="link" aria-label={`Download ${c.file ?? c.id}`} onClick={() => void download(c).then(props.onSaid)}>download</button>}
      </td>
    </tr>
  );
}

/** download saves a capture's bytes; a link would not send the token. It returns what went wrong. */
async function download(c: Capture): Promise<string> {
  try {
    const res = await send(c.result!.replace("/api/v1/", ""), {});
    const a = document.createElement("a");
    a.href = URL.createObjectURL(await res.blob());
    a.download = c.file ?? c.id;
    a.click();
    URL.revokeObjectURL(a.href);
    return "";
  } catch (err) {
    return err instanceof Failure ? `download: ${err.message}` : String(err);
  }
}

/** CaptureFlame draws one capture. */
function CaptureFlame(p: { capture?: Capture }) {
  const { data, error, loading } = flame.value;
  const c = p.capture;
  return (
    <section class="capture-flame" aria-label="Flame graph of a capture" aria-busy={loading}>
      <div class="tools">
        <h2>{c ? `${c.kind} of ${c.service}` : "capture"}</h2>
        <span class="num total">{data ? formatValue(data.total, data.type.unit) : " "}{c && `, ${c.host} ${clock(c.created, view.value.zone)}`}</span>
        <span class="spring" />
        <button onClick={() => go({ flame: "" })}>close</button>
      </div>
      {error && <Problem error={error} what="flame graph" />}
      {data && !error && data.total === 0 && <div class="nothing"><p>No stacks here: nothing was recorded.</p></div>}
      {data && !error && data.total !== 0 && <Drawn key={view.value.flame} model={modelOf(data)} unit={data.type.unit} />}
    </section>
  );
}

let last: { of: unknown; model: Model } | null = null;

/** modelOf builds the model of an answer once. The canvas's tooltips read the type of what is shown where the explorer keeps it. */
function modelOf(data: NonNullable<typeof flame.value.data>): Model {
  if (last?.of !== data) {
    last = { of: data, model: buildModel(data) };
    shown.value = { data, loading: false };
  }
  return last.model;
}

function Drawn(p: { model: Model; unit: string }) {
  const m = p.model;
  const [zoom, setZoom] = useState(0);
  const steps = path(m, zoom);
  return (
    <>
      <nav class="crumbs mono" aria-label="Zoomed into">
        {steps.map((i, k) => <>{k > 0 && <span>›</span>}{k === steps.length - 1 ? <b>{m.names[m.name[i]]}</b> : <button onClick={() => setZoom(i)}>{m.names[m.name[i]]}</button>}</>)}
      </nav>
      <div class="flame-area">
        <FlameCanvas
          id="flame" model={m} marks={null} zoom={zoom} up={false} label={`Flame graph, ${m.n} frames, total ${formatValue(m.value[0], p.unit)}`}
          onZoom={setZoom} onFocus={setZoom} onEscape={() => (zoom ? setZoom(0) : go({ flame: "" }))}
        />
      </div>
    </>
  );
}
