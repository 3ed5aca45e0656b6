import { basename } from 'node:path';
import { kvRun, type KvMoment, type MethodRun, type NamedKvPlan } from '@filigree/evaluation';
import { kvMethods, parseKvPlan, type KvPlan } from '@filigree/kv-cache';
import type { MethodOptions } from '@filigree/sparse-attention';
import { InvalidArgumentError } from 'commander';
import { invalidUnless, readOptions, readPlan } from './attention.js';
import { methodList } from './methods.js';

export interface KvMethodChoice {
  readonly method: string;
  readonly options: MethodOptions;
  readonly plan?: KvPlan | undefined;
}

/** Reads `method` or `method:option=value,…`: what is kept of the cache. Of a method that needs one, `plan=file` is the plan of the model's heads. */
export function parseKv(text: string): KvMethodChoice {
  const { method, options, named } = readKv(text, []);
  return { method, options, plan: named?.plan };
}

/** A list of methods of the cache; `after=question` among the options cuts down once the question is known. */
export function parseKvMethods(text: string): MethodRun[] {
  return methodList(text).map((part) => {
    const { method, options, after, named } = readKv(part, ['context', 'question']);
    return invalidUnless(() => kvRun(method, options, after, named));
  });
}

interface ReadKv {
  readonly method: string;
  readonly options: MethodOptions;
  readonly after: KvMoment | undefined;
  readonly named: NamedKvPlan | undefined;
}

function readKv(text: string, moments: readonly KvMoment[]): ReadKv {
  const [id, ...rest] = text.trim().split(':');
  const method = kvMethods.find((candidate) => candidate.id === id);
  if (!method)
    throw new InvalidArgumentError(`Methods of the cache are ${kvMethods.map((known) => known.id).join(', ')}, not "${id}".`);
  const parts = rest
    .join(':')
    .split(',')
    .filter((part) => part !== '');
  const value = (name: string): string | undefined => parts.find((part) => part.startsWith(`${name}=`))?.slice(name.length + 1);
  const after = moments.length > 0 ? value('after') : undefined;
  const moment = moments.find((known) => known === after);
  if (after !== undefined && !moment) throw new InvalidArgumentError(`after is ${moments.join(' or ')}, not "${after}".`);
  const path = method.planned ? value('plan') : undefined;
  const named = path === undefined ? undefined : { name: basename(path), plan: readPlan(path, parseKvPlan) };
  const own = parts.filter((part) => !(moment && part.startsWith('after=')) && !(named && part.startsWith('plan=')));
  const options = readOptions(method, own);
  invalidUnless(() => method.create(options, named?.plan));
  return { method: id, options, after: moment, named };
}
