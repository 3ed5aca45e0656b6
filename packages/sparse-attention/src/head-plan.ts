import { OptionError } from '@filigree/core-tensor';
import { attentionMethod } from './catalogue.js';
import type { MethodOptions, OptionValue } from './method.js';
import { isRecord, optionsOf, readPlanFile, type PlannedModel } from './plan-file.js';

/** Version of the JSON of a {@link HeadPlan}. */
export const headPlanVersion = 1;

/** A method of the catalogue, or `dense`, with the options that differ from its defaults. */
export interface HeadChoice {
  readonly method: string;
  readonly options: MethodOptions;
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
  const fail = (message: string): never => {
    throw new OptionError(`head plan: ${message}`);
  };
  const file = readPlanFile('head plan', json, { version: headPlanVersion, model });
  const { layers } = file.fields;
  if (!Array.isArray(layers) || layers.length !== file.model.layers)
    return fail(`layers has ${Array.isArray(layers) ? layers.length : 'no'} entries, model.layers is ${file.model.layers}`);
  const read = layers.map((layer: unknown, index) => ({
    heads: readHeads(isRecord(layer) ? layer.heads : undefined, `layers[${index}]`, file.model.heads, fail),
  }));
  return { version: headPlanVersion, model: file.model, calibration: file.calibration, layers: read };
}

type Fail = (message: string) => never;

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
