import { fileSource, readSafetensors } from '@filigree/checkpoint';
import type { Tensor } from '@filigree/core-tensor';
import { join } from 'node:path';

/**
 * What transformers (f32) and llama.cpp say about texts, at the tokens that scripts/parity/golden.mjs chose: the likeliest 24 by the truth and
 * 8 others, with the normalisers over the whole vocabulary.
 */
export interface ParityGolden {
  /** One array per text. */
  readonly texts: readonly number[][];
  readonly perRow: number;
  readonly ids: Int32Array;
  readonly truth: Float32Array;
  readonly truthNorm: Float64Array;
  readonly llama: Float32Array;
  readonly llamaNorm: Float64Array;
  readonly llamaTop: Int32Array;
}

/** Logits at the chosen tokens, normalisers and likeliest tokens, row by row. */
export interface ChosenLogits {
  readonly chosen: Float32Array;
  readonly norm: Float64Array;
  readonly top: Int32Array;
}

/** How far one set of logits is from the truth. */
export interface Deviation {
  readonly positions: number;
  /** Mean KL(truth‖q) over the chosen tokens and "any other". */
  readonly divergence: number;
  /** Largest difference of a chosen logit. */
  readonly largest: number;
  /** Share of positions with the same likeliest token, and its standard error. */
  readonly top1: number;
  readonly top1Error: number;
}

export async function readParityGolden(id: string): Promise<ParityGolden> {
  const file = await readSafetensors(await fileSource(join(import.meta.dirname, `../goldens/parity-${id}.safetensors`)));
  const read = async (name: string): Promise<ArrayBuffer> => {
    const { source, offset, byteLength } = file.tensor(name);
    return (await source.read(offset, byteLength)).slice().buffer;
  };
  const [count, length] = file.tensor('tokens').shape;
  const tokens = new Int32Array(await read('tokens'));
  return {
    texts: Array.from({ length: count }, (_, text) => Array.from(tokens.subarray(text * length, (text + 1) * length))),
    perRow: file.tensor('ids').shape[1],
    ids: new Int32Array(await read('ids')),
    truth: new Float32Array(await read('truth')),
    truthNorm: new Float64Array(await read('truthNorm')),
    llama: new Float32Array(await read('llama')),
    llamaNorm: new Float64Array(await read('llamaNorm')),
    llamaTop: new Int32Array(await read('llamaTop')),
  };
}

/** llama.cpp's part of the golden. */
export function llamaLogits({ llama, llamaNorm, llamaTop }: ParityGolden): ChosenLogits {
  return { chosen: llama, norm: llamaNorm, top: llamaTop };
}

/** Picks from logits [rows, vocabulary] what the golden has of the rows from `firstRow`. */
export async function chooseLogits(logits: Tensor, golden: ParityGolden, firstRow: number): Promise<ChosenLogits> {
  const [rows, vocabulary] = logits.shape;
  const { perRow } = golden;
  const chosen = new Float32Array(rows * perRow);
  const [norm, top] = [new Float64Array(rows), new Int32Array(rows)];
  for (let row = 0; row < rows; row++) {
    const view = logits.view([vocabulary], row * vocabulary);
    const values = (await view.read()) as Float32Array;
    view.dispose();
    for (let index = 0; index < perRow; index++) {
      chosen[row * perRow + index] = values[golden.ids[(firstRow + row) * perRow + index]];
    }
    top[row] = values.reduce((best, value, index) => (value > values[best] ? index : best), 0);
    const largest = values[top[row]];
    norm[row] = largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0));
  }
  return { chosen, norm, top };
}

/** Compares logits of the golden's first rows with the truth. */
export function deviation(golden: ParityGolden, { chosen, norm, top }: ChosenLogits): Deviation {
  const { perRow } = golden;
  const positions = top.length;
  let [divergence, largest, agreeing] = [0, 0, 0];
  for (let row = 0; row < positions; row++) {
    let [restP, restQ] = [1, 1];
    for (let index = row * perRow; index < (row + 1) * perRow; index++) {
      const [logP, logQ] = [golden.truth[index] - golden.truthNorm[row], chosen[index] - norm[row]];
      const p = Math.exp(logP);
      divergence += p * (logP - logQ);
      restP -= p;
      restQ -= Math.exp(logQ);
      const difference = Math.abs(golden.truth[index] - chosen[index]);
      if (!(difference <= largest)) largest = difference;
    }
    // Below this the rest is rounding of the sums.
    if (restP > 1e-9 && restQ > 1e-9) divergence += restP * Math.log(restP / restQ);
    if (top[row] === golden.ids[row * perRow]) agreeing++;
  }
  const top1 = agreeing / positions;
  return {
    positions,
    divergence: divergence / positions,
    largest,
    top1,
    top1Error: Math.sqrt((top1 * (1 - top1)) / positions),
  };
}
