import { useEffect, useRef, useState } from "preact/hooks";
import { Failure, send } from "../api";
import { refresh } from "../loading";
import { go, type Process } from "./state";

/** Subject is what a capture is asked of: one process, or a service. */
export interface Subject {
  service: string;
  process?: Process;
}

const kinds: { kind: string; title: string; takes?: string }[] = [
  { kind: "cpu", title: "CPU profile", takes: "10s" }, { kind: "heap", title: "heap" }, { kind: "allocs", title: "allocations" }, { kind: "goroutine", title: "goroutines, as a profile" },
  { kind: "goroutines", title: "goroutines, every one with its state" }, { kind: "mutex", title: "mutex contention" }, { kind: "block", title: "blocking" }, { kind: "threadcreate", title: "threads created" },
  { kind: "wall", title: "wall clock", takes: "10s" }, { kind: "offcpu", title: "off the CPU", takes: "10s" }, { kind: "trace", title: "execution trace", takes: "5s" }, { kind: "flight", title: "flight recorder's window" },
];

/** AskDialog asks for a capture and leads to the list of them. */
export function AskDialog(p: { subject: Subject | null; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [kind, setKind] = useState("cpu");
  const [duration, setDuration] = useState("10s");
  const [spread, setSpread] = useState("process");
  const [said, setSaid] = useState<Failure | null>(null);
  const [busy, setBusy] = useState(false);
  const s = p.subject;
  useEffect(() => {
    if (!s) return;
    setSpread(s.process ? "process" : "one");
    setSaid(null);
    if (!dialog.current?.open) dialog.current?.showModal();
  }, [s]);
  const takes = kinds.find((k) => k.kind === kind)!.takes;
  const ask = async () => {
    setBusy(true);
    setSaid(null);
    try {
      const whom = spread === "process" ? { instance: s!.process!.instance } : { service: s!.service, spread };
      await send("captures", { ...whom, kind, duration: takes ? duration : "" }, undefined, "POST");
      dialog.current?.close();
      go({ tab: "captures", service: s!.service, flame: "" });
      refresh();
    } catch (err) {
      setSaid(err instanceof Failure ? err : new Failure(0, String(err), ""));
    } finally {
      setBusy(false);
    }
  };
  return (
    <dialog ref={dialog} aria-labelledby="ask-title" onClose={p.onClose}>
      {s && (
        <form method="dialog" onSubmit={(e) => (e.preventDefault(), void ask())}>
          <h2 id="ask-title">Take a capture of {s.service || "this process"}</h2>
          <label class="field">what
            <select
              value={kind}
              onChange={(e) => {
                setKind(e.currentTarget.value);
                setDuration(kinds.find((k) => k.kind === e.currentTarget.value)?.takes ?? "");
              }}
            >
              {kinds.map((k) => <option key={k.kind} value={k.kind}>{k.title}</option>)}
            </select>
          </label>
          <label class="field">how long <input value={takes ? duration : "a moment"} disabled={!takes} onInput={(e) => setDuration(e.currentTarget.value)} /></label>
          <label class="field">of
            <select value={spread} onChange={(e) => setSpread(e.currentTarget.value)}>
              {s.process && <option value="process">this process{s.process.pid ? ` (pid ${s.process.pid}${s.process.node ? ` on ${s.process.node}` : ""})` : ""}</option>}
              {s.service && <option value="one">any one process of {s.service}</option>}
              {s.service && <option value="all">every process of {s.service}</option>}
            </select>
          </label>
          {said && <p class="bad" role="alert">{said.message}{said.hint && `. ${said.hint}`}</p>}
          <div class="row">
            <button type="submit" class="primary" disabled={busy}>take it</button>
            <button type="button" onClick={() => dialog.current?.close()}>cancel</button>
          </div>
        </form>
      )}
    </dialog>
  );
}
