import type { AnyOp, Backend, ShaderVariant, WebGpuKernel } from '@filigree/core-tensor';
import { candidates, plainVariant, selfTest, variantName, type DisabledVariant } from './variants.js';

interface Choice {
  chosen: ShaderVariant;
  /** False until the variants of the op were tested. */
  final: boolean;
  readonly tested: Promise<void>;
}

/** Which variant each op runs with: the plain one at first, then the first that passed the kernel's self-test on the device. */
export class VariantChoices {
  readonly #choices = new Map<AnyOp, Choice>();
  readonly #disabled: DisabledVariant[] = [];
  #forced: ShaderVariant | undefined;
  #changes = 0;

  constructor(
    private readonly backend: Backend,
    private readonly features: ShaderVariant,
    /** Whether tests still mean anything: false once the backend is gone. */
    private readonly alive: () => boolean,
  ) {}

  /** Variants that gave a wrong result on this device and are not used. */
  get disabled(): readonly DisabledVariant[] {
    return this.#disabled;
  }

  /** True while the calls that are made are those of a self-test. */
  get testing(): boolean {
    return this.#forced !== undefined;
  }

  /** Counts the ops whose variant became another one. */
  get changes(): number {
    return this.#changes;
  }

  /** The variant to run an op with now. */
  of(op: AnyOp): ShaderVariant {
    return this.#forced ?? this.#choiceOf(op)?.chosen ?? plainVariant;
  }

  /** Whether the variant of an op will stay. */
  final(op: AnyOp): boolean {
    return this.#choiceOf(op)?.final ?? true;
  }

  async tested(op: AnyOp): Promise<void> {
    await this.#choiceOf(op)?.tested;
  }

  #choiceOf(op: AnyOp): Choice | undefined {
    const known = this.#choices.get(op);
    if (known || !op.webgpu) return known;
    const wanted = candidates(op.webgpu, this.features);
    const choice = { chosen: plainVariant, final: wanted.length === 0, tested: Promise.resolve() };
    this.#choices.set(op, choice);
    if (!choice.final) {
      choice.tested = this.#choose(op, op.webgpu, wanted, choice).finally(() => {
        choice.final = true;
      });
    }
    return choice;
  }

  /** Takes the first variant that passes the kernel's self-test. */
  async #choose(op: AnyOp, kernel: WebGpuKernel, wanted: readonly ShaderVariant[], choice: Choice): Promise<void> {
    for (const variant of wanted) {
      const reason = await this.#test(op, kernel, variant);
      if (!this.alive()) return;
      if (reason === undefined) {
        choice.chosen = variant;
        this.#changes++;
        return;
      }
      this.#disabled.push({ op: op.name, variant: variantName(variant), reason });
      console.warn(
        `filigree: ${op.name}: variant '${variantName(variant)}' is wrong on this device and is not used: ${reason}`,
      );
    }
  }

  async #test(op: AnyOp, kernel: WebGpuKernel, variant: ShaderVariant): Promise<string | undefined> {
    if (!kernel.selfTest) return 'the kernel has variants and no self-test';
    for (const generated of [kernel.selfTest()].flat()) {
      // Behind a fallback calls are queued and not dispatched at once; the forced variant would be gone by then.
      await this.backend.ready();
      const wrong = await selfTest(op, generated, this.backend, (tensors) => {
        this.#forced = variant;
        try {
          return this.backend.run(op, tensors, generated.attributes);
        } finally {
          this.#forced = undefined;
        }
      });
      if (wrong !== undefined) return wrong;
    }
    return undefined;
  }
}
