import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

interface Props {
  label: ComponentChildren;
  title: string;
  class?: string;
  children: (close: () => void) => ComponentChildren;
}

/** Popover is a button that opens a panel below it. Escape, a click elsewhere and leaving it by Tab close it; Escape gives the focus back to the button. */
export function Popover(p: Props) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLSpanElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (!open) return;
    box.current?.querySelector<HTMLElement>(".popover button, .popover input, .popover a")?.focus();
    const away = (e: Event) => {
      if (!box.current?.contains(e.target as Node)) setOpen(false);
    };
    addEventListener("pointerdown", away);
    addEventListener("focusin", away);
    return () => {
      removeEventListener("pointerdown", away);
      removeEventListener("focusin", away);
    };
  }, [open]);
  const close = () => {
    setOpen(false);
    button.current?.focus();
  };
  return (
    <span
      class={`anchor ${p.class ?? ""}`} ref={box}
      onKeyDown={(e) => {
        if (e.key === "Escape" && open) {
          e.stopPropagation();
          close();
        }
      }}
    >
      <button ref={button} aria-expanded={open} aria-label={p.title} title={p.title} onClick={() => setOpen(!open)}>{p.label}</button>
      {open && <div class="popover" role="dialog" aria-label={p.title}>{p.children(close)}</div>}
    </span>
  );
}
