import type { Signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { token } from "./api";

/** TokenDialog asks for the token where the server wants one. It stays in this tab's session storage. */
export function TokenDialog(p: { needed: Signal<boolean>; retry: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [text, setText] = useState("");
  const wanted = p.needed.value;
  useEffect(() => {
    if (wanted && !dialog.current?.open) dialog.current?.showModal();
    if (!wanted && dialog.current?.open) dialog.current.close();
  }, [wanted]);
  return (
    <dialog ref={dialog} aria-labelledby="token-title" onCancel={(e) => e.preventDefault()}>
      <form
        method="dialog"
        onSubmit={(e) => {
          e.preventDefault();
          token.set(text.trim());
          setText("");
          p.needed.value = false;
          p.retry();
        }}
      >
        <h2 id="token-title">This server wants a token</h2>
        <p class="note">{token.get() ? "The one that was given is not accepted. " : ""}It is what sonde serve was started with (--token-file). It stays in this tab.</p>
        <input type="password" autocomplete="off" aria-label="Token" value={text} onInput={(e) => setText(e.currentTarget.value)} />
        <button type="submit" class="primary" disabled={!text.trim()}>use it</button>
      </form>
    </dialog>
  );
}
