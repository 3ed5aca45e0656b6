import { OptionError } from '@filigree/core-tensor';
import type { KvMethod } from './kv-method.js';
import { adaKvMethod } from './methods/ada-kv.js';
import { capKvMethod } from './methods/cap-kv.js';
import { chunkKvMethod } from './methods/chunk-kv.js';
import { compactorMethod } from './methods/compactor.js';
import { compressKvMethod } from './methods/compress-kv.js';
import { criticalKvMethod } from './methods/critical-kv.js';
import { duoAttentionMethod } from './methods/duo-attention.js';
import { expectedAttentionMethod } from './methods/expected-attention.js';
import { finchMethod } from './methods/finch.js';
import { h2oMethod } from './methods/h2o.js';
import { keyDiffMethod } from './methods/key-diff.js';
import { knormMethod } from './methods/knorm.js';
import { kvZipMethod } from './methods/kv-zip.js';
import { lagKvMethod } from './methods/lag-kv.js';
import { pyramidKvMethod } from './methods/pyramid-kv.js';
import { randomKvMethod } from './methods/random-kv.js';
import { razorAttentionMethod } from './methods/razor-attention.js';
import { snapKvMethod } from './methods/snap-kv.js';
import { spattenMethod } from './methods/spatten.js';
import { streamingKvMethod } from './methods/streaming-kv.js';
import { tovaMethod } from './methods/tova.js';
import { unCompMethod } from './methods/un-comp.js';

/** Every method that keeps less of the cache. */
export const kvMethods: readonly KvMethod[] = /* @__PURE__ */ Object.freeze([
  streamingKvMethod,
  snapKvMethod,
  pyramidKvMethod,
  adaKvMethod,
  h2oMethod,
  tovaMethod,
  spattenMethod,
  chunkKvMethod,
  finchMethod,
  criticalKvMethod,
  unCompMethod,
  expectedAttentionMethod,
  keyDiffMethod,
  knormMethod,
  lagKvMethod,
  capKvMethod,
  compactorMethod,
  kvZipMethod,
  duoAttentionMethod,
  razorAttentionMethod,
  compressKvMethod,
  randomKvMethod,
]);

/** @throws OptionError when there is no such method. */
export function kvMethod(id: string): KvMethod {
  const method = kvMethods.find((candidate) => candidate.id === id);
  if (method) return method;
  throw new OptionError(`there is no method "${id}" of the cache; there are ${kvMethods.map((known) => known.id).join(', ')}`);
}
