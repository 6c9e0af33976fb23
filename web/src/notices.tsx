import { useEffect } from "preact/hooks";
import { agentSnippet, Command } from "./command";
import { go, refresh, status } from "./state";

/** ErrorNote says what went wrong and what cures it. */
export function ErrorNote(p: { message: string; hint?: string; retry?: boolean }) {
  return (
    <div class="error" role="alert">
      <strong>{p.message}</strong>
      {p.hint && <span class="hint">{p.hint}</span>}
      <button onClick={refresh}>try again</button>
    </div>
  );
}

/** Empty is the page before the first profile: what discovery sees, and the ways to a first one. */
export function Empty() {
  const here = location.origin;
  const ask = here === "http://127.0.0.1:7070" ? "sonde ps" : `sonde ps --server ${here}`;
  useEffect(() => {
    const timer = setInterval(() => document.visibilityState === "visible" && refresh(), 5000);
    return () => clearInterval(timer);
  }, []);
  return (
    <section class="empty">
      <h1>No profiles yet</h1>
      <p>{status.value.summary ? `On this machine: ${status.value.summary}.` : "The store holds no profile of the last seven days."} Four ways to a first one:</p>
      <h2>See it work</h2>
      <Command what="the demo command" text="sonde demo" />
      <h2>Add the agent to a program</h2>
      <Command what="the agent snippet" text={agentSnippet} />
      <p class="note">and run it with SONDE_URL={here}</p>
      <h2>Let Sonde find what runs here</h2>
      <Command what="the ps command" text={ask} />
      <p class="note">lists every Go process it sees, and why one is not profiled</p>
      <h2>Push a profile that you have</h2>
      <Command what="the curl command" text={`curl --data-binary @cpu.pb.gz '${here}/api/v1/profiles?service=cart&type=cpu'`} />
      <p><button onClick={refresh}>look again</button> <span class="note">the page does so by itself every 5 s</span></p>
    </section>
  );
}

/** NothingHere fills a panel whose query is fine but selects nothing, and says where there is something. */
export function NothingHere(p: { last?: number; what: string }) {
  return (
    <div class="nothing">
      <p>{p.what}</p>
      {p.last !== undefined && (
        <button
          onClick={() => {
            const iso = (ms: number) => new Date(ms).toISOString();
            go({ from: iso(p.last! - 36e5), to: iso(p.last! + 1), live: false });
          }}
        >
          show the last hour with data
        </button>
      )}
      <button onClick={() => go({ from: "now-1d", to: "now" })}>show the last day</button>
    </div>
  );
}
