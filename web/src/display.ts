// How values are shown in the mode that is on: plain, per second of the range, or as a share of its side.

import { formatRate, formatShare, formatValue, signed, type TypeInfo } from "./format";
import { scale } from "./state";

/** scaled writes a value that was multiplied by its side's factor. */
export function scaledText(v: number, type: TypeInfo): string {
  switch (scale.value.norm) {
    case "share":
      return formatShare(v, 1);
    case "rate":
      return scale.value.now === 1 ? formatValue(v, type.unit) : formatRate(v, type);
  }
  return formatValue(Math.abs(v) < 1e6 && type.unit === "count" ? Math.round(v * 100) / 100 : v, type.unit);
}

/** deltaText writes a difference with its sign. */
export function deltaText(v: number, type: TypeInfo): string {
  return signed(v, scaledText(v, type));
}

/** chartText writes the chart's values: per second for intervals, as they are for gauges. ref chooses the scale. */
export function chartText(v: number, type: TypeInfo, ref = v): string {
  if (type.kind === "gauge") return formatValue(type.unit === "count" ? Math.round(v * 100) / 100 : v, type.unit, ref);
  return formatRate(v, type, ref);
}
