import { OptionError } from '@filigree/core-tensor';
import { ggufLayout, ggufLayouts } from '../gguf/types.js';
import { assertQuantizedType } from '../quantize/encode-row.js';
import { recipe, type Recipe, type TensorPlace } from './recipes.js';
import { isQuantizable, layerOf, tensorRole, type TensorRole } from './tensor-role.js';

/** A type for the tensors whose names match; the first rule that matches a name decides. */
export interface QuantizeRule {
  /** Part of the name, or an expression. */
  readonly pattern: string | RegExp;
  readonly type: string;
}

/** Which type every tensor gets. */
export interface PlanQuantizationOptions {
  /** A recipe: `Q4_K_M`, `Q8_0`, … */
  readonly type: string;
  /** Exceptions from the recipe. */
  readonly rules?: readonly QuantizeRule[] | undefined;
  /** One type for all weights: no mix, and embeddings like the rest (default false). */
  readonly pure?: boolean | undefined;
  /** Takes weights that are quantised already, which adds their loss to the new one (default false). */
  readonly allowRequantize?: boolean | undefined;
}

/** A tensor before quantising, in terms of GGUF. */
export interface SourceTensor {
  readonly name: string;
  readonly type: string;
  /** Row-major. */
  readonly shape: readonly number[];
}

/** What happens to a tensor. */
export interface TensorPlan {
  readonly name: string;
  readonly shape: readonly number[];
  readonly role: TensorRole;
  readonly from: string;
  readonly to: string;
  /** The type that the recipe names, where rows are no whole blocks of it. */
  readonly instead?: string;
}

/** What a recipe needs to know of a model. */
export type ModelFacts = Pick<TensorPlace, 'layers' | 'queryGroup' | 'experts'>;

/** For rows that are no whole blocks of a type: the type with smaller blocks that loses no more. ggml-org/llama.cpp, src/llama-quant.cpp. */
const smallerBlocks: Readonly<Record<string, string>> = /* @__PURE__ */ (() => ({
  ...{ Q2_K: 'Q4_0', Q3_K: 'Q4_0', Q4_K: 'Q5_0', Q5_K: 'Q5_1', Q6_K: 'Q8_0', IQ4_XS: 'IQ4_NL' },
  ...{ TQ1_0: 'Q4_0', TQ2_0: 'Q4_0', Q2_0: 'Q4_0', Q1_0: 'Q4_0', NVFP4: 'MXFP4' },
}))();

/**
 * The type that each tensor gets, by the recipe and the rules.
 * @throws OptionError for an unknown type, a rule that matches nothing, or weights that are quantised already
 */
export function planQuantization(
  tensors: readonly SourceTensor[],
  facts: ModelFacts,
  options: PlanQuantizationOptions,
): TensorPlan[] {
  const chosen = recipe(options.type);
  const rules = compiledRules(options.rules ?? []);
  const tied = !tensors.some(({ name }) => tensorRole(name) === 'output');
  const used = new Set<Rule>();
  const plans = tensors.map(({ name, type, shape }): TensorPlan => {
    const role = tensorRole(name);
    const kept = { name, shape, role, from: type, to: type };
    if (!isQuantizable(name, shape) || !ggufLayouts.has(type)) return kept;
    const rule = rules.find(({ matches }) => matches(name));
    if (rule) used.add(rule);
    const wanted =
      rule?.type ?? (options.pure ? chosen.type : byRecipe(chosen, role, { tied, width: shape.at(-1) ?? 1, name, facts }));
    const to = fitting(wanted, shape.at(-1) ?? 1);
    if (to !== type && isLossy(type) && !options.allowRequantize)
      throw new OptionError(
        `quantize: "${name}" is ${type} already, and quantising it again adds its loss to the new one; take a file with float weights, or allow it: allowRequantize, --allow-requantize on the command line`,
      );
    return { ...kept, to, ...(to === wanted ? {} : { instead: wanted }) };
  });
  const unused = rules.find((rule) => !used.has(rule));
  if (unused) throw new OptionError(`quantize: the rule '${unused.source}=${unused.type}' matches no weight that is quantised`);
  return plans;
}

interface Rule {
  readonly source: string;
  readonly type: string;
  matches(name: string): boolean;
}

function compiledRules(rules: readonly QuantizeRule[]): Rule[] {
  return rules.map(({ pattern, type }) => {
    assertQuantizedType(type);
    if (pattern === '') throw new OptionError('quantize: a rule without a pattern would match every tensor');
    const expression = typeof pattern === 'string' ? undefined : new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, ''));
    return {
      source: expression ? expression.source : String(pattern),
      type,
      matches: (name) => (expression ? expression.test(name) : name.includes(String(pattern))),
    };
  });
}

interface Tensor {
  readonly name: string;
  readonly tied: boolean;
  readonly width: number;
  readonly facts: ModelFacts;
}

function byRecipe(chosen: Recipe, role: TensorRole, { name, tied, width, facts }: Tensor): string {
  const { type, rules } = chosen;
  if (!isLossy(type)) return type;
  if (role === 'output' || (role === 'embedding' && tied)) {
    if (type === 'Q8_0' || width % ggufLayout(type).elements !== 0) return 'Q8_0';
    return 'Q6_K';
  }
  // Models of 8 experts keep these at 8 bits: they are small beside the experts.
  if (facts.experts === 8 && (role === 'value' || role === 'key')) return 'Q8_0';
  if (facts.experts === 8 && role === 'attention-output')
    return ['Q2_K', 'Q3_K', 'Q4_K', 'IQ4_NL', 'IQ4_XS'].includes(type) && chosen.id !== 'Q3_K_L' ? 'Q5_K' : type;
  const rule = rules[role];
  if (typeof rule !== 'function') return rule ?? type;
  return rule({ ...facts, layer: layerOf(name) ?? 0 }) ?? type;
}

function fitting(type: string, width: number): string {
  const fits = (candidate: string): boolean => width % ggufLayout(candidate).elements === 0;
  if (fits(type)) return type;
  const smaller = Object.hasOwn(smallerBlocks, type) ? smallerBlocks[type] : type;
  return fits(smaller) ? smaller : 'F16';
}

/** Whether the type holds codes rather than floats. */
function isLossy(type: string): boolean {
  return ggufLayout(type).elements > 1;
}
