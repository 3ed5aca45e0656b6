import { concat, gatherRows, keep, reduce, reshape, scope, sub, unary, type Tensor } from '@filigree/core-tensor';
import type { KvStep } from '@filigree/kv-cache';
import {
  attendByPolicy,
  attendSelection,
  attention,
  plannedAttention,
  SelectionMemory,
  takenOver,
  type AttentionPolicy,
  type Precision,
  type SelectContext,
  type SelectionMemories,
  type Selection,
} from '@filigree/sparse-attention';
import type { ModelConfig } from '../config/model-config.js';
import { groupName, type PhaseAttention, type PolicyGroup } from './attention-choice.js';
import type { CountEntry, DeviceCounts } from './attention-meter.js';
import type { HeadRows } from './head-rows.js';
import type { PatternUnit } from './pattern-plans.js';
import type { SelectorState } from './selector-state.js';

/** What a layer hands over. */
export interface LayerQueries {
  /** [1, T, Hq, D], rotated. */
  readonly q: Tensor;
  /** Pages of the cache, with the step's entries. */
  readonly k: Tensor;
  readonly v: Tensor;
  /** [T, Hk, D]: the step's keys. */
  readonly keys: Tensor;
  readonly place: KvStep;
  readonly rotate: (q: Tensor, by: Tensor) => Tensor;
  readonly precision: Precision;
}

export interface StepAttentionParts {
  readonly config: ModelConfig;
  readonly phase: PhaseAttention;
  /** Plans of the step's patterns on the device, and which heads of which layer they are for. */
  readonly plans: readonly Tensor[];
  readonly units: readonly (readonly PatternUnit[])[];
  readonly state: (layer: number, group: PolicyGroup) => SelectorState | undefined;
  /** What a group selected in earlier steps. */
  readonly memory: (group: PolicyGroup) => SelectionMemory;
  readonly heads: HeadRows;
  /** Lengths on the host; lenK is undefined in a step that is recorded. */
  readonly count: number;
  readonly lenK: number | undefined;
  readonly promptEnd: number | undefined;
  /** Whether to compare with dense attention. */
  readonly recall: boolean;
}

interface Outcome {
  readonly heads: readonly number[] | undefined;
  readonly o: Tensor;
  readonly lse: Tensor;
  /** Log-sum-exps of what the method approximates, where that is not plain attention. */
  readonly dense?: (() => Tensor) | undefined;
}

/** The attention of one step: every layer asks it once. Keeps what it counted on the device until {@link counts} takes it. */
export class StepAttention {
  /** [layers]: heads that attended densely. */
  readonly denseHeads: number[];
  readonly #entries: CountEntry[] = [];
  readonly #values: Tensor[] = [];
  /** What groups selected in earlier layers. */
  readonly #memories = new Map<string, SelectionMemory>();

  constructor(private readonly parts: StepAttentionParts) {
    this.denseHeads = new Array<number>(parts.config.layers).fill(0);
  }

  /** o [1, T, Hq, Dv] of a layer, or undefined where it is dense as a whole. */
  attend(layer: number, queries: LayerQueries, selected?: ReadonlyMap<PolicyGroup, Selection>): Tensor | undefined {
    const { phase, units, heads, recall } = this.parts;
    if (phase[layer].length === 0) return undefined;
    const outcomes = [
      ...units[layer].map((unit) => this.#planned(unit, queries)),
      ...phase[layer]
        .filter(({ policy }) => policy.kind !== 'pattern')
        .map((group) => this.#group(layer, group, queries, selected?.get(group))),
    ];
    if (recall) this.#recall(layer, outcomes, queries);
    const [first, ...others] = outcomes;
    if (others.length === 0) return first.o;
    return heads.join(outcomes.map((outcome) => ({ o: outcome.o, heads: outcome.heads ?? [] })));
  }

  /** As `attend`, once the host has selected where it has to. Outside of scopes; the caller disposes the result. */
  async attendAwaiting(layer: number, queries: LayerQueries): Promise<Tensor | undefined> {
    const selected = new Map<PolicyGroup, Selection>();
    for (const group of this.parts.phase[layer]) {
      const selector = group.policy.kind === 'selector' ? group.policy.selector : undefined;
      if (!selector?.selectAsync) continue;
      const state = this.parts.state(layer, group);
      state?.append(queries.keys, queries.place.slots);
      const context = scope(() => this.#groupContext(layer, group, queries));
      try {
        selected.set(group, await selector.selectAsync(context, state?.state));
      } finally {
        if (group.heads) context.q.dispose();
      }
    }
    return scope(() => this.attend(layer, queries, selected));
  }

  /** Counts of the step, for whoever disposes them; undefined when there are none. */
  counts(): DeviceCounts | undefined {
    if (this.#values.length === 0) return undefined;
    const values = concat(this.#values, 0);
    for (const tensor of this.#values.splice(0)) tensor.dispose();
    return { values, entries: this.#entries };
  }

  /** Releases what layers left for later ones, and counts of a step that failed. */
  dispose(): void {
    for (const memory of this.#memories.values()) memory.dispose();
    for (const tensor of this.#values.splice(0)) tensor.dispose();
  }

  #planned({ heads, plan, options }: PatternUnit, queries: LayerQueries): Outcome {
    const { k, v, place, precision } = queries;
    const result = plannedAttention(this.#queries(queries.q, heads), k, v, this.parts.plans[plan], {
      ...this.#scores(),
      ...options,
      table: place.table,
      queryLayout: 'blhd',
      precision,
    });
    return { heads, ...result };
  }

  /** @param selected what the host selected; the group's state has the step's keys then. */
  #group(layer: number, group: PolicyGroup, queries: LayerQueries, selected?: Selection): Outcome {
    const { config } = this.parts;
    const { heads, policy } = group;
    const state = this.parts.state(layer, group);
    if (!selected) state?.append(queries.keys, queries.place.slots);
    const { precision } = queries;
    const context = this.#groupContext(layer, group, queries);
    const { o, lse, cells } = selected
      ? attendSelection(context, takenOver(selected), { precision })
      : attendByPolicy(context, policy, state?.state, { precision });
    const size = heads?.length ?? config.heads;
    // Patterns do not come here: what counts cells on the host is a plan of theirs.
    if (cells === undefined || typeof cells === 'number') this.denseHeads[layer] += size;
    else for (const counted of cells) this.#count('cells', layer, counted, size / counted.shape[1] / config.heads);
    return { heads, o, lse, dense: denseOf(context, policy, precision) };
  }

  #context(layer: number, heads: readonly number[] | undefined, queries: LayerQueries): SelectContext {
    const { config, count, lenK, promptEnd } = this.parts;
    const { k, v, place, rotate } = queries;
    return {
      layer,
      layers: config.layers,
      q: this.#queries(queries.q, heads),
      queryLayout: 'blhd',
      k,
      v,
      table: place.table,
      lengths: place.spans,
      lengthsK: place.lengths,
      lenQ: [count],
      lenK: lenK === undefined ? undefined : [lenK],
      promptEnd: promptEnd === undefined ? undefined : [promptEnd],
      kvMap: heads && this.parts.heads.kvMap(heads),
      ...this.#scores(),
      rotate,
    };
  }

  #groupContext(layer: number, group: PolicyGroup, queries: LayerQueries): SelectContext {
    return { ...this.#context(layer, group.heads, queries), memory: this.#memory(group) };
  }

  #memory(group: PolicyGroup): SelectionMemories {
    const key = groupName(group);
    const step = this.#memories.get(key) ?? new SelectionMemory();
    this.#memories.set(key, step);
    return { step, sequence: this.parts.memory(group) };
  }

  #queries(q: Tensor, heads: readonly number[] | undefined): Tensor {
    return heads ? this.parts.heads.take(q, heads) : q;
  }

  #scores(): { scale: number; softcap: number } {
    const { attentionScale, attentionSoftcap } = this.parts.config;
    return { scale: attentionScale, softcap: attentionSoftcap };
  }

  /** exp(lse − dense lse) of every query and head: the mass of dense attention on the keys that were seen. */
  #recall(layer: number, outcomes: readonly Outcome[], { q, k, v, place, precision }: LayerQueries): void {
    const { config, heads: rows } = this.parts;
    const shared = { ...this.#scores(), table: place.table, lengths: place.lengths, queryLayout: 'blhd' as const, precision };
    const plain = scope(() => attention(q, k, v, shared).lse);
    const [, all, count] = plain.shape;
    for (const { heads, lse, dense } of outcomes) {
      const mass = scope(() => {
        const same = dense?.() ?? (heads ? gatherRows(reshape(plain, [all, count]), rows.rows(heads, 1)) : plain);
        return unary(sub(lse, reshape(same, lse.shape)), 'exp');
      });
      this.#count('recall', layer, mass, 1 / config.heads);
    }
  }

  #count(kind: CountEntry['kind'], layer: number, numbers: Tensor, weight: number): void {
    // One number per group in long steps; a step of one query has few anyway.
    const flat = reshape(numbers, [numbers.size]);
    const values = keep(numbers.size > 64 ? reduce(flat, 'sum', { keepDims: true }) : reshape(flat, [numbers.size]));
    this.#values.push(values);
    this.#entries.push({ kind, layer, length: values.size, weight });
  }
}

/** Dense attention as a selector means it, where it means another than the model does. */
function denseOf(context: SelectContext, policy: AttentionPolicy, precision: Precision): (() => Tensor) | undefined {
  const selector = policy.kind === 'selector' ? policy.selector : undefined;
  if (!selector?.dense) return undefined;
  const select = (own: SelectContext): Selection => selector.dense?.(own) ?? 'dense';
  return () => attendByPolicy(context, { kind: 'selector', selector: { select } }, undefined, { precision }).lse;
}
