import { OptionError } from '@filigree/core-tensor';
import type { MethodOptions, OptionValue } from './method.js';

/** The shape of a model that a plan is for. */
export interface PlannedModel {
  readonly name: string;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
}

/** What all plans begin with, and the rest of their fields as they were read. */
export interface PlanFile {
  readonly model: PlannedModel;
  /** How the plan was found: method, texts, measured figures. */
  readonly calibration: MethodOptions;
  readonly fields: Readonly<Record<string, unknown>>;
}

/**
 * Reads the JSON of a plan of some kind and checks what all kinds have: version, the shape of the model, and how it was found. With `model`, also that it was
 * made for that shape: the name may differ, as a model has many file names, but layers and heads may not.
 *
 * @throws OptionError that begins with `kind` and names what is wrong and where.
 */
export function readPlanFile(
  kind: string,
  json: string,
  { version, model }: { readonly version: number; readonly model?: Omit<PlannedModel, 'name'> | undefined },
): PlanFile {
  const fail = (message: string): never => {
    throw new OptionError(`${kind}: ${message}`);
  };
  const value = readJson(kind, json);
  if (!isRecord(value)) return fail('it is no JSON object');
  if (value.version !== version) return fail(`version is ${JSON.stringify(value.version)}, this reads ${version}`);
  const planned = plannedModel(value.model, fail);
  for (const name of ['layers', 'heads', 'kvHeads'] as const) {
    if (model && planned[name] !== model[name])
      return fail(`it was made for ${planned[name]} ${name} (${planned.name}), the model has ${model[name]}`);
  }
  return { model: planned, calibration: optionsOf(value.calibration ?? {}, 'calibration', fail), fields: value };
}

/** Options as JSON has them. */
export function optionsOf(value: unknown, where: string, fail: (message: string) => never): MethodOptions {
  if (!isRecord(value)) return fail(`${where} is no object`);
  const options: Record<string, OptionValue> = {};
  for (const [name, option] of Object.entries(value)) {
    if (typeof option !== 'number' && typeof option !== 'string' && typeof option !== 'boolean')
      return fail(`${where}.${name} is ${JSON.stringify(option)}, it must be a number, a string or a boolean`);
    options[name] = option;
  }
  return options;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function readJson(kind: string, json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    throw new OptionError(`${kind}: it is no JSON`, { cause: error });
  }
}

function plannedModel(value: unknown, fail: (message: string) => never): PlannedModel {
  if (!isRecord(value)) return fail('model is missing');
  const { name, layers, heads, kvHeads } = value;
  if (typeof name !== 'string') return fail('model.name is missing');
  const count = (field: string, number: unknown): number =>
    typeof number === 'number' && Number.isInteger(number) && number > 0
      ? number
      : fail(`model.${field} is ${JSON.stringify(number)}, it must be a positive integer`);
  return { name, layers: count('layers', layers), heads: count('heads', heads), kvHeads: count('kvHeads', kvHeads) };
}
