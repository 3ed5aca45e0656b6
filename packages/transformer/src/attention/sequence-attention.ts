import { fromArray, type Tensor } from '@filigree/core-tensor';
import { KvCache, type CodedCache, type StreamCache } from '@filigree/kv-cache';
import { SelectionMemory } from '@filigree/sparse-attention';
import type { ModelConfig } from '../config/model-config.js';
import { groupName, type PhaseAttention, type PolicyGroup } from './attention-choice.js';
import { AttentionMeter } from './attention-meter.js';
import { HeadRows } from './head-rows.js';
import { patternPlans, type PatternPlans, type StepSpan } from './pattern-plans.js';
import { SelectorState } from './selector-state.js';
import { StepAttention } from './step-attention.js';

/** What the attention of one sequence keeps between steps: index tensors, selectors' state beside the cache, and what was counted. */
export class SequenceAttention {
  readonly meter: AttentionMeter;
  readonly #heads: HeadRows;
  /** What was selected for steps to come, by method and heads. */
  readonly #memories = new Map<string, SelectionMemory>();
  #generation = 0;

  constructor(
    private readonly config: ModelConfig,
    private readonly cache: KvCache | StreamCache | CodedCache,
  ) {
    this.meter = new AttentionMeter(config.layers);
    this.#heads = new HeadRows(cache.backend, config.heads, config.kvHeads);
  }

  /** Lowers the patterns of a step. */
  plan(phase: PhaseAttention, span: StepSpan, { recorded }: { readonly recorded: boolean }): PatternPlans {
    return patternPlans(phase, this.config, span, { padded: recorded });
  }

  /** Puts plans on the device; the caller disposes them. */
  upload({ plans }: PatternPlans): Tensor[] {
    return plans.map((words) => fromArray(this.cache.backend, words, [words.length], 'i32'));
  }

  /**
   * Makes everything that a step needs beside its arguments, once room for its entries is reserved: states that know the entries before it, index
   * tensors. What comes after may be recorded.
   */
  prepare(phase: PhaseAttention, { units }: PatternPlans, { start, count }: StepSpan): void {
    for (const [layer, groups] of phase.entries()) {
      for (const group of groups) {
        const state = this.#state(layer, group);
        if (this.cache instanceof KvCache) state?.prepare(this.cache, start, start + count);
      }
      const parts = [...units[layer], ...groups.filter(({ policy }) => policy.kind !== 'pattern')].map(({ heads }) => heads);
      const some = parts.filter((heads) => heads !== undefined);
      for (const heads of some) {
        this.#heads.rows(heads, count);
        this.#heads.kvMap(heads);
      }
      if (some.length > 1) this.#heads.places(some, count);
    }
  }

  /** The step's attention. `lenK`: where the host knows it, which is not in a step that is recorded. */
  step(
    phase: PhaseAttention,
    { units }: PatternPlans,
    plans: readonly Tensor[],
    {
      count,
      promptEnd,
      lenK,
      recall,
    }: {
      readonly count: number;
      readonly promptEnd: number | undefined;
      readonly lenK: number | undefined;
      readonly recall: boolean;
    },
  ): StepAttention {
    const state = (layer: number, group: PolicyGroup): SelectorState | undefined => this.#state(layer, group);
    const { config } = this;
    const memory = (group: PolicyGroup): SelectionMemory => this.#memory(group);
    const parts = { config, phase, plans, units, state, memory, heads: this.#heads };
    return new StepAttention({ ...parts, count, promptEnd, lenK, recall });
  }

  /** Counts a step. `denseHeads` [layers]: heads of groups that attended densely; without a phase all of them. */
  count(
    { start, count }: StepSpan,
    step?: {
      readonly phase: PhaseAttention;
      readonly plans: PatternPlans;
      readonly denseHeads: readonly number[];
      readonly recall: boolean;
    },
  ): void {
    const { heads, windows } = this.config;
    for (const [layer, window] of windows.entries()) {
      const groups = step?.phase[layer] ?? [];
      if (!step || groups.length === 0) {
        this.meter.add(layer, { start, count, window });
        continue;
      }
      const sizes = groups.filter(({ policy }) => policy.kind !== 'pattern').map((group) => group.heads?.length ?? heads);
      const others = sizes.reduce((sum, size) => sum + size, 0);
      const dense = step.denseHeads[layer] / heads;
      this.meter.add(layer, { start, count, dense, visible: step.plans.visible[layer], open: others / heads - dense });
      if (step.recall) this.meter.addQueries(layer, count);
    }
  }

  dispose(): void {
    this.#heads.dispose();
    this.meter.dispose();
    for (const memory of this.#memories.values()) memory.dispose();
  }

  /** What a method selected in earlier steps, unless entries were taken back since. */
  #memory(group: PolicyGroup): SelectionMemory {
    const generation = this.cache instanceof KvCache ? this.cache.generation : 0;
    if (generation !== this.#generation) for (const memory of this.#memories.values()) memory.clear();
    this.#generation = generation;
    const key = groupName(group);
    const memory = this.#memories.get(key) ?? new SelectionMemory();
    this.#memories.set(key, memory);
    return memory;
  }

  /** The state of a selector for a layer, made when it is first asked for. It belongs to the pages, which forks share. */
  #state(layer: number, group: PolicyGroup): SelectorState | undefined {
    const { policy, heads } = group;
    if (policy.kind !== 'selector' || !policy.selector.init) return undefined;
    // Sequences with other caches are attended to densely.
    if (!(this.cache instanceof KvCache)) return undefined;
    const { pool, backend } = this.cache;
    const { selector } = policy;
    return pool.follow(`selector of layer ${layer}: ${groupName(group)}`, () => {
      const { layers, heads: all, kvHeads, headDim } = this.config;
      const shape = { layer, layers, heads: heads?.length ?? all, kvHeads, headDim };
      const { pages, pageSize, dtype } = pool;
      return new SelectorState(selector, pool, { backend, ...shape, pages, pageSize, dtype });
    });
  }
}
