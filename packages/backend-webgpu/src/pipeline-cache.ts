import { computeStage } from './flags.js';

export interface Pipeline {
  readonly gpu: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly id: number;
  /** False until the device has compiled it. */
  settled: boolean;
  /** The compiler's message, when it refused. */
  failure: string | undefined;
}

export interface PipelineRequest {
  /** In messages and captures of the device's tools. */
  readonly label: string;
  readonly shader: string;
  readonly entryPoint: string;
  readonly constants: Readonly<Record<string, number>>;
  /** Per storage binding: true when the shader writes it. The uniform block is the binding behind them. */
  readonly writable: readonly boolean[];
}

/** Compiled pipelines by shader text, entry point, constants and binding kinds. Layouts are explicit: a binding that a variant does not use stays. */
export class PipelineCache {
  readonly #pipelines = new Map<string, Map<string, Pipeline>>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();
  #nextId = 1;

  constructor(private readonly device: GPUDevice) {}

  get size(): number {
    let count = 0;
    for (const inner of this.#pipelines.values()) count += inner.size;
    return count;
  }

  get(request: PipelineRequest): Pipeline {
    let inner = this.#pipelines.get(request.shader);
    if (!inner) this.#pipelines.set(request.shader, (inner = new Map<string, Pipeline>()));
    const kinds = request.writable.map((writable) => (writable ? 'w' : 'r')).join('');
    const constants = Object.entries(request.constants).map(([name, value]) => `${name}=${value}`);
    const key = [request.entryPoint, kinds, ...constants].join(' ');
    const known = inner.get(key);
    if (known) return known;
    const made = this.#create(request, kinds);
    inner.set(key, made);
    return made;
  }

  #create(request: PipelineRequest, kinds: string): Pipeline {
    const { device } = this;
    const layout = this.#layout(kinds);
    device.pushErrorScope('validation');
    device.pushErrorScope('internal');
    const module = device.createShaderModule({ label: request.label, code: request.shader });
    const gpu = device.createComputePipeline({
      label: request.label,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: request.entryPoint, constants: request.constants },
    });
    const pipeline: Pipeline = { gpu, layout, id: this.#nextId++, settled: false, failure: undefined };
    void Promise.all([device.popErrorScope(), device.popErrorScope()])
      .then(([internal, validation]) => {
        pipeline.failure = (validation ?? internal)?.message;
      })
      .catch(() => undefined)
      .then(() => {
        pipeline.settled = true;
      });
    return pipeline;
  }

  #layout(kinds: string): GPUBindGroupLayout {
    const known = this.#layouts.get(kinds);
    if (known) return known;
    const storage = [...kinds].map((kind, binding) => ({
      binding,
      visibility: computeStage,
      buffer: { type: kind === 'w' ? ('storage' as const) : ('read-only-storage' as const) },
    }));
    const block = {
      binding: kinds.length,
      visibility: computeStage,
      buffer: { type: 'uniform' as const, hasDynamicOffset: true },
    };
    const layout = this.device.createBindGroupLayout({ entries: [...storage, block] });
    this.#layouts.set(kinds, layout);
    return layout;
  }
}
