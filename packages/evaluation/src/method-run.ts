import { attentionMethod } from '@filigree/sparse-attention';
import type { AttentionOptions } from '@filigree/transformer';
import { denseRun, type MethodRun } from './record.js';

/** Where a method applies in a model: in the phases that it is for. @throws OptionError for an unknown method or option. */
export function attentionOf({ id, options }: MethodRun): AttentionOptions {
  if (id === denseRun.id) return {};
  const method = attentionMethod(id);
  method.create(options);
  const choice = { method: id, options };
  return {
    prefill: method.phase === 'decode' ? undefined : choice,
    decode: method.phase === 'prefill' ? undefined : choice,
  };
}
