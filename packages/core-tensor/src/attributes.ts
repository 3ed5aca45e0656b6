import { OptionError } from './errors.js';

/** One attribute of an op: a number, a flag, one of a list of names, or a list of numbers. */
export type AttributeSpec =
  | { readonly type: 'number'; readonly default?: number }
  | { readonly type: 'boolean'; readonly default?: boolean }
  | { readonly type: 'enum'; readonly values: readonly string[]; readonly default?: string }
  | { readonly type: 'numbers'; readonly default?: readonly number[] };

export type AttributeSpecs = Readonly<Record<string, AttributeSpec>>;
export type AttributeValue = number | boolean | string | readonly number[];

type ValueOf<S extends AttributeSpec> = S extends { type: 'number' }
  ? number
  : S extends { type: 'boolean' }
    ? boolean
    : S extends { type: 'enum'; values: readonly (infer V)[] }
      ? V
      : readonly number[];

/** Attributes as kernels see them: every one present. */
export type Attributes<A extends AttributeSpecs> = { readonly [K in keyof A]: ValueOf<A[K]> };
/** Attributes as callers give them: those with a default may be left out. */
export type AttributeInput<A extends AttributeSpecs> = {
  readonly [K in keyof A as A[K] extends { default: unknown } ? never : K]: ValueOf<A[K]>;
} & { readonly [K in keyof A as A[K] extends { default: unknown } ? K : never]?: ValueOf<A[K]> | undefined };

/** Every call of an op walks its specs: the list is made once. */
const entries = new WeakMap<AttributeSpecs, [string, AttributeSpec][]>();

function entriesOf(specs: AttributeSpecs): [string, AttributeSpec][] {
  let list = entries.get(specs);
  if (!list) {
    list = Object.entries(specs);
    entries.set(specs, list);
  }
  return list;
}

/** Fills defaults and rejects unknown, missing and mistyped attributes with an {@link OptionError} naming them. */
export function resolveAttributes(
  op: string,
  specs: AttributeSpecs,
  given: Readonly<Record<string, AttributeValue | undefined>>,
): Record<string, AttributeValue> {
  for (const name in given) {
    if (!Object.hasOwn(specs, name))
      throw new OptionError(`${op}: unknown attribute '${name}'; it takes ${Object.keys(specs).join(', ') || 'none'}`);
  }
  const resolved: Record<string, AttributeValue> = {};
  for (const [name, spec] of entriesOf(specs)) {
    const value = given[name] ?? spec.default;
    if (value === undefined) throw new OptionError(`${op}: attribute '${name}' is missing`);
    resolved[name] = checkValue(op, name, spec, value);
  }
  return resolved;
}

function checkValue(op: string, name: string, spec: AttributeSpec, value: AttributeValue): AttributeValue {
  switch (spec.type) {
    case 'number':
      if (typeof value !== 'number')
        throw new OptionError(`${op}: attribute '${name}' is a number, got ${JSON.stringify(value)}`);
      return value;
    case 'boolean':
      if (typeof value !== 'boolean')
        throw new OptionError(`${op}: attribute '${name}' is true or false, got ${JSON.stringify(value)}`);
      return value;
    case 'enum':
      if (typeof value !== 'string' || !spec.values.includes(value)) {
        throw new OptionError(`${op}: attribute '${name}' is one of ${spec.values.join(', ')}, got ${JSON.stringify(value)}`);
      }
      return value;
    case 'numbers':
      if (!isNumberList(value))
        throw new OptionError(`${op}: attribute '${name}' is a list of numbers, got ${JSON.stringify(value)}`);
      return value;
  }
}

function isNumberList(value: AttributeValue): value is readonly number[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'number');
}

/**
 * Attributes as the flat f64 list the addon receives, in declared order: numbers as they are, flags as 0 or 1, names as their
 * index in the declared list, lists as their length followed by their items.
 */
export function flattenAttributes(specs: AttributeSpecs, attributes: Readonly<Record<string, AttributeValue>>): number[] {
  const flat: number[] = [];
  for (const [name, spec] of entriesOf(specs)) {
    const value = attributes[name];
    if (spec.type === 'number') flat.push(value as number);
    else if (spec.type === 'boolean') flat.push(value ? 1 : 0);
    else if (spec.type === 'enum') flat.push(spec.values.indexOf(value as string));
    else {
      const items = value as readonly number[];
      flat.push(items.length, ...items);
    }
  }
  return flat;
}
