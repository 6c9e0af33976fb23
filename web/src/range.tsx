import { fromText, go, range, view } from "./state";
import { RangeMenu } from "./times";

/** RangePicker chooses the range that the explorer shows. */
export function RangePicker() {
  const { to, zone } = view.value;
  return <RangeMenu from={fromText.value} to={to} zone={zone} range={range.value} apply={(from, to, fixed) => go({ from, to, ...(fixed ? { live: false } : {}) })} />;
}
