import { useEffect, useRef, useState } from "preact/hooks";
import { palette, token } from "../theme";
import { Boxes, type Window } from "./cull";
import { findZoom, nodeAt, walk, zoomKey, type Model, type Step } from "./model";
import { paint, rowAt, rowHeight, rowTop, type Scene } from "./paint";
import { Tooltip, type TipAt } from "./tooltip";

interface Props {
  id?: string;
  model: Model;
  marks: Uint8Array | null;
  zoom: number; // node
  up: boolean;
  label: string;
  selfless?: boolean; // self means nothing here (callers)
  onZoom: (node: number) => void;
  onFocus: (node: number) => void;
  onEscape: () => void;
  onSelect?: (node: number) => void;
}

/** windowOf is the part of the width that a zoomed node fills. */
export function windowOf(m: Model, zoom: number): Window {
  return { x0: m.start[zoom], x1: m.start[zoom] + m.width[zoom] };
}

/** FlameCanvas draws a model in a scrolling box; the canvas is only as large as what is seen of it. */
export function FlameCanvas(p: Props) {
  const scroller = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const boxes = useRef(new Boxes());
  const [size, setSize] = useState({ width: 0, height: 0 });
  const [selected, setSelected] = useState(-1);
  const [tip, setTip] = useState<TipAt | null>(null);
  const colours = palette.value;
  const content = Math.max(p.model.rows * rowHeight, size.height);

  const scene = (): Scene | null => {
    if (!colours || !scroller.current || !size.width) return null;
    return {
      model: p.model, palette: colours, marks: p.marks, window: windowOf(p.model, p.zoom), up: p.up, selected, hovered: tip?.byKey ? -1 : (tip?.node ?? -1),
      width: size.width, height: size.height, scroll: scroller.current.scrollTop, contentHeight: content, font: token("--mono"),
    };
  };
  const draw = () => {
    const s = scene(), c = canvas.current;
    if (!s || !c) return;
    const dpr = devicePixelRatio || 1;
    const w = Math.round(s.width * dpr), h = Math.round(s.height * dpr);
    if (c.width !== w || c.height !== h) {
      c.width = w;
      c.height = h;
    }
    const ctx = c.getContext("2d", { alpha: false })!;
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    const t0 = performance.now();
    paint(ctx, s, boxes.current);
    c.dataset.drawMs = (performance.now() - t0).toFixed(2);
    c.dataset.boxes = String(boxes.current.n);
  };

  useEffect(() => {
    const el = scroller.current!;
    const watch = new ResizeObserver(() => setSize({ width: el.clientWidth, height: el.clientHeight }));
    watch.observe(el);
    const restored = () => setSize((s) => ({ ...s })); // the browser took the canvas away and gave it back empty: draw again
    canvas.current!.addEventListener("contextrestored", restored);
    return () => watch.disconnect();
  }, []);
  const before = useRef(p.model);
  useEffect(() => {
    // Newer data of the same view: what was chosen stays chosen where it is still there.
    const old = before.current;
    if (old === p.model) return;
    before.current = p.model;
    const key = selected >= 0 && selected < old.n ? zoomKey(old, selected) : null;
    const node = key === null ? -1 : key === "" ? 0 : findZoom(p.model, key) || -1;
    setSelected(node);
    setTip(tip?.byKey && node >= 0 ? tipAt(node) : null);
  }, [p.model]);
  useEffect(() => {
    // Upwards the root is at the bottom: begin there.
    if (p.up && scroller.current) scroller.current.scrollTop = scroller.current.scrollHeight;
  }, [p.up, p.model, size.height]);
  useEffect(draw);

  const hit = (e: { offsetX: number; offsetY: number }): number => {
    const s = scene();
    if (!s) return -1;
    const x = s.window.x0 + (e.offsetX / s.width) * (s.window.x1 - s.window.x0);
    const row = rowAt(s, e.offsetY);
    return row < 0 || row >= p.model.rows ? -1 : nodeAt(p.model, row, x);
  };
  const select = (node: number) => {
    const s = scene();
    if (!s || node < 0) return;
    setSelected(node);
    p.onSelect?.(node);
    const y = rowTop(s, p.model.depth[node]);
    const el = scroller.current!;
    if (y < 0) el.scrollTop += y;
    else if (y + rowHeight > s.height) el.scrollTop += y + rowHeight - s.height;
    setTip(tipAt(node));
  };
  /** tipAt is where the tooltip of a frame chosen by key belongs: below it. */
  const tipAt = (node: number): TipAt | null => {
    const s = scene();
    if (!s) return null;
    const scale = s.width / (s.window.x1 - s.window.x0);
    const x = Math.max(0, (p.model.start[node] - s.window.x0) * scale);
    return { node, x, y: rowTop(s, p.model.depth[node]) + rowHeight, byKey: true };
  };
  const onKeyDown = (e: KeyboardEvent) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const step = arrows(p.up)[e.key];
    if (step) select(selected < 0 ? p.zoom : walk(p.model, selected, step, p.zoom));
    else if (e.key === "Enter" && selected >= 0) p.onZoom(selected);
    else if (e.key === "f" && selected > 0) p.onFocus(selected);
    else if (e.key === "Escape") {
      setTip(null);
      if (selected >= 0 && tip) setSelected(-1);
      else p.onEscape();
    } else return;
    e.preventDefault();
  };
  return (
    <div class="flame-box">
      <div class="flame-scroll" ref={scroller} onScroll={() => (setTip(null), draw())}>
        <canvas
          id={p.id} ref={canvas} tabIndex={0} role="img" aria-label={p.label} class="flame"
          onMouseMove={(e) => {
            const node = hit(e);
            setTip(node < 0 ? null : { node, x: e.offsetX + 12, y: e.offsetY + 16, byKey: false });
          }}
          onMouseLeave={() => setTip(null)}
          onClick={(e) => {
            const node = hit(e);
            if (node < 0) return;
            setSelected(node);
            p.onSelect?.(node);
            p.onZoom(node);
          }}
          onKeyDown={onKeyDown}
          onBlur={() => setTip(null)}
        />
        <div class="flame-space" ref={(el) => void (el && (el.style.height = `${Math.max(0, content - size.height)}px`))} />
      </div>
      {tip && tip.node < p.model.n && <Tooltip model={p.model} at={tip} width={size.width} height={size.height} selfless={p.selfless} />}
      <span class="sr" aria-live="polite">{tip?.byKey ? p.model.names[p.model.name[tip.node]] : ""}</span>
    </div>
  );
}

function arrows(up: boolean): Record<string, Step> {
  return { ArrowLeft: "prev", ArrowRight: "next", ArrowUp: up ? "child" : "parent", ArrowDown: up ? "parent" : "child" };
}
