import { readFileSync } from 'node:fs';
import { FiligreeError } from '@filigree/core-tensor';
import {
  attentionMethods,
  denseAttention,
  parseHeadPlan,
  type AttentionMethod,
  type HeadPlan,
  type MethodOptions,
  type OptionValue,
} from '@filigree/sparse-attention';
import type { AttentionPhase } from '@filigree/transformer';
import { InvalidArgumentError } from 'commander';

/** A method of the catalogue, or `dense`, with the options that differ from its defaults. */
export interface AttentionChoice {
  readonly method: string;
  readonly options: MethodOptions;
}

/**
 * Reads `method` or `method:option=value,…`. Unknown methods and options, methods of another phase and values that the method refuses are errors
 * here, before anything is loaded.
 */
export function parseAttention(phase: AttentionPhase | 'any phase'): (text: string) => AttentionChoice {
  return (text) => {
    const [id, ...rest] = text.split(':');
    const list = rest.join(':');
    const fits = (method: AttentionMethod): boolean => ['both', phase].includes(method.phase) || phase === 'any phase';
    const methods = [denseAttention, ...attentionMethods].filter(fits);
    const method = methods.find((candidate) => candidate.id === id);
    if (!method) throw new InvalidArgumentError(`Methods of ${phase} are ${methods.map((known) => known.id).join(', ')}.`);
    const options = readOptions(method, list === '' ? [] : list.split(','));
    invalidUnless(() => method.create(options));
    return { method: id, options };
  };
}

/** Reads the plan of a file. Whether it fits the model shows when that is loaded. */
export function parseHeadPlanFile(path: string): HeadPlan {
  return readPlan(path, parseHeadPlan);
}

/** What `parse` reads in a file. */
export function readPlan<T>(path: string, parse: (json: string) => T): T {
  let json: string;
  try {
    json = readFileSync(path, 'utf8');
  } catch (error) {
    throw new InvalidArgumentError(`${error instanceof Error ? error.message : String(error)}.`);
  }
  return invalidUnless(() => parse(json));
}

/** What a library refuses is an argument of the command line that is invalid. */
export function invalidUnless<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof FiligreeError) throw new InvalidArgumentError(`${error.message}.`);
    throw error;
  }
}

/** Options of a method as `name=value`, in the types of its defaults. */
export function readOptions(
  { id, options: defaults }: Pick<AttentionMethod, 'id' | 'options'>,
  parts: readonly string[],
): MethodOptions {
  const options: Record<string, OptionValue> = {};
  for (const part of parts) {
    const [, name, value] = /^([^=]+)=(.+)$/.exec(part) ?? [];
    if (name === undefined) throw new InvalidArgumentError(`"${part}" is not option=value.`);
    if (!Object.hasOwn(defaults, name))
      throw new InvalidArgumentError(`Options of ${id} are ${Object.keys(defaults).join(', ')}, not "${name}".`);
    options[name] = readValue(value, defaults[name]);
  }
  return options;
}

/** The value that a text stands for where the default is `like`. */
function readValue(text: string, like: OptionValue): OptionValue {
  if (typeof like === 'number') return Number(text);
  if (typeof like === 'string') return text;
  if (text === 'true' || text === 'false') return text === 'true';
  throw new InvalidArgumentError(`"${text}" is neither true nor false.`);
}
