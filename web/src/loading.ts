// Answers on their way: what the fleet and the runtime page show, kept while its next version is loaded.

import { effect, signal, type Signal } from "@preact/signals";
import { Failure, type Params } from "./api";

/** Loaded is one answer: the last good one stays while the next is on its way. */
export interface Loaded<T> {
  data?: T;
  error?: Failure;
  loading: boolean;
}

/** loaded is an answer that is not there yet. */
export const loaded = <T>() => signal<Loaded<T>>({ loading: true });

/** The page asks for a token while this is true. */
export const needToken = signal(false);
/** turn grows with every refresh. */
export const turn = signal(0);
export const refresh = () => void turn.value++;

/** failed keeps what was there, with the error beside it. */
export function failed<T>(s: Signal<Loaded<T>>, err: unknown): void {
  const error = err instanceof Failure ? err : new Failure(0, String(err), "");
  if (error.status === 401) needToken.value = true;
  s.value = { ...s.peek(), error, loading: false };
}

/** load fills s with what ask answers, unless signal has ended it. */
export async function load<T>(s: Signal<Loaded<T>>, stop: AbortSignal, ask: () => Promise<T>): Promise<void> {
  s.value = { data: s.peek().data, loading: true };
  try {
    const data = await ask();
    if (!stop.aborted) s.value = { data, loading: false };
  } catch (err) {
    if (!stop.aborted) failed(s, err);
  }
}

/** fetching runs ask for s whenever what it depends on changes, and gives the earlier request up. */
export function fetching<T>(s: Signal<Loaded<T>>, params: () => Params | null, ask: (p: Params, stop: AbortSignal) => Promise<T>): void {
  effect(() => {
    void turn.value;
    const p = params();
    if (!p) return;
    const stop = new AbortController();
    void load(s, stop.signal, () => ask(p, stop.signal));
    return () => stop.abort();
  });
}
