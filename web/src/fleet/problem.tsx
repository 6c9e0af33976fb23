import type { Failure } from "../api";
import { refresh } from "../loading";

/** Problem says what went wrong and what cures it. */
export function Problem(p: { error: Failure; what: string }) {
  return (
    <div class="error" role="alert">
      <strong>{p.what}: {p.error.message}</strong>
      {p.error.hint && <span class="hint">{p.error.hint}</span>}
      <button onClick={refresh}>try again</button>
    </div>
  );
}
