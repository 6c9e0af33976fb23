import type { OneSeries, Series } from "./api";

const steps = [15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400].map((s) => s * 1000);

/** chartStep is the round step that gives a range about 120 points; an agent's window of 15 s is the shortest, or the chart would be a comb. */
export function chartStep(ms: number): number {
  return steps.find((s) => ms / s <= 130) ?? steps[steps.length - 1] * Math.ceil(ms / steps[steps.length - 1] / 130);
}

/**
 * rebin makes steps longer where profiles come less often than the steps: windows of a minute in steps of 30 s would be a comb that falls to nothing between
 * its teeth. The gap that is usual between steps with values decides; real gaps stay. Intervals add up, gauges are averaged. A ragged last step of a gauge is averaged over what there is.
 */
export function rebin(s: Series): Series {
  const k = factor(s);
  if (k === 1) return s;
  const n = Math.ceil((s.series[0]?.values.length ?? 0) / k);
  const fold = (values: number[]) =>
    Array.from({ length: n }, (_, i) => {
      const part = values.slice(i * k, i * k + k);
      const sum = part.reduce((a, b) => a + b, 0);
      return s.type.kind === "gauge" ? sum / part.length : sum;
    });
  return { ...s, step: s.step * k, series: s.series.map((x) => ({ ...x, values: fold(x.values) })) };
}

function factor(s: Series): number {
  const n = s.series[0]?.values.length ?? 0;
  const filled: number[] = [];
  for (let i = 0; i < n; i++) if (s.series.some((x) => x.values[i] !== 0)) filled.push(i);
  if (filled.length < 3) return 1;
  const gaps = filled.slice(1).map((x, i) => x - filled[i]).sort((a, b) => a - b);
  const usual = gaps[gaps.length >> 1], wide = gaps[Math.floor(gaps.length * 0.9)];
  // Jitter leaves holes where each window falls into a step of its own: twice as long is enough for any jitter.
  const k = wide > usual && wide <= 2 * usual ? 2 * usual : usual;
  return Math.min(k, Math.max(1, Math.floor(n / 8)));
}

/** withBaseline adds the series of a baseline with another selector to those of the range; groups that both have stay as the range has them. */
export function withBaseline(now: Series, base: Series): Series {
  const key = (x: OneSeries) => JSON.stringify(x.labels);
  const have = new Set(now.series.map(key));
  return { ...now, series: [...now.series, ...base.series.filter((x) => !have.has(key(x)) && x.values.length === (now.series[0]?.values.length ?? x.values.length))] };
}
