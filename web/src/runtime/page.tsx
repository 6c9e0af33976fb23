import { useEffect, useState } from "preact/hooks";
import { needToken, refresh } from "../loading";
import { withService } from "../selector";
import { isDark, nextTheme } from "../theme";
import { isRelative } from "../time";
import { RangeMenu } from "../times";
import { TokenDialog } from "../token";
import { BuildsTab } from "./builds";
import { ChartsTab } from "./charts";
import { GCTab } from "./gc";
import { LinesTab } from "./lines";
import { matchersOf } from "./queries";
import { go, judged, linkTo, profilesAt, range, service, services, shown, view } from "./state";
import { tabs } from "./url";
import { VulnsTab } from "./vulns";

/** RuntimePage is how the runtime behaves, what it prints about itself, and what binary it is. */
export function RuntimePage() {
  const v = view.value;
  const place = judged.value.error;
  const wrong = !range.value ? ["The time range cannot be read, or ends before it starts.", "Write times as now-1h, 2026-01-31 14:05 or 2026-01-31T14:05:00Z."]
    : matchersOf(v.query) === null ? [place ? `The selector cannot be read: ${place.message}` : "The selector cannot be read.", place?.hint || 'Write it as {service_name="cart",service_version=~"v1.*"}, or as a service\'s name.'] : null;
  return (
    <>
      <Bar />
      <main>
        {wrong && <div class="error" role="alert"><strong>{wrong[0]}</strong><span class="hint">{wrong[1]}</span></div>}
        {!wrong && v.tab === "charts" && <ChartsTab />}
        {!wrong && v.tab === "gc" && <GCTab />}
        {!wrong && v.tab === "lines" && <LinesTab />}
        {!wrong && v.tab === "builds" && <BuildsTab />}
        {!wrong && v.tab === "vulns" && <VulnsTab />}
      </main>
      <TokenDialog needed={needToken} retry={refresh} />
    </>
  );
}

function Bar() {
  const v = view.value;
  const dark = isDark();
  return (
    <header class="bar" aria-label="What is shown">
      <a class="brand" href="/" title="Sonde: profiles">sonde</a>
      <nav class="tabs" aria-label="Runtime">
        <a href={profilesAt()} title="The profiles of the same time">profiles</a>
        <a href={`/fleet${service.value ? `?service=${encodeURIComponent(service.value)}` : ""}`}>fleet</a>
        {tabs.map(([t, title]) => (
          <a
            key={t} href={linkTo({ tab: t })} aria-current={v.tab === t ? "page" : undefined}
            onClick={(e) => {
              if (e.ctrlKey || e.metaKey || e.shiftKey) return;
              e.preventDefault();
              go({ tab: t });
            }}
          >
            {title}
          </a>
        ))}
      </nav>
      <ServicePicker />
      <Selector />
      <span class="spring" />
      {range.value && <RangeMenu from={v.from} to={v.to} zone={v.zone} range={range.value} apply={(from, to, fixed) => go({ from, to, ...(fixed ? { live: false } : {}) })} />}
      <button
        class="quiet" title="Show times in UTC or in this browser's zone" aria-label={`Time zone: ${v.zone === "utc" ? "UTC" : "local"}`}
        onClick={() => go({ zone: v.zone === "utc" ? "local" : "utc" }, true)}
      >
        {v.zone === "utc" ? "UTC" : "local"}
      </button>
      <span class="group">
        <button onClick={refresh} title="Load again" class={shown.value.loading ? "busy" : ""}>refresh</button>
        <button
          aria-pressed={v.live} disabled={!isRelative(v.to)} title={isRelative(v.to) ? "Load again every 15 s" : "A fixed range does not move: choose one that ends now"}
          onClick={() => go({ live: !v.live }, true)}
        >
          live
        </button>
      </span>
      <button class="quiet" onClick={nextTheme} aria-label={dark ? "Use the light theme" : "Use the dark theme"} title={dark ? "Light" : "Dark"}>{dark ? "☀" : "☾"}</button>
    </header>
  );
}

function ServicePicker() {
  const all = services.value.data ?? [], current = service.value;
  return (
    <select aria-label="Service" class="service" value={current} onChange={(e) => go({ query: withService(view.value.query, e.currentTarget.value), by: "", instance: "" })}>
      <option value="">all services</option>
      {current && !all.some((s) => s.name === current) && <option value={current}>{current}</option>}
      {all.map((s) => <option key={s.name} value={s.name}>{s.name}</option>)}
    </select>
  );
}

function Selector() {
  const [text, setText] = useState(view.value.query);
  useEffect(() => setText(view.value.query), [view.value.query]);
  const apply = () => text.trim() !== view.value.query && go({ query: text.trim(), instance: "" });
  return (
    <input
      class="mono selector" aria-label="Selector" placeholder='{service_version=~"v1.*"}' spellcheck={false} autocomplete="off" value={text}
      title="A selector as Prometheus writes them, or a service's name; Enter applies it"
      onInput={(e) => setText(e.currentTarget.value)} onBlur={apply}
      onKeyDown={(e) => {
        if (e.key === "Enter") apply();
        if (e.key === "Escape") setText(view.value.query);
      }}
    />
  );
}
