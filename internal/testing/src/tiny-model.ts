import { bytesSink, ggufByteLength, writeGguf, type GgufTensorEntry, type GgufValue } from '@filigree/checkpoint';
import { numberToF16, Random } from '@filigree/core-tensor';
import { tinyTokenizer } from './tiny-tokenizer.js';

/** Element types a tiny model's matrices may have. */
export type TinyWeightType = 'F32' | 'F16' | 'Q8_0' | 'Q4_0';

export interface TinyModelOptions {
  readonly seed?: number;
  /** Element type of the matrices; norms are F32. */
  readonly type?: TinyWeightType;
  readonly layers?: number;
  readonly heads?: number;
  readonly kvHeads?: number;
  readonly headDim?: number;
  readonly feedForward?: number;
  readonly context?: number;
  /** Whether there is a chat template; default true. */
  readonly chat?: boolean;
  /** Name of a norm whose weights are NaN. */
  readonly nan?: string;
  /** Values that replace or add to the file's own metadata. */
  readonly metadata?: Iterable<readonly [string, GgufValue]>;
}

/**
 * A Llama of random weights as a GGUF file of about 150 kB: byte-level BPE with a few merges, chat template, tied embeddings. The same
 * options give the same bytes. Its text is noise, which every part of the program must carry just as well.
 */
export async function tinyModel(options: TinyModelOptions = {}): Promise<Uint8Array> {
  const {
    seed = 1,
    type = 'Q8_0',
    layers = 2,
    heads = 4,
    kvHeads = 2,
    headDim = 16,
    feedForward = 192,
    context = 512,
  } = options;
  const width = heads * headDim;
  const random = new Random(seed);
  const tokenizer = tinyTokenizer({ chat: options.chat !== false });
  const matrix = (name: string, rows: number, columns: number, scale: number): GgufTensorEntry => ({
    name,
    type,
    shape: [rows, columns],
    data: encode(type, rows, columns, () => scale * random.nextNormal()),
  });
  const norm = (name: string): GgufTensorEntry => ({
    name,
    type: 'F32',
    shape: [width],
    data: encode('F32', 1, width, () => (options.nan === name ? Number.NaN : 1 + random.nextNormal() / 8)),
  });
  const within = 1 / Math.sqrt(width);
  const tensors = [matrix('token_embd.weight', tokenizer.size, width, 0.5), norm('output_norm.weight')];
  for (let layer = 0; layer < layers; layer++) {
    const block = `blk.${layer}`;
    tensors.push(
      norm(`${block}.attn_norm.weight`),
      matrix(`${block}.attn_q.weight`, width, width, 2 * within),
      matrix(`${block}.attn_k.weight`, kvHeads * headDim, width, 2 * within),
      matrix(`${block}.attn_v.weight`, kvHeads * headDim, width, within),
      matrix(`${block}.attn_output.weight`, width, width, within),
      norm(`${block}.ffn_norm.weight`),
      matrix(`${block}.ffn_gate.weight`, feedForward, width, within),
      matrix(`${block}.ffn_up.weight`, feedForward, width, within),
      matrix(`${block}.ffn_down.weight`, width, feedForward, 1 / Math.sqrt(feedForward)),
    );
  }
  const u32 = (value: number): GgufValue => ({ type: 'u32', value });
  const metadata = new Map<string, GgufValue>([
    ['general.architecture', { type: 'string', value: 'llama' }],
    ['general.name', { type: 'string', value: 'tiny' }],
    ['llama.block_count', u32(layers)],
    ['llama.context_length', u32(context)],
    ['llama.embedding_length', u32(width)],
    ['llama.feed_forward_length', u32(feedForward)],
    ['llama.attention.head_count', u32(heads)],
    ['llama.attention.head_count_kv', u32(kvHeads)],
    ['llama.attention.layer_norm_rms_epsilon', { type: 'f32', value: Math.fround(1e-5) }],
    ['llama.rope.freq_base', { type: 'f32', value: 10000 }],
    ['llama.rope.dimension_count', u32(headDim)],
    ['llama.vocab_size', u32(tokenizer.size)],
    ...tokenizer.metadata,
    ...(options.metadata ?? []),
  ]);
  const sink = bytesSink('tiny.gguf');
  await writeGguf(sink, { metadata, tensors });
  return sink.bytes();
}

/** Blocks of a matrix of drawn values; the quantised types take the largest magnitude of a block as its scale. */
function encode(type: TinyWeightType, rows: number, columns: number, draw: () => number): Uint8Array {
  const bytes = new Uint8Array(ggufByteLength(type, [rows, columns]) ?? 0);
  const view = new DataView(bytes.buffer);
  const count = rows * columns;
  if (type === 'F32') for (let at = 0; at < count; at++) view.setFloat32(4 * at, draw(), true);
  else if (type === 'F16') for (let at = 0; at < count; at++) view.setUint16(2 * at, numberToF16(draw()), true);
  else
    for (let block = 0; block < count / 32; block++) encodeBlock(type, bytes, block, Float32Array.from({ length: 32 }, draw));
  return bytes;
}

/** One block of 32: an f16 scale, then 32 signed bytes, or 16 bytes of nibbles with an offset of 8, the first half in the low ones. */
function encodeBlock(type: 'Q8_0' | 'Q4_0', bytes: Uint8Array, block: number, values: Float32Array): void {
  const [size, levels] = type === 'Q8_0' ? [34, 127] : [18, 7];
  const start = block * size;
  const scale = Math.max(...values.map(Math.abs)) / levels;
  new DataView(bytes.buffer).setUint16(start, numberToF16(scale), true);
  const levelOf = (value: number): number => Math.round(value / scale);
  if (type === 'Q8_0') values.forEach((value, index) => (bytes[start + 2 + index] = levelOf(value) & 0xff));
  else
    for (let index = 0; index < 16; index++)
      bytes[start + 2 + index] = (levelOf(values[index]) + 8) | ((levelOf(values[index + 16]) + 8) << 4);
}
