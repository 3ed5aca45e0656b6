import { OptionError } from '@filigree/core-tensor';
import type { KvMethod } from './kv-method.js';
import { adaKvMethod } from './methods/ada-kv.js';
import { pyramidKvMethod } from './methods/pyramid-kv.js';
import { randomKvMethod } from './methods/random-kv.js';
import { snapKvMethod } from './methods/snap-kv.js';
import { streamingKvMethod } from './methods/streaming-kv.js';

/** Every method that keeps less of the cache. */
export const kvMethods: readonly KvMethod[] = /* @__PURE__ */ Object.freeze([
  streamingKvMethod,
  snapKvMethod,
  pyramidKvMethod,
  adaKvMethod,
  randomKvMethod,
]);

/** @throws OptionError when there is no such method. */
export function kvMethod(id: string): KvMethod {
  const method = kvMethods.find((candidate) => candidate.id === id);
  if (method) return method;
  throw new OptionError(`there is no method "${id}" of the cache; there are ${kvMethods.map((known) => known.id).join(', ')}`);
}
