import type { TensorInfo } from '@filigree/checkpoint';

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
  close(): Promise<void>;
}
