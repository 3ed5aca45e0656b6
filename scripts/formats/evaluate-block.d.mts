import type { BlockField, BlockFormula, floatFormats } from '@filigree/quantization';

export interface BlockDescription {
  readonly elements: number;
  readonly fields: readonly BlockField[];
  readonly formula: BlockFormula;
  readonly floats: typeof floatFormats;
  readonly functions: Readonly<Record<string, string>>;
  readonly tables: Readonly<Record<string, readonly number[]>>;
}

export interface EvaluatedBlock {
  readonly weights: readonly number[];
  /** `q` by element, everything else by group. */
  readonly values: Readonly<Record<string, readonly number[]>>;
}

export function blockEvaluator(description: BlockDescription): (bytes: Uint8Array) => EvaluatedBlock;
