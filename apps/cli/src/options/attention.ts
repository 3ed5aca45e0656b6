import { FiligreeError } from '@filigree/core-tensor';
import { attentionMethods, type MethodOptions, type OptionValue } from '@filigree/sparse-attention';
import { InvalidArgumentError } from 'commander';

/** A method of the catalogue with the options that differ from its defaults. */
export interface AttentionChoice {
  readonly method: string;
  readonly options: MethodOptions;
}

/**
 * Reads `method` or `method:option=value,…`; undefined for `dense`. Unknown methods and options and values that the method refuses are
 * errors here, before anything is loaded.
 */
export function parseAttention(text: string): AttentionChoice | undefined {
  const [id, ...rest] = text.split(':');
  const list = rest.join(':');
  if (id === 'dense' && list === '') return undefined;
  const method = attentionMethods.find((candidate) => candidate.id === id);
  if (!method) throw new InvalidArgumentError(`Methods are dense, ${attentionMethods.map((known) => known.id).join(', ')}.`);
  const options: Record<string, OptionValue> = {};
  for (const part of list === '' ? [] : list.split(',')) {
    const [, name, value] = /^([^=]+)=(.+)$/.exec(part) ?? [];
    if (name === undefined) throw new InvalidArgumentError(`"${part}" is not option=value.`);
    if (!Object.hasOwn(method.options, name))
      throw new InvalidArgumentError(`Options of ${id} are ${Object.keys(method.options).join(', ')}, not "${name}".`);
    options[name] = readValue(value, method.options[name]);
  }
  try {
    method.create(options);
  } catch (error) {
    if (error instanceof FiligreeError) throw new InvalidArgumentError(`${error.message}.`);
    throw error;
  }
  return { method: id, options };
}

/** The value that a text stands for where the default is `like`. */
function readValue(text: string, like: OptionValue): OptionValue {
  if (typeof like === 'number') return Number(text);
  if (typeof like === 'string') return text;
  if (text === 'true' || text === 'false') return text === 'true';
  throw new InvalidArgumentError(`"${text}" is neither true nor false.`);
}
