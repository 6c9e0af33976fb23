import { useState } from "preact/hooks";
import { apiPath, Failure, send, token, type Params } from "./api";
import { copy } from "./copy";
import { Popover } from "./popover";
import { currentType, filters, range, view } from "./state";
import { formatView } from "./url";

/** profileParams names what is shown, with fixed times, for /api/v1/profile. */
function profileParams(): Params {
  const { from, to } = range.value;
  return { query: view.value.query, type: currentType.value?.id ?? view.value.type, from, to, ...filters(view.value) };
}

function shellQuote(s: string): string {
  return `'${s.replace(/'/g, "'\\''")}'`;
}

/** pprofCommand is what opens this profile in pprof. go tool pprof sends no token: with one, curl fetches first. */
function pprofCommand(): string {
  const url = shellQuote(location.origin + apiPath("profile", profileParams()));
  if (!token.get()) return `go tool pprof -http=: ${url}`;
  return `curl -fsS -H "Authorization: Bearer $SONDE_TOKEN" -o sonde.pb.gz ${url} && go tool pprof -http=: sonde.pb.gz`;
}

/** Menu holds what leads out of the page: the link, pprof, and the keys. */
export function Menu() {
  const [said, setSaid] = useState("");
  const [pinned, setPinned] = useState("");
  return (
    <Popover title="Share and export" label="share ▾" class="right">
      {() => (
        <>
          <div class="menu">
            <button onClick={() => void copy(fixedLink(), "Link copied.").then(setSaid)}>copy link <span class="note">with the times fixed</span></button>
            <button onClick={() => void pin().then((link) => (setPinned(link), setSaid("Pinned: retention does not touch it. The link stays true.")), (err) => setSaid(`Not pinned: ${err.message}`))}>pin this <span class="note">keep these profiles for good</span></button>
            <button onClick={() => void download("pprof", "pb.gz").then(setSaid)}>download pprof</button>
            <button onClick={() => void download("speedscope", "speedscope.json").then(setSaid)}>download for speedscope.app</button>
            <button onClick={() => void copy(pprofCommand(), "Command copied.").then(setSaid)}>copy pprof command</button>
          </div>
          <input class="mono" aria-label="Command for go tool pprof" readOnly value={pprofCommand()} onFocus={(e) => e.currentTarget.select()} />
          {pinned && <input class="mono" aria-label="Link to what is pinned" readOnly value={pinned} onFocus={(e) => e.currentTarget.select()} />}
          <div class="note" role="status">{said || " "}</div>
          <Keys />
        </>
      )}
    </Popover>
  );
}

/** fixedLink is the address with the ranges as they are now, so that whoever opens it later sees the same. */
function fixedLink(): string {
  const { from, to, base } = range.value;
  const iso = (ms: number) => new Date(ms).toISOString().replace(".000Z", "Z");
  const v = { ...view.value, from: iso(from), to: iso(to), live: false, type: currentType.value?.id ?? view.value.type };
  if (base) Object.assign(v, { baseFrom: iso(base[0]), baseTo: iso(base[1]) });
  return location.origin + location.pathname + formatView(v);
}

/** pin keeps what is shown for good, of every type and in a diff both sides, and returns the link to it. */
async function pin(): Promise<string> {
  const { from, to, base } = range.value;
  const v = view.value, link = fixedLink();
  const note = `from the page: ${link.slice(location.origin.length, location.origin.length + 900)}`;
  await send("pins", { query: v.query, from, to, note }, undefined, "POST");
  if (base) await send("pins", { query: v.baseQuery || v.query, from: base[0], to: base[1], note }, undefined, "POST");
  return link;
}

// A plain link could not send the token.
async function download(format: string, extension: string): Promise<string> {
  try {
    const params: Params = { ...profileParams(), format };
    const blob = await (await send("profile", params)).blob();
    const a = document.createElement("a");
    a.href = URL.createObjectURL(blob);
    a.download = `${String(params.type).replace(":", "-")}-${new Date(range.value.to).toISOString().slice(0, 19).replace(/:/g, "")}Z.${extension}`;
    a.click();
    setTimeout(() => URL.revokeObjectURL(a.href), 10_000);
    return `Saved ${a.download}.`;
  } catch (err) {
    return err instanceof Failure ? `Not saved: ${err.message}` : String(err);
  }
}

const keys: [string, string][] = [
  ["/", "search functions"],
  ["← → ↑ ↓", "move in the flame graph"],
  ["Enter", "zoom into the frame"],
  ["f", "only this function"],
  ["Esc", "one step back: zoom, only this function, search"],
  ["Shift + drag", "on the chart: choose the baseline"],
];

function Keys() {
  return (
    <table class="keys">
      <caption>Keys</caption>
      <tbody>{keys.map(([k, what]) => <tr key={k}><th scope="row"><kbd>{k}</kbd></th><td>{what}</td></tr>)}</tbody>
    </table>
  );
}
