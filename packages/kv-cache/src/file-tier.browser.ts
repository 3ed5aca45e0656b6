import { SinkWriteError } from '@filigree/checkpoint';
import type { KvTier } from './tier/kv-tier.js';

/** There are no paths in a browser. */
export async function fileTier(path: string): Promise<KvTier> {
  throw new SinkWriteError(`${path}: paths can be opened in Node only; use memoryTier() or a KvTier of your own here`);
}
