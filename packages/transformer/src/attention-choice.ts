import { OptionError } from '@filigree/core-tensor';
import { attentionMethod, type AttentionPolicy, type MethodOptions, type Pattern } from '@filigree/sparse-attention';

/** A method of the catalogue with options that differ from its defaults. */
export interface MethodChoice {
  readonly method: string;
  readonly options?: MethodOptions | undefined;
}

/** A method of the catalogue, or a pattern of one's own. */
export type AttentionChoice = MethodChoice | Pattern;

/** Sparse attention per phase; what is left out is dense. */
export interface AttentionOptions {
  readonly prefill?: AttentionChoice | undefined;
  readonly decode?: AttentionChoice | undefined;
}

/** The pattern of a choice. @throws OptionError naming an unknown method or option. */
export function patternOf(choice: AttentionChoice | undefined, argument: string): Pattern | undefined {
  if (choice === undefined || typeof choice === 'function') return choice;
  const policy = policyOf(choice, argument);
  if (policy.kind === 'pattern') return policy.pattern;
  throw new OptionError(`${argument}: ${choice.method} looks at queries and keys, which models do not run yet`);
}

function policyOf({ method, options }: MethodChoice, argument: string): AttentionPolicy {
  try {
    return attentionMethod(method).create(options);
  } catch (error) {
    if (error instanceof OptionError) throw new OptionError(`${argument}: ${error.message}`, { cause: error });
    throw error;
  }
}
