import {
  ggufByteLength,
  openGguf,
  readTensorChunks,
  writeGguf,
  type ByteSink,
  type GgufFile,
  type GgufTensorInfo,
  type GgufType,
  type GgufValue,
} from '@filigree/checkpoint';
import { createReferenceBackend, fromArray, throwIfAborted, type Backend } from '@filigree/core-tensor';
import { NonFiniteWeightError } from '../errors.js';
import { rowBytes } from '../gguf/types.js';
import { dequantizeRows } from '../ops/dequantize-rows.js';
import { quantize } from '../ops/quantize.js';
import { planQuantization, type ModelFacts, type PlanQuantizationOptions, type TensorPlan } from './plan-quantization.js';
import { recipe } from './recipes.js';

/** How {@link quantizeGguf} works. */
export interface QuantizeGgufOptions extends PlanQuantizationOptions {
  /** Computes the codes; the native backend is some hundred times faster than the default, the reference backend. */
  readonly backend?: Backend | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called as bytes of the source are done. */
  readonly onProgress?: ((progress: QuantizeProgress) => void) | undefined;
}

export interface QuantizeProgress {
  /** The tensor in work. */
  readonly tensor: string;
  /** Bytes of the source's tensors. */
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** What {@link quantizeGguf} did with a tensor. */
export interface QuantizedTensorReport extends TensorPlan {
  readonly bytesBefore: number;
  readonly bytesAfter: number;
}

/** Weights that are converted at a time: 4 Mi, which are 16 MiB of f32. */
const weightsAtOnce = 2 ** 22;
/** The revision of the block formats, in `general.quantization_version`. */
const formatRevision = 2;
/** Keys of files in several parts; the result is one file. */
const splitKeys = ['split.no', 'split.count', 'split.tensors.count'];

/** What happens to every tensor of a file, without doing it. */
export function planGguf(file: GgufFile, options: PlanQuantizationOptions): QuantizedTensorReport[] {
  const plans = planQuantization(file.tensors, factsOf(file), options);
  return plans.map((plan, index) => ({
    ...plan,
    bytesBefore: file.tensors[index].byteLength,
    bytesAfter: ggufByteLength(plan.to as GgufType, plan.shape) ?? file.tensors[index].byteLength,
  }));
}

/**
 * Writes a GGUF model with its weights quantised by a recipe; codes are those of ggml's encoders (docs/decisions/0010). Tensors are converted
 * piece by piece, so memory stays bounded. A file target appears under its name when it is complete.
 *
 * @throws OptionError for options; NonFiniteWeightError naming the tensor where a weight is NaN or ∞; AbortError
 */
export async function quantizeGguf(
  source: string | GgufFile,
  target: string | ByteSink,
  options: QuantizeGgufOptions,
): Promise<readonly QuantizedTensorReport[]> {
  const { signal } = options;
  const file = typeof source === 'string' ? await openGguf(source, signal ? { signal } : {}) : source;
  const backend = options.backend ?? createReferenceBackend();
  try {
    const report = planGguf(file, options);
    const totalBytes = report.reduce((sum, { bytesBefore }) => sum + bytesBefore, 0);
    let doneBytes = 0;
    const tensors = report.map((plan, index) => ({
      name: plan.name,
      type: plan.to as GgufType,
      shape: plan.shape,
      data: () =>
        converted(file.tensors[index], plan, { backend, signal }, (bytes) => {
          doneBytes += bytes;
          options.onProgress?.({ tensor: plan.name, doneBytes, totalBytes });
        }),
    }));
    await writeGguf(target, { metadata: metadataOf(file, options), tensors }, signal ? { signal } : {});
    return report;
  } finally {
    if (!options.backend) backend.dispose();
    if (typeof source === 'string') await file.close();
  }
}

/** The bytes of a tensor in its new type. */
async function* converted(
  info: GgufTensorInfo,
  { from, to, shape, name }: TensorPlan,
  { backend, signal }: { backend: Backend; signal: AbortSignal | undefined },
  done: (bytes: number) => void,
): AsyncGenerator<Uint8Array, void, undefined> {
  const width = shape.at(-1) ?? 1;
  const row = from === to ? 1 : rowBytes(from, width);
  const rowsAtOnce = Math.max(1, Math.floor(weightsAtOnce / width));
  const chunkBytes = from === to ? 16 * 2 ** 20 : rowsAtOnce * row;
  for await (const bytes of readTensorChunks(info, { chunkBytes, ...(signal ? { signal } : {}) })) {
    throwIfAborted(signal);
    yield from === to ? bytes : await convertRows(backend, bytes, { from, to, width, name });
    done(bytes.byteLength);
  }
}

/** Whole rows of one type as rows of another. */
async function convertRows(
  backend: Backend,
  bytes: Uint8Array,
  { from, to, width, name }: { from: string; to: string; width: number; name: string },
): Promise<Uint8Array> {
  const rows = bytes.byteLength / rowBytes(from, width);
  const blocks = fromArray(backend, bytes, [rows, rowBytes(from, width)], 'u8');
  const ids = fromArray(
    backend,
    Int32Array.from({ length: rows }, (_, row) => row),
    [rows],
    'i32',
  );
  const weights = dequantizeRows(blocks, ids, from, width);
  const codes = quantize(weights, to);
  try {
    const values = (await weights.read()) as Float32Array;
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0)
      throw new NonFiniteWeightError(
        `quantize: tensor "${name}" has a weight that is ${values[bad]}; there is no code for it in ${to}`,
      );
    return await codes.readBytes();
  } finally {
    for (const tensor of [blocks, ids, weights, codes]) tensor.dispose();
  }
}

function metadataOf(file: GgufFile, { type }: PlanQuantizationOptions): Map<string, GgufValue> {
  const metadata = new Map(file.metadata);
  for (const key of splitKeys) metadata.delete(key);
  const { fileType } = recipe(type);
  metadata.set('general.quantization_version', { type: 'u32', value: formatRevision });
  if (fileType === undefined) metadata.delete('general.file_type');
  else metadata.set('general.file_type', { type: 'u32', value: fileType });
  return metadata;
}

/** What recipes ask of a model, from its metadata; a model that says nothing counts as one dense layer. */
function factsOf(file: GgufFile): ModelFacts {
  const architecture = file.string('general.architecture') ?? '';
  const count = (key: string): number | undefined => {
    const entry = file.metadata.get(`${architecture}.${key}`);
    // Some models state one number per layer; the first stands for all, as in llama.cpp.
    if (entry?.type === 'array') return file.numbers(`${architecture}.${key}`)?.[0];
    return file.number(`${architecture}.${key}`);
  };
  const heads = count('attention.head_count') ?? 1;
  return {
    layers: count('block_count') ?? 1,
    queryGroup: heads / (count('attention.head_count_kv') ?? heads),
    experts: count('expert_count') ?? 0,
  };
}
