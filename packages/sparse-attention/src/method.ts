import { OptionError } from '@filigree/core-tensor';
import type { AttentionPolicy } from './selector.js';

export type OptionValue = number | string | boolean;

/** Options by name, as JSON and the command line give them. */
export type MethodOptions = Readonly<Record<string, OptionValue>>;

/** Defaults with their literal types forgotten: what a method is made of. */
export type Widened<O> = {
  readonly [Name in keyof O]: O[Name] extends number ? number : O[Name] extends boolean ? boolean : string;
};

/** One published method. Docs, CLI, evaluation and tests enumerate the list of them; nothing is listed twice by hand. */
export interface AttentionMethod {
  readonly id: string;
  readonly title: string;
  readonly paper: string;
  /** Where the method applies; a decode method of a prompt of one token is none of a prompt. */
  readonly phase: 'prefill' | 'decode' | 'both';
  /** What a pretrained model needs for it: nothing, calibration (without which the defaults are a guess), or training of the model. */
  readonly training: 'none' | 'calibration' | 'full';
  /** What its plans are made of. */
  readonly emits?: string | undefined;
  /** Defaults, which also say what types the options have. */
  readonly options: MethodOptions;
  /**
   * The method with these options, the rest at their defaults.
   * @throws OptionError naming an unknown option, one of another type than its default, or one out of range.
   */
  create(options?: MethodOptions): AttentionPolicy;
}

/** A method whose `policy` gets every option, checked for name and type; ranges are its own to check. */
export function defineMethod<const O extends MethodOptions>(
  method: Omit<AttentionMethod, 'options' | 'create'> & {
    readonly options: O;
    readonly policy: (options: Widened<O>) => AttentionPolicy;
  },
): AttentionMethod & { readonly options: O } {
  const { policy, ...rest } = method;
  return {
    ...rest,
    create(options = {}) {
      return policy(withDefaults(method.id, method.options, options));
    },
  };
}

/** Options with defaults for the rest. @throws OptionError naming an option that has no default or another type than its default. */
export function withDefaults<const O extends MethodOptions>(method: string, defaults: O, options: MethodOptions): Widened<O> {
  checkOptions(method, defaults, options);
  // The line above has compared every name and type with the defaults.
  return { ...defaults, ...options } as unknown as Widened<O>;
}

/** @throws OptionError naming an option that has no default or another type than its default. */
export function checkOptions(method: string, defaults: MethodOptions, options: MethodOptions): void {
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(defaults, name)) {
      const known = Object.keys(defaults).join(', ');
      throw new OptionError(
        `${method}: there is no option "${name}"; ${known === '' ? 'it takes none' : `there are ${known}`}`,
      );
    }
    if (typeof value !== typeof defaults[name] || Number.isNaN(value))
      throw new OptionError(`${method}: ${name} is ${String(value)}, it takes a ${typeof defaults[name]}`);
  }
}

/** @throws OptionError naming the first value that is no integer of at least `least`. */
export function checkIntegers(method: string, values: Readonly<Record<string, number>>, least = 0): void {
  for (const [name, value] of Object.entries(values)) {
    if (!Number.isInteger(value) || value < least)
      throw new OptionError(`${method}: ${name} is ${value}, it must be an integer of at least ${least}`);
  }
}

/** The numbers of an option that lists them, separated by spaces. @throws OptionError naming a word that is none. */
export function readIntegers(method: string, list: Readonly<Record<string, string>>): number[] {
  return Object.entries(list).flatMap(([name, text]) => {
    const words = text.split(' ').filter((word) => word !== '');
    const wrong = words.find((word) => !/^\d+$/.test(word));
    if (wrong !== undefined)
      throw new OptionError(`${method}: ${name} has "${wrong}", it takes whole numbers separated by spaces`);
    return words.map(Number);
  });
}

/** @throws OptionError when the value is none of the choices. */
export function checkChoice<T extends string | number>(
  method: string,
  name: string,
  value: string | number,
  choices: readonly T[],
): T {
  const found = choices.find((choice) => choice === value);
  if (found === undefined) throw new OptionError(`${method}: ${name} is ${value}, it must be one of ${choices.join(', ')}`);
  return found;
}
