import type { MethodRun } from '@filigree/evaluation';
import { denseAttention } from '@filigree/sparse-attention';
import { parseAttention } from './attention.js';

/**
 * A list of methods: `a,b:option=value,c`. What has no colon and an equals sign is a further option of the method before, so that
 * `b:x=1,y=2` may stand in a list too.
 */
export function methodList(text: string): string[] {
  const parts: string[] = [];
  for (const part of text.split(',')) {
    if (parts.length > 0 && /^[^:]+=/.test(part)) parts[parts.length - 1] += `,${part}`;
    else parts.push(part);
  }
  return parts.map((part) => part.trim());
}

/** A list of methods of attention. `dense` may be named, and always runs. */
export function parseMethods(text: string): MethodRun[] {
  return methodList(text).flatMap((part) => {
    const { method, options } = parseAttention('any phase')(part);
    return method === denseAttention.id ? [] : [{ id: method, options }];
  });
}
