import { FiligreeError } from '@filigree/core-tensor';
import { attentionMethods } from '@filigree/sparse-attention';
import { InvalidArgumentError } from 'commander';

/** A method of the catalogue with the options that differ from its defaults. */
export interface AttentionChoice {
  readonly method: string;
  readonly options: Readonly<Record<string, number>>;
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
  const options: Record<string, number> = {};
  for (const part of list === '' ? [] : list.split(',')) {
    const [, name, value] = /^([^=]+)=(.+)$/.exec(part) ?? [];
    if (name === undefined) throw new InvalidArgumentError(`"${part}" is not option=value.`);
    if (!Object.hasOwn(method.options, name))
      throw new InvalidArgumentError(`Options of ${id} are ${Object.keys(method.options).join(', ')}, not "${name}".`);
    options[name] = Number(value);
  }
  try {
    method.create({ ...method.options, ...options });
  } catch (error) {
    if (error instanceof FiligreeError) throw new InvalidArgumentError(`${error.message}.`);
    throw error;
  }
  return { method: id, options };
}
