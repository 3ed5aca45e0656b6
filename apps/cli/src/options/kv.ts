import { kvRun, type KvMoment, type MethodRun } from '@filigree/evaluation';
import { kvMethods } from '@filigree/kv-cache';
import type { MethodOptions } from '@filigree/sparse-attention';
import { InvalidArgumentError } from 'commander';
import { invalidUnless, readOptions } from './attention.js';
import { methodList } from './methods.js';

export interface KvMethodChoice {
  readonly method: string;
  readonly options: MethodOptions;
}

/** Reads `method` or `method:option=value,…`: what is kept of the cache. */
export function parseKv(text: string): KvMethodChoice {
  const { method, options } = readKv(text, []);
  return { method, options };
}

/** A list of methods of the cache; `after=question` among the options cuts down once the question is known. */
export function parseKvMethods(text: string): MethodRun[] {
  return methodList(text).map((part) => {
    const { method, options, after } = readKv(part, ['context', 'question']);
    return invalidUnless(() => kvRun(method, options, after));
  });
}

function readKv(text: string, moments: readonly KvMoment[]): KvMethodChoice & { readonly after: KvMoment | undefined } {
  const [id, ...rest] = text.trim().split(':');
  const method = kvMethods.find((candidate) => candidate.id === id);
  if (!method)
    throw new InvalidArgumentError(`Methods of the cache are ${kvMethods.map((known) => known.id).join(', ')}, not "${id}".`);
  const parts = rest
    .join(':')
    .split(',')
    .filter((part) => part !== '');
  const isMoment = (part: string): boolean => moments.length > 0 && part.startsWith('after=');
  const after = parts.find(isMoment)?.slice('after='.length);
  const moment = moments.find((known) => known === after);
  if (after !== undefined && !moment) throw new InvalidArgumentError(`after is ${moments.join(' or ')}, not "${after}".`);
  const options = readOptions(
    method,
    parts.filter((part) => !isMoment(part)),
  );
  invalidUnless(() => method.create(options));
  return { method: id, options, after: moment };
}
