import { OptionError } from '@filigree/core-tensor';
import { attentionMethod } from './catalogue.js';
import type { MethodOptions, OptionValue } from './method.js';

/** Version of the JSON of a {@link HeadPlan}. */
export const headPlanVersion = 1;

/** A method of the catalogue, or `dense`, with the options that differ from its defaults. */
export interface HeadChoice {
  readonly method: string;
  readonly options: MethodOptions;
}

/** The shape of a model that a plan is for. */
export interface PlannedModel {
  readonly name: string;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
}

/** A method and options for every query head of every layer, as calibration finds them. Plain JSON. */
export interface HeadPlan {
  readonly version: typeof headPlanVersion;
  readonly model: PlannedModel;
  /** How the plan was found: method, budget, texts, measured figures. */
  readonly calibration: Readonly<Record<string, OptionValue>>;
  /** [layers] of [heads]. */
  readonly layers: readonly { readonly heads: readonly HeadChoice[] }[];
}

/** Heads of a layer that share a choice and so run together. */
export interface HeadGroup extends HeadChoice {
  /** Query heads, ascending. */
  readonly heads: readonly number[];
}

/** The same choice for all heads of a layer. */
export function layerPlan(
  model: PlannedModel,
  choice: (layer: number) => HeadChoice,
  calibration: HeadPlan['calibration'] = {},
): HeadPlan {
  const layers = Array.from({ length: model.layers }, (_, layer) => ({
    heads: Array<HeadChoice>(model.heads).fill(choice(layer)),
  }));
  return { version: headPlanVersion, model, calibration, layers };
}

/**
 * Groups of a layer's heads with the same choice, in the order of their first heads. Options written in another order are the same.
 * @throws OptionError when the plan has no such layer.
 */
export function headGroups(plan: HeadPlan, layer: number): HeadGroup[] {
  if (!(layer in plan.layers)) throw new OptionError(`head plan: layer is ${layer}, the plan has ${plan.layers.length}`);
  const groups = new Map<string, HeadChoice & { heads: number[] }>();
  for (const [head, choice] of plan.layers[layer].heads.entries()) {
    const options = Object.entries(choice.options).sort(([a], [b]) => (a < b ? -1 : 1));
    const key = JSON.stringify([choice.method, options]);
    const group = groups.get(key) ?? { ...choice, heads: [] };
    groups.set(key, group);
    group.heads.push(head);
  }
  return [...groups.values()];
}

/** JSON of a plan, one line a layer. */
export function formatHeadPlan(plan: HeadPlan): string {
  const { layers, ...head } = plan;
  const start = JSON.stringify(head).slice(0, -1);
  return `${start},"layers":[\n${layers.map((layer) => JSON.stringify(layer)).join(',\n')}\n]}\n`;
}

/**
 * Reads a plan and checks all of it: version, counts, and that every method takes its options. With `model`, also that it was made for that
 * shape: the name may differ, as a model has many file names, but layers and heads may not.
 *
 * @throws OptionError naming what is wrong and where.
 */
export function parseHeadPlan(json: string, model?: Omit<PlannedModel, 'name'>): HeadPlan {
  const value = readJson(json);
  const fail = (message: string): never => {
    throw new OptionError(`head plan: ${message}`);
  };
  if (!isRecord(value)) return fail('it is no JSON object');
  if (value.version !== headPlanVersion)
    return fail(`version is ${JSON.stringify(value.version)}, this reads ${headPlanVersion}`);
  const planned = plannedModel(value.model, fail);
  if (model) {
    for (const name of ['layers', 'heads', 'kvHeads'] as const) {
      if (planned[name] !== model[name])
        return fail(`it was made for ${planned[name]} ${name} (${planned.name}), the model has ${model[name]}`);
    }
  }
  const calibration = optionsOf(value.calibration ?? {}, 'calibration', fail);
  const { layers } = value;
  if (!Array.isArray(layers) || layers.length !== planned.layers)
    return fail(`layers has ${Array.isArray(layers) ? layers.length : 'no'} entries, model.layers is ${planned.layers}`);
  const read = layers.map((layer: unknown, index) => ({
    heads: readHeads(isRecord(layer) ? layer.heads : undefined, `layers[${index}]`, planned.heads, fail),
  }));
  return { version: headPlanVersion, model: planned, calibration, layers: read };
}

type Fail = (message: string) => never;

function readJson(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    throw new OptionError('head plan: it is no JSON', { cause: error });
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function plannedModel(value: unknown, fail: Fail): PlannedModel {
  if (!isRecord(value)) return fail('model is missing');
  const { name, layers, heads, kvHeads } = value;
  if (typeof name !== 'string') return fail('model.name is missing');
  const count = (field: string, number: unknown): number =>
    typeof number === 'number' && Number.isInteger(number) && number > 0
      ? number
      : fail(`model.${field} is ${JSON.stringify(number)}, it must be a positive integer`);
  return { name, layers: count('layers', layers), heads: count('heads', heads), kvHeads: count('kvHeads', kvHeads) };
}

function optionsOf(value: unknown, where: string, fail: Fail): MethodOptions {
  if (!isRecord(value)) return fail(`${where} is no object`);
  const options: Record<string, OptionValue> = {};
  for (const [name, option] of Object.entries(value)) {
    if (typeof option !== 'number' && typeof option !== 'string' && typeof option !== 'boolean')
      return fail(`${where}.${name} is ${JSON.stringify(option)}, it must be a number, a string or a boolean`);
    options[name] = option;
  }
  return options;
}

function readHeads(value: unknown, where: string, heads: number, fail: Fail): HeadChoice[] {
  if (!Array.isArray(value) || value.length !== heads)
    return fail(`${where}.heads has ${Array.isArray(value) ? value.length : 'no'} entries, model.heads is ${heads}`);
  return value.map((choice: unknown, head) => {
    const at = `${where}.heads[${head}]`;
    if (!isRecord(choice) || typeof choice.method !== 'string') return fail(`${at}.method is missing`);
    const options = optionsOf(choice.options ?? {}, `${at}.options`, fail);
    try {
      attentionMethod(choice.method).create(options);
    } catch (error) {
      if (error instanceof OptionError) return fail(`${at}: ${error.message}`);
      throw error;
    }
    return { method: choice.method, options };
  });
}
