import { useState } from "preact/hooks";
import { Popover } from "./popover";
import { parseSelector, quote } from "./selector";
import { go, sampleLabels, view } from "./state";

const fields = [
  ["sample", '{account="A"}', "A selector on the labels of the samples themselves, such as a request's account or trace_id"],
  ["focus", "encoding/json", "Only stacks with a function whose name matches this regular expression"],
  ["ignore", "^runtime", "Only stacks without a function whose name matches this regular expression"],
] as const;

/** StackFilters chooses the stacks that count: by the samples' labels, and by the functions on them. */
export function StackFilters() {
  const v = view.value;
  const on = fields.filter(([k]) => v[k]).length;
  return (
    <Popover title="Which stacks count" label={<>{on ? `stacks: ${on} filter${on > 1 ? "s" : ""}` : "stacks"} ▾</>} class={on ? "on" : ""}>
      {(close) => <Form close={close} />}
    </Popover>
  );
}

function Form(p: { close: () => void }) {
  const v = view.value;
  const [text, setText] = useState({ sample: v.sample, focus: v.focus, ignore: v.ignore });
  const bad = text.sample.trim() && !parseSelector(text.sample) ? 'The labels cannot be read: write them as {account="A"}.' : "";
  const values = (sampleLabels.value.data ?? []).flatMap((l) => l.values.map((x) => `{${l.name}=${quote(x.value)}}`));
  const apply = (t: typeof text) => {
    go({ sample: t.sample.trim(), focus: t.focus.trim(), ignore: t.ignore.trim(), zoom: "" });
    p.close();
  };
  return (
    <form
      class="times"
      onSubmit={(e) => {
        e.preventDefault();
        if (!bad) apply(text);
      }}
    >
      {fields.map(([k, placeholder, title]) => (
        <label key={k} title={title}>
          {k}
          <input
            class="mono" aria-label={title} placeholder={placeholder} spellcheck={false} autocomplete="off" list={k === "sample" ? "sample-values" : undefined}
            value={text[k]} onInput={(e) => setText({ ...text, [k]: e.currentTarget.value })}
          />
        </label>
      ))}
      <datalist id="sample-values">{values.map((x) => <option key={x} value={x} />)}</datalist>
      <div class="note" role="status">{bad || (values.length ? `${sampleLabels.value.data!.length} labels on these samples` : "these samples carry no labels")}</div>
      <div class="row">
        <button type="submit" class="primary" disabled={!!bad}>apply</button>
        <button type="button" onClick={() => apply({ sample: "", focus: "", ignore: "" })}>all stacks</button>
      </div>
    </form>
  );
}
