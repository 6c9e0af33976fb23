import { useLayoutEffect, useRef } from "preact/hooks";
import { deltaText, scaledText } from "../display";
import { formatChange, formatShare, formatValue } from "../format";
import { flame } from "../state";
import { splitName } from "../names";
import { kindLabel } from "./colour";
import type { Model } from "./model";

export interface TipAt {
  node: number;
  x: number; // CSS pixels in the flame graph's box
  y: number;
  byKey: boolean;
}

/** Tooltip says all that is known of one frame. It stays inside its box. */
export function Tooltip(p: { model: Model; at: TipAt; width: number; height: number; selfless?: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const { model: m, at } = p;
  useLayoutEffect(() => {
    const el = box.current!;
    const w = el.offsetWidth, h = el.offsetHeight;
    el.style.left = `${Math.max(0, Math.min(at.x, p.width - w - 4))}px`;
    el.style.top = `${at.y + h > p.height ? Math.max(0, at.y - h - 28) : at.y}px`;
  });
  const type = flame.value.data?.type;
  if (!type) return null;
  const i = at.node;
  const name = m.names[m.name[i]];
  const parts = splitName(name);
  const kind = m.kinds[m.name[i]];
  const file = m.files[m.name[i]];
  return (
    <div class="tooltip" ref={box} role="tooltip">
      <div class="mono name"><span class="path">{parts.path}</span>{parts.pkg}{parts.func}</div>
      {(file || kind) && <div class="note mono">{file}{file && kind ? " · " : ""}{kind && (kindLabel[kind] ?? kind)}</div>}
      {m.base ? <DiffNumbers m={m} i={i} /> : (
        <table class="numbers">
          <tbody>
            <tr><th scope="row">total</th><td>{formatValue(m.value[i], type.unit)}</td><td>{formatShare(m.value[i], m.value[0])}</td></tr>
            {!p.selfless && <tr><th scope="row">self</th><td>{formatValue(m.self[i], type.unit)}</td><td>{formatShare(m.self[i], m.value[0])}</td></tr>}
          </tbody>
        </table>
      )}
    </div>
  );
}

function DiffNumbers(p: { m: Model; i: number }) {
  const { m, i } = p;
  const type = flame.value.data!.type;
  const rows: [string, number, number][] = [
    ["total", m.base![i] * m.scale.base, m.value[i] * m.scale.now],
    ["self", m.baseSelf![i] * m.scale.base, m.self[i] * m.scale.now],
  ];
  return (
    <table class="numbers">
      <thead><tr><td /><th scope="col">base</th><th scope="col">now</th><th scope="col">delta</th><td /></tr></thead>
      <tbody>
        {rows.map(([label, base, now]) => (
          <tr key={label}>
            <th scope="row">{label}</th>
            <td>{scaledText(base, type)}</td>
            <td>{scaledText(now, type)}</td>
            <td>{deltaText(now - base, type)}</td>
            <td>{formatChange(now, base)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
