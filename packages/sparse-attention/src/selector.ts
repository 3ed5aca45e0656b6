import type { Backend, Tensor } from '@filigree/core-tensor';
import type { Pattern } from './mask.js';
import type { QueryLayout } from './ops/check.js';
import type { SelectionMemories } from './reuse/selection-memory.js';

/** Options of the executors that a method may set. */
export interface ExecutorOptions {
  /** A tile whose scores all lie this far (natural logarithm) below the running maximum is left out; 0: never. */
  readonly pvSkip?: number | undefined;
  /** Keeps the n largest of every m scores of a row outside of the first `sinks` and the last `recent` keys. */
  readonly scoreNM?: { readonly n: number; readonly m: 4 | 8; readonly sinks: number; readonly recent: number } | undefined;
}

/** What a layer is, before any token: what state is made for. */
export interface LayerInfo {
  readonly backend: Backend;
  readonly layer: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Pages of the cache the layer's keys lie in, and entries per page. */
  readonly pages: number;
  readonly pageSize: number;
  readonly dtype: 'f32' | 'f16';
}

/** What a selector sees of one step of one layer. Keys of the step are in the cache already. */
export interface SelectContext {
  readonly layer: number;
  readonly layers: number;
  /** [B, Hq, Lq, D] or, with `blhd`, [B, Lq, Hq, D]; rotated. */
  readonly q: Tensor;
  readonly queryLayout: QueryLayout;
  /** [pages, Hk, P, D]. */
  readonly k: Tensor;
  readonly v: Tensor;
  readonly table: Tensor | undefined;
  /** i32 [B, 2]: rows (lenQ, lenK). */
  readonly lengths: Tensor;
  /** i32 [B]: lenK alone. */
  readonly lengthsK: Tensor;
  /** The same numbers on the host, where they are known: not in a step that is recorded. */
  readonly lenQ: readonly number[];
  readonly lenK: readonly number[] | undefined;
  /** Positions that the whole prompt has; undefined when decoding. */
  readonly promptEnd: readonly number[] | undefined;
  /** i32 [Hq]: query head → key-value head; without it, contiguous groups. */
  readonly kvMap: Tensor | undefined;
  /** kvMap on the host; plans of patterns are made there. */
  readonly kvHeadOf?: readonly number[] | undefined;
  readonly scale: number;
  readonly softcap: number;
  /** Rotates rows [B, Lq, Hq, D] or [B, Hq, Lq, D] as `q` by so many positions more, i32 [Lq]; undefined when the layer has no rotary positions. */
  readonly rotate: ((q: Tensor, by: Tensor) => Tensor) | undefined;
  /** What earlier layers and steps selected, of the same heads by the same method; without it nothing is used again. */
  readonly memory?: SelectionMemories | undefined;
}

/** Attention over some keys, or its result; parts of a selection see disjoint keys and are merged. */
export type SelectionPart =
  | { readonly plan: Tensor; readonly q?: Tensor | undefined; readonly cells?: Tensor | undefined }
  | { readonly indices: Tensor; readonly cells?: Tensor | undefined }
  | { readonly done: { readonly o: Tensor; readonly lse: Tensor }; readonly cells?: Tensor | undefined };

/** What a selector answers with. `cells` of a part, f32 [B, Hm, R]: visible cells of every row block of a mask head. */
export type Selection = 'dense' | { readonly parts: readonly SelectionPart[]; readonly options?: ExecutorOptions | undefined };

/** A dynamic method: estimates from q and k what each block of queries should see. */
export interface Selector<S = unknown> {
  /** Whether what it does depends on lengths that the host must know, so that its steps are not recorded. */
  readonly needsLengths?: boolean | undefined;
  /** State that follows the cache: page bounds, labels. */
  init?(layer: LayerInfo): S;
  /**
   * Called after the step's keys k [n, Hk, D] were written to `slots` i32 [n] of the cache's pages; slots ascend within a page. Keys at the first
   * entry of a page begin it anew: pages are used again, and state is rebuilt from the cache page by page.
   */
  append?(state: S, keys: { readonly k: Tensor; readonly pages: Tensor; readonly slots: Tensor }): void;
  /** Queues the estimate; nothing is read back by the host. */
  select(context: SelectContext, state: S): Selection;
  /**
   * In place of `select`, where the host has to look at numbers first: every layer of such a step waits for the device, and it is not recorded. Runs outside of scopes;
   * the caller disposes the tensors that it returns, and there are no others.
   */
  selectAsync?(context: SelectContext, state: S): Promise<Selection>;
  /** What the method approximates, where that is not plain attention: recall is measured against it. */
  dense?(context: SelectContext): Selection;
  /** Tensors [pages, …] of the state, one row a page of the cache: rows are copied when a fork writes into a page that it shares. */
  pages?(state: S): readonly Tensor[];
  /** Releases the state. */
  dispose?(state: S): void;
}

/** What a method comes to for its options: a mask of the shape alone, a selector, or dense attention with options of the executor. */
export type AttentionPolicy =
  | {
      readonly kind: 'pattern';
      readonly pattern: Pattern;
      readonly options?: ExecutorOptions | undefined;
      /** First layer that has the pattern; those before it are dense. */
      readonly fromLayer?: number | undefined;
    }
  | { readonly kind: 'selector'; readonly selector: Selector }
  | { readonly kind: 'executor'; options(lenK: number): ExecutorOptions };
