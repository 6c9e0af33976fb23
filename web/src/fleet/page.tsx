import { useEffect, useState } from "preact/hooks";
import { needToken, refresh } from "../loading";
import { withService } from "../selector";
import { isDark, nextTheme } from "../theme";
import { TokenDialog } from "../token";
import { CapturesTab } from "./captures";
import { CoverageTab } from "./coverage";
import { ProcessesTab } from "./processes";
import { captures, coverage, go, processes, tabs, view } from "./state";

/** FleetPage is what runs, what is watched of it, and what was captured. */
export function FleetPage() {
  useEffect(() => {
    addEventListener("keydown", shortcuts);
    return () => removeEventListener("keydown", shortcuts);
  }, []);
  const v = view.value;
  return (
    <>
      <Bar />
      <main>
        {v.tab === "processes" && <ProcessesTab />}
        {v.tab === "coverage" && <CoverageTab />}
        {v.tab === "captures" && <CapturesTab />}
      </main>
      <TokenDialog needed={needToken} retry={refresh} />
    </>
  );
}

function shortcuts(e: KeyboardEvent): void {
  const target = e.target as HTMLElement;
  if (e.key !== "/" || e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) return;
  const search = document.getElementById("search") as HTMLInputElement | null;
  if (!search) return;
  e.preventDefault();
  search.focus();
  search.select();
}

function Bar() {
  const v = view.value;
  const dark = isDark();
  const busy = { processes, coverage, captures }[v.tab].value.loading;
  return (
    <header class="bar" aria-label="What is shown">
      <a class="brand" href="/" title="Sonde: profiles">sonde</a>
      <nav class="tabs" aria-label="Fleet">
        <a href="/">profiles</a>
        <a href={`/runtime${v.service ? `?${new URLSearchParams({ query: withService("", v.service) })}` : ""}`} title="Runtime metrics, GC and builds on one time line with the profiles">runtime</a>
        {tabs.map((t) => (
          <a
            key={t} href={`?tab=${t}`} aria-current={v.tab === t ? "page" : undefined}
            onClick={(e) => {
              if (e.ctrlKey || e.metaKey || e.shiftKey) return;
              e.preventDefault();
              go({ tab: t, flame: "" });
            }}
          >
            {t}
          </a>
        ))}
      </nav>
      {v.tab === "processes" && (
        <input
          id="search" type="search" class="search" placeholder="search service, pod, node, executable  /" aria-label="Search processes" spellcheck={false} autocomplete="off" value={v.search}
          onInput={(e) => go({ search: e.currentTarget.value }, true)}
          onKeyDown={(e) => e.key === "Escape" && (go({ search: "" }, true), e.currentTarget.blur())}
        />
      )}
      <Filter name="service" />
      {v.tab !== "captures" && <Filter name="node" />}
      <span class="spring" />
      <button
        class="quiet" title="Show times in UTC or in this browser's zone" aria-label={`Time zone: ${v.zone === "utc" ? "UTC" : "local"}`}
        onClick={() => go({ zone: v.zone === "utc" ? "local" : "utc" }, true)}
      >
        {v.zone === "utc" ? "UTC" : "local"}
      </button>
      <button onClick={refresh} title="Load again" class={busy ? "busy" : ""}>refresh</button>
      <button class="quiet" onClick={nextTheme} aria-label={dark ? "Use the light theme" : "Use the dark theme"} title={dark ? "Light" : "Dark"}>{dark ? "☀" : "☾"}</button>
    </header>
  );
}

/** Filter is a value that a column must have: written here, or chosen by a click on one in the table. */
function Filter(p: { name: "service" | "node" }) {
  const value = view.value[p.name];
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  const apply = () => go({ [p.name]: text.trim() });
  return (
    <span class={`filter ${value ? "on" : ""}`}>
      <input
        aria-label={`Only this ${p.name}`} placeholder={p.name} title={`The whole name of a ${p.name}; Enter applies it`} spellcheck={false} autocomplete="off" value={text}
        onInput={(e) => setText(e.currentTarget.value)} onBlur={apply}
        onKeyDown={(e) => {
          if (e.key === "Enter") apply();
          if (e.key === "Escape") setText(value);
        }}
      />
      {value && <button aria-label={`Any ${p.name}`} title={`Any ${p.name}`} onClick={() => go({ [p.name]: "" })}>×</button>}
    </span>
  );
}
