import { useEffect } from "preact/hooks";
import { ChartPanel } from "./chart";
import { CompareBar } from "./compare";
import { FlamePanel } from "./flame/panel";
import { Empty, ErrorNote } from "./notices";
import { events, flame, needToken, rangeError, refresh, services, types, view } from "./state";
import { TablePanel } from "./table";
import { TokenDialog } from "./token";
import { TopBar } from "./topbar";
import { isDiff } from "./url";

/** Page is the explorer: the bar, totals over time, the flame graph beside its table. */
export function Page() {
  useEffect(() => {
    addEventListener("keydown", shortcuts);
    return () => removeEventListener("keydown", shortcuts);
  }, []);
  const none = services.value.data?.length === 0 && !flame.value.data;
  return (
    <>
      <TopBar />
      {isDiff(view.value) && <CompareBar />}
      <main>
        {rangeError.value && <ErrorNote message={rangeError.value} hint="Write times as now-1h, 2026-01-31 14:05 or 2026-01-31T14:05:00Z." />}
        {services.value.error && <ErrorNote message={`services: ${services.value.error.message}`} hint={services.value.error.hint} />}
        {events.value.error && events.value.error.status !== services.value.error?.status && (
          <ErrorNote message={`events: ${events.value.error.message}`} hint={events.value.error.hint} />
        )}
        {types.value.error && types.value.error.message !== flame.value.error?.message && !services.value.error && (
          <ErrorNote message={types.value.error.message} hint={types.value.error.hint} />
        )}
        {none ? (
          <Empty />
        ) : (
          <>
            <ChartPanel />
            <div class="split">
              <FlamePanel />
              <TablePanel />
            </div>
          </>
        )}
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
