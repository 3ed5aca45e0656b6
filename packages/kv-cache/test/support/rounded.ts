import { f16ToNumber, numberToF16, type Tensor } from '@filigree/core-tensor';
import type { RawKvType } from '@filigree/kv-cache';

/** Numbers of a tensor as pages of a type hold them; the tensor is disposed. */
export async function rounded(tensor: Tensor, dtype: RawKvType): Promise<number[]> {
  try {
    const numbers = Array.from(await tensor.readNumbers());
    return dtype === 'f16' ? numbers.map((value) => f16ToNumber(numberToF16(value))) : numbers;
  } finally {
    tensor.dispose();
  }
}
