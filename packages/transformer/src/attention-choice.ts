import { OptionError } from '@filigree/core-tensor';
import { attentionMethods, type Pattern } from '@filigree/sparse-attention';

/** A method of the catalogue with options that differ from its defaults, or a pattern of one's own. */
export type AttentionChoice =
  { readonly method: string; readonly options?: Readonly<Record<string, number>> | undefined } | Pattern;

/** Sparse attention per phase; what is left out is dense. */
export interface AttentionOptions {
  readonly prefill?: AttentionChoice | undefined;
  readonly decode?: AttentionChoice | undefined;
}

/** The pattern of a choice. @throws OptionError naming an unknown method or option. */
export function patternOf(choice: AttentionChoice | undefined, argument: string): Pattern | undefined {
  if (choice === undefined || typeof choice === 'function') return choice;
  const method = attentionMethods.find(({ id }) => id === choice.method);
  if (!method) {
    const known = attentionMethods.map(({ id }) => id).join(', ');
    throw new OptionError(`${argument}: there is no method "${choice.method}"; there are ${known}`);
  }
  for (const name of Object.keys(choice.options ?? {})) {
    if (!Object.hasOwn(method.options, name))
      throw new OptionError(
        `${argument}: ${method.id} has no option "${name}"; it takes ${Object.keys(method.options).join(', ')}`,
      );
  }
  return method.create({ ...method.options, ...choice.options });
}
