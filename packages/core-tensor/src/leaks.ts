import type { Storage } from './storage.js';

let reported = false;

/** Collected without `dispose()`: the storage is released all the same. */
const leaked = new FinalizationRegistry<Storage>((storage) => {
  storage.release();
  if (reported || !inDevelopment()) return;
  reported = true;
  console.warn(
    `filigree: a tensor of ${storage.bytes} bytes was garbage-collected without dispose(); its memory was held until now. ` +
      'Dispose tensors, or make them inside scope(). Further ones are not reported.',
  );
});

export function watchForLeak(tensor: object, storage: Storage): void {
  leaked.register(tensor, storage, tensor);
}

export function forgetLeak(tensor: object): void {
  leaked.unregister(tensor);
}

/** `NODE_ENV=development`; there is no `process` in browsers. */
function inDevelopment(): boolean {
  const { process } = globalThis as { process?: { env?: Readonly<Record<string, string | undefined>> } };
  return process?.env?.['NODE_ENV'] === 'development';
}
