import { useEffect, useState } from "preact/hooks";
import { previousOf } from "./compare";
import { typeTitle, type TypeInfo } from "./format";
import { StackFilters } from "./filters";
import { Menu } from "./menu";
import { RangePicker } from "./range";
import { serviceOf, withService } from "./selector";
import { currentType, flame, fromText, go, range, refresh, services, series, top, types, view } from "./state";
import { isDark, nextTheme } from "./theme";
import { isRelative, toParam } from "./time";
import { defaultView, formatView, isDiff, type View } from "./url";

export function TopBar() {
  const v = view.value;
  const dark = isDark();
  const busy = flame.value.loading || series.value.loading || top.value.loading;
  return (
    <header class="bar" aria-label="What is shown">
      <a class="brand" href="/" title="Sonde: start over" onClick={(e) => (e.preventDefault(), startOver())}>sonde</a>
      <a href="/fleet" title="Processes, coverage and captures of the fleet">fleet</a>
      <a href={`/runtime${formatView({ ...defaultView, query: v.query, from: v.from, to: v.to, zone: v.zone })}`} title="Runtime metrics, GC and builds at the same time">runtime</a>
      <Search />
      <ServicePicker />
      <TypePicker />
      <Selector />
      <StackFilters />
      <RangePicker />
      <button
        class="quiet" title="Show times in UTC or in this browser's zone" aria-label={`Time zone: ${v.zone === "utc" ? "UTC" : "local"}`}
        onClick={() => go({ zone: v.zone === "utc" ? "local" : "utc" }, true)}
      >
        {v.zone === "utc" ? "UTC" : "local"}
      </button>
      <span class="group">
        <button onClick={refresh} title="Load again" class={busy ? "busy" : ""}>refresh</button>
        <button
          aria-pressed={v.live} disabled={!isRelative(v.to)} title={isRelative(v.to) ? "Load again every 10 s" : "A fixed range does not move: choose one that ends now"}
          onClick={() => go({ live: !v.live }, true)}
        >
          live
        </button>
      </span>
      <button aria-pressed={isDiff(v)} onClick={toggleDiff} title="Compare with the range before, or another baseline">compare</button>
      <Menu />
      <button class="quiet" onClick={nextTheme} aria-label={dark ? "Use the light theme" : "Use the dark theme"} title={dark ? "Light" : "Dark"}>
        {dark ? "☀" : "☾"}
      </button>
    </header>
  );
}

function startOver(): void {
  const { zone, layout, chart } = view.value;
  go({ ...defaultView, zone, layout, chart });
}

function toggleDiff(): void {
  const v = view.value;
  if (isDiff(v)) go({ baseFrom: "", baseTo: "", baseQuery: "", normalize: "", sort: "" });
  else if (!v.from && !isRelative(fromText.value)) go({ ...halves(), live: false, sort: "" });
  else go({ ...previousOf(fromText.value, v.to), sort: "" });
}

/** halves compares the later half of young data with the earlier one: before the data there is nothing to compare with. */
function halves(): Partial<View> {
  const { from, to } = range.value;
  const middle = toParam(Math.round((from + to) / 2));
  return { from: middle, to: toParam(to), baseFrom: toParam(from), baseTo: middle };
}

function Search() {
  const [text, setText] = useState(view.value.q);
  useEffect(() => setText(view.value.q), [view.value.q]);
  return (
    <input
      id="search" type="search" class="mono search" placeholder="search functions  /" aria-label="Search functions: part of a name, or /regular expression/"
      spellcheck={false} autocomplete="off" value={text}
      onInput={(e) => {
        setText(e.currentTarget.value);
        go({ q: e.currentTarget.value, fn: "" }, true);
      }}
      onKeyDown={(e) => {
        if (e.key === "Escape") {
          go({ q: "", fn: "" }, true);
          e.currentTarget.blur();
        } else if (e.key === "Enter") document.getElementById("flame")?.focus();
      }}
    />
  );
}

function ServicePicker() {
  const v = view.value;
  const all = services.value.data ?? [];
  const current = serviceOf(v.query);
  const known = !current || all.some((s) => s.name === current);
  const several = !current && v.query.includes("service_name");
  return (
    <select
      aria-label="Service" class="service" value={current}
      onChange={(e) => go({ query: withService(v.query, e.currentTarget.value), by: null, zoom: "", only: "", fn: "" })}
    >
      <option value="">{several ? "as selected" : "all services"}</option>
      {!known && <option value={current}>{current}</option>}
      {all.map((s) => <option key={s.name} value={s.name}>{s.name}</option>)}
    </select>
  );
}

function TypePicker() {
  const v = view.value;
  const all = types.value.data ?? [];
  const current = currentType.value;
  const groups = new Map<string, TypeInfo[]>();
  for (const t of all) groups.set(t.profile, [...(groups.get(t.profile) ?? []), t]);
  return (
    <select aria-label="Profile type" class="type" value={current?.id ?? v.type} onChange={(e) => go({ type: e.currentTarget.value, zoom: "", normalize: "" })}>
      {!current && <option value={v.type}>{v.type || "type"}</option>}
      {[...groups].map(([profile, list]) => (
        <optgroup key={profile} label={profile}>
          {list.map((t) => <option key={t.id} value={t.id} title={t.id}>{typeTitle(t)}</option>)}
        </optgroup>
      ))}
    </select>
  );
}

function Selector() {
  const [text, setText] = useState(view.value.query);
  useEffect(() => setText(view.value.query), [view.value.query]);
  const apply = () => {
    if (text.trim() !== view.value.query) go({ query: text.trim(), by: null, zoom: "" });
  };
  return (
    <input
      class="mono selector" aria-label="Selector" placeholder='{service_version=~"v1.*"}' spellcheck={false} autocomplete="off" value={text}
      title="A selector as Prometheus writes them, or a service's name; Enter applies it"
      onInput={(e) => setText(e.currentTarget.value)}
      onKeyDown={(e) => {
        if (e.key === "Enter") apply();
        if (e.key === "Escape") setText(view.value.query);
      }}
      onBlur={apply}
    />
  );
}
