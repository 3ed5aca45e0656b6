import type { TensorInfo } from '@filigree/checkpoint';
import type { ConvertedWeight } from '@filigree/quantization';

/** A tensor of a checkpoint under the name that GGUF gives it; `type` is a GGUF type. */
export interface WeightInfo extends TensorInfo {
  readonly type: string;
}

/** Where a decoder's weights come from. Names are those of GGUF: `blk.0.attn_q.weight`. */
export interface WeightSource {
  /** The file or folder, for messages. */
  readonly name: string;
  readonly tensors: readonly WeightInfo[];
  find(name: string): WeightInfo | undefined;
  /** A matrix that is several tensors of the checkpoint, which conversion makes one of. */
  findConverted?(name: string): ConvertibleWeight | undefined;
  close(): Promise<void>;
}

/** A matrix in a format that is converted when it is loaded. */
export interface ConvertibleWeight {
  /** Bytes of its parts in the file. */
  readonly byteLength: number;
  convert(signal: AbortSignal | undefined): Promise<ConvertedWeight>;
}
