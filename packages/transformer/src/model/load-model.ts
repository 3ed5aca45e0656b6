import type { ByteSource } from '@filigree/checkpoint';
import { OptionError, throwIfAborted, type Backend } from '@filigree/core-tensor';
import type { ActivationMode } from '@filigree/quantization';
import { precisions, type Precision } from '@filigree/sparse-attention';
import { defaultBackend } from '#default-backend';
import { WeightLoader } from '../weights/weight-loader.js';
import { loadDecoderWeights } from './decoder-weights.js';
import { kvStorage, type KvType } from '../kv/kv-type.js';
import { Decoder } from './decoder.js';
import { Model } from './model.js';
import { openModelFiles, type ModelFiles } from './model-files.js';

/** Positions of a sequence when the caller names no context: the model's own, at most this many. */
const defaultContext = 8192;

export interface LoadProgress {
  /** Bytes of weights loaded so far. */
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface LoadModelOptions {
  /** Where to compute. Default: native, else WebGPU, else the portable backend; it is then disposed with the model. */
  readonly backend?: Backend | undefined;
  /** Threads of the native backend, when none is given. */
  readonly threads?: number | undefined;
  /** Positions one sequence may have; at most, and by default up to 8,192, those the model was trained for. */
  readonly context?: number | undefined;
  /**
   * How keys and values are cached; default `f16`. The others, `int8` to `turbo2` and `bitmap0` to `bitmap90`, keep all but the newest 64 entries and the
   * current step as codes; such a cache is attended to densely, and there is none for models with sliding windows. `turbo4` and `turbo2` take heads whose dim is
   * a power of two.
   */
  readonly kvType?: KvType | undefined;
  /** Default `q8-32`: inputs of quantised matrices are quantised to 8 bits in groups of 32. `none` keeps f32. */
  readonly activations?: ActivationMode | undefined;
  /**
   * Default `f32`. `bf16` makes the products of attention from bfloat16, summed in f32: long prompts take less time where the CPU has AVX-512 BF16.
   * SmolLM2 135M on 1,024 tokens of prose, everything else in f32: mean KL of the logits 4.3e-5, largest 1.3e-3.
   */
  readonly attentionPrecision?: Precision | undefined;
  /** Map the file into memory where the backend can (default true). Changing a mapped file is undefined. */
  readonly mmap?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
}

/**
 * Loads a decoder language model.
 *
 * `source`: path of a `.gguf` file or of a folder with `config.json` and safetensors; "owner/name", "owner/name:file.gguf" or a known id, which
 * are downloaded once (Node); an http(s) URL of a `.gguf` file, kept in the browser's storage; a Blob or ByteSource with one.
 *
 * @throws GgufFormatError, SafetensorsFormatError, ModelFormatError, UnsupportedArchitectureError, UnsupportedTensorType,
 * TokenizerError, ModelNotFoundError, BackendUnavailableError, AbortError
 */
export async function loadModel(source: string | URL | Blob | ByteSource, options: LoadModelOptions = {}): Promise<Model> {
  checkOptions(options);
  throwIfAborted(options.signal);
  const files = await openModelFiles(source, options.signal);
  let backend: Backend | undefined;
  try {
    backend = options.backend ?? (await defaultBackend({ threads: options.threads }));
    return await build(files, backend, options);
  } catch (error) {
    if (backend !== options.backend) backend?.dispose();
    await files.weights.close().catch(() => undefined);
    throw error;
  }
}

async function build(files: ModelFiles, backend: Backend, options: LoadModelOptions): Promise<Model> {
  const { signal, onProgress } = options;
  const { weights } = files;
  let doneBytes = 0;
  const totalBytes = weights.tensors.reduce((sum, tensor) => sum + tensor.byteLength, 0);
  const loader = new WeightLoader(backend, weights, {
    mmap: options.mmap ?? true,
    signal,
    onBytes: (bytes) => {
      doneBytes += bytes;
      onProgress?.({ doneBytes: Math.min(doneBytes, totalBytes), totalBytes });
    },
  });
  const factors = loader.has('rope_freqs.weight') ? await loader.values('rope_freqs.weight') : undefined;
  const config = files.config(factors);
  const context = contextOf(options.context, config.contextLength);
  const kv = kvStorage(options.kvType ?? 'f16', config, 'loadModel');
  const tokenizer = await files.tokenizer();
  const decoderWeights = await loadDecoderWeights(loader, config, options.activations);
  const decoder = new Decoder(backend, config, decoderWeights, options.attentionPrecision);
  try {
    await backend.sync();
    throwIfAborted(signal);
    return new Model({
      decoder,
      tokenizer,
      chatTemplate: files.chatTemplate(tokenizer),
      source: weights,
      fileBytes: totalBytes,
      context,
      kv,
      ownsBackend: options.backend === undefined,
    });
  } catch (error) {
    decoder.dispose();
    throw error;
  }
}

function checkOptions({ context, kvType, activations, attentionPrecision, threads, backend }: LoadModelOptions): void {
  if (context !== undefined && (!Number.isInteger(context) || context < 1))
    throw new OptionError(`loadModel: context is ${context}, it must be a positive integer`);
  kvStorage(kvType ?? 'f16', undefined, 'loadModel');
  if (activations !== undefined && !['none', 'q8-32'].includes(activations))
    throw new OptionError(`loadModel: activations is ${JSON.stringify(activations)}, it must be none or q8-32`);
  if (attentionPrecision !== undefined && !precisions.includes(attentionPrecision))
    throw new OptionError(`loadModel: attentionPrecision is ${JSON.stringify(attentionPrecision)}, it must be f32 or bf16`);
  if (threads !== undefined && backend !== undefined)
    throw new OptionError('loadModel: threads belongs to the backend; give one of the two');
}

function contextOf(wanted: number | undefined, trained: number): number {
  if (wanted === undefined) return Math.min(trained, defaultContext);
  if (wanted > trained)
    throw new OptionError(`loadModel: context is ${wanted}, the model was trained for ${trained} positions at most`);
  return wanted;
}
