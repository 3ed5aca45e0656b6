import { AbortError, throwIfAborted } from '@filigree/core-tensor';

/** Resolves after `milliseconds`; rejects with AbortError as soon as the signal fires. */
export function delay(milliseconds: number, signal?: AbortSignal): Promise<void> {
  throwIfAborted(signal);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, milliseconds);
    const stop = () => {
      clearTimeout(timer);
      reject(new AbortError(undefined, { cause: signal?.reason }));
    };
    signal?.addEventListener('abort', stop, { once: true });
  });
}
