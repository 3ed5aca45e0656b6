import {
  DTypeError,
  ExecutionError,
  formatShape,
  OptionError,
  ShapeError,
  type TensorMeta,
  type Tolerance,
} from '@filigree/core-tensor';
import type { PackedFields } from '../pack-plan.js';

/** Order of the axes of q and o: [B,Hq,Lq,D] or [B,Lq,Hq,D]. */
export const queryLayouts = ['bhld', 'blhd'] as const;
export type QueryLayout = (typeof queryLayouts)[number];

/** What products are made of: f32, or numbers rounded to bfloat16 whose products are summed in f32. */
export const precisions = ['f32', 'bf16'] as const;
export type Precision = (typeof precisions)[number];

/**
 * How far a kernel may be from the reference. One rounding of a weight may go the other way in `bf16`, which moves a row by up to 2^−9 of the
 * distance of two values; those of the cases are in ±8.
 */
export function attentionTolerance({ precision }: { readonly precision?: unknown }): Record<'o' | 'lse', Tolerance> {
  if (precision === 'bf16') return { o: { absolute: 2 ** -5, relative: 1e-4 }, lse: { absolute: 2 ** -7, relative: 1e-5 } };
  return { o: { absolute: 5e-5, relative: 1e-4 }, lse: { absolute: 1e-4, relative: 1e-5 } };
}

/** Checks q, k, v and the page table of an executor; returns the shapes of its outputs. */
export function attentionOutputs(
  op: string,
  { q, k, v, table }: { q: TensorMeta; k: TensorMeta; v: TensorMeta; table?: TensorMeta | undefined },
  layout: string,
): { o: TensorMeta; lse: TensorMeta } {
  for (const [name, meta] of Object.entries({ q, k, v })) {
    if (meta.shape.length !== 4) throw new ShapeError(`${op}: ${name} is ${formatShape(meta.shape)}, it takes four axes`);
  }
  if (q.dtype !== 'f32') throw new DTypeError(`${op}: q is ${q.dtype}, it takes f32`);
  if (k.dtype !== 'f32' && k.dtype !== 'f16') throw new DTypeError(`${op}: k is ${k.dtype}, it takes f32 or f16`);
  if (v.dtype !== k.dtype) throw new DTypeError(`${op}: v is ${v.dtype}, k ${k.dtype}`);
  if (k.shape[3] !== q.shape[3] || v.shape[0] !== k.shape[0] || v.shape[1] !== k.shape[1] || v.shape[2] !== k.shape[2]) {
    throw new ShapeError(
      `${op}: q ${formatShape(q.shape)}, k ${formatShape(k.shape)} and v ${formatShape(v.shape)} do not fit`,
    );
  }
  const [heads, lengthQ] = layout === 'bhld' ? [q.shape[1], q.shape[2]] : [q.shape[2], q.shape[1]];
  if (k.shape[1] === 0 && heads > 0) throw new ShapeError(`${op}: k has no heads for ${heads} query heads`);
  if (table) {
    if (table.dtype !== 'i32' || table.shape.length !== 2 || table.shape[0] !== q.shape[0]) {
      throw new ShapeError(`${op}: table is ${table.dtype} ${formatShape(table.shape)}, it takes i32 [${q.shape[0]}, pages]`);
    }
  } else if (k.shape[0] !== q.shape[0]) {
    throw new ShapeError(`${op}: k has ${k.shape[0]} pages and no table for a batch of ${q.shape[0]}`);
  }
  return {
    o: { shape: [...q.shape.slice(0, 3), v.shape[3]], dtype: 'f32' },
    lse: { shape: [q.shape[0], heads, lengthQ], dtype: 'f32' },
  };
}

/** Keys a batch element can have: the pages of its table, or its own page. */
export function keyCapacity(k: TensorMeta, table: TensorMeta | undefined): number {
  return table ? table.shape[1] * k.shape[2] : k.shape[2];
}

/** Without a map every key-value head serves the same number of query heads. */
export function checkKvMap(op: string, k: TensorMeta, heads: number, kvMap: TensorMeta | undefined): void {
  if (!kvMap) {
    if (heads % k.shape[1] !== 0)
      throw new ShapeError(`${op}: ${heads} query heads do not share ${k.shape[1]} key-value heads; give a kvMap`);
  } else if (kvMap.dtype !== 'i32' || kvMap.shape.join() !== String(heads)) {
    throw new ShapeError(`${op}: kvMap is ${kvMap.dtype} ${formatShape(kvMap.shape)}, it takes i32 [${heads}]`);
  }
}

/** A number for every key; devices bind too few arguments for a bias beside a map. */
export function checkBias(op: string, k: TensorMeta, bias: TensorMeta | undefined, kvMap: TensorMeta | undefined): void {
  if (!bias) return;
  if (bias.dtype !== 'f32' || bias.shape.join() !== k.shape.slice(0, 3).join())
    throw new ShapeError(
      `${op}: bias is ${bias.dtype} ${formatShape(bias.shape)}, it takes f32 ${formatShape(k.shape.slice(0, 3))}`,
    );
  if (kvMap)
    throw new OptionError(
      `${op}: bias and kvMap are both given; order the heads of q by their key-value heads instead of a kvMap`,
    );
}

export function checkPlanTensor(op: string, plan: TensorMeta): void {
  if (plan.dtype !== 'i32' || plan.shape.length !== 1)
    throw new DTypeError(`${op}: plan is ${plan.dtype} ${formatShape(plan.shape)}, it takes i32 [words], made by packPlan`);
}

/** @throws ExecutionError when a plan is for other queries, heads or more keys than there are. */
export function expectPlan(
  op: string,
  plan: PackedFields,
  { batch, heads, lengthQ }: { batch: number; heads: number; lengthQ: number },
  capacity: number,
): void {
  if (plan.batch !== batch || plan.headMap.length !== heads) {
    const own = `${plan.batch} elements of ${plan.headMap.length} heads`;
    throw new ExecutionError(`${op}: the plan is for ${own}, q has ${batch} of ${heads}`);
  }
  for (const length of plan.lenQ) {
    if (length < 0 || length > Math.min(lengthQ, plan.rowsPerHead * plan.blockQ))
      throw new ExecutionError(
        `${op}: the plan has ${length} queries, q has ${lengthQ}, rows are there for ${plan.rowsPerHead * plan.blockQ}`,
      );
  }
  for (const length of plan.lenK) {
    if (length < 0 || length > capacity) throw new ExecutionError(`${op}: the plan's ${length} keys exceed ${capacity}`);
  }
}
