import type { WeightTypeLayout } from '../gguf/types.js';

/** What the codes of a grouped type stand for. */
export type GroupedKind = 'INT2' | 'INT3' | 'INT4' | 'INT8' | 'NF4' | 'FP4' | 'E4M3' | 'E5M2';

/**
 * Weights of checkpoints that are no GGUF. A row is blocks of `group` weights: `[f32 scale][f32 offset][codes]` of INT types, which are
 * scale · code + offset, `[f32 scale][codes]` of the others, which are scale · level. What other formats hold is brought to these exactly: an
 * f16 or bf16 scale times a small integer fits an f32, and a zero point z is the offset −scale · z.
 *
 * Per 32 weights the codes are: INT2 eight bytes of four consecutive ones; INT3 the same of the lower two bits, then four bytes of the third
 * ones; INT4, NF4 and FP4 sixteen bytes, the first half low, the second high; the others bytes. INT8 codes are signed, stored plus 128.
 */
export interface GroupedType extends WeightTypeLayout {
  readonly kind: GroupedKind;
  readonly bits: 2 | 3 | 4 | 8;
}

/** Weights that share a scale. Larger groups, whole rows and tensors repeat theirs. */
export const groupSizes = [32, 64, 128] as const;
export type GroupSize = (typeof groupSizes)[number];

const kinds: readonly (readonly [kind: GroupedKind, bits: GroupedType['bits']])[] = [
  ['INT2', 2],
  ['INT3', 3],
  ['INT4', 4],
  ['INT8', 8],
  ['NF4', 4],
  ['FP4', 4],
  ['E4M3', 8],
  ['E5M2', 8],
];

/** Ids of GGUF types are below. */
const firstId = 256;

/** Every grouped type: `INT4_G128`, … */
export const groupedTypes: readonly GroupedType[] = /* @__PURE__ */ kinds.flatMap(([kind, bits], index) =>
  groupSizes.map((elements, size) => ({
    name: `${kind}_G${elements}`,
    id: firstId + index * groupSizes.length + size,
    elements,
    bytes: (kind.startsWith('INT') ? 8 : 4) + (elements * bits) / 8,
    kind,
    bits,
  })),
);

const byName: ReadonlyMap<string, GroupedType> = /* @__PURE__ */ new Map(groupedTypes.map((type) => [type.name, type]));

/** The grouped type of that name; undefined when it is none. */
export function groupedType(name: string): GroupedType | undefined {
  return byName.get(name);
}

/** Whether levels are integers with an offset, rather than floats of a table. */
export function isInteger({ kind }: GroupedType): boolean {
  return kind.startsWith('INT');
}
