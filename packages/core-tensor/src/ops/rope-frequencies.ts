import { OptionError } from '../errors.js';

/** How rotary frequencies are stretched beyond the trained length; names and parameters as in checkpoints' `rope_scaling`. */
export type RopeScaling =
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalContext: number;
    }
  | {
      readonly type: 'yarn';
      readonly factor: number;
      readonly originalContext: number;
      readonly betaFast?: number;
      readonly betaSlow?: number;
      readonly attentionFactor?: number;
    }
  /** One divisor per pair, as LongRoPE and GGUF `rope_freqs` tensors give it. */
  | { readonly type: 'factors'; readonly factors: ArrayLike<number>; readonly attentionFactor?: number };

export interface RopeFrequencyOptions {
  /** θ, usually 10,000 or more. */
  readonly base: number;
  /** Channels that turn; even. */
  readonly dims: number;
  readonly scaling?: RopeScaling | undefined;
}

/**
 * Inverse frequencies [dims/2] and the factor on cosine and sine for {@link ropeOp}.
 *
 * linear: Chen et al., arXiv:2306.15595; llama3: Llama 3 technical report, arXiv:2407.21783; YaRN: Peng et al., arXiv:2309.00071;
 * LongRoPE: Ding et al., arXiv:2402.13753.
 */
export function ropeFrequencies({ base, dims, scaling }: RopeFrequencyOptions): {
  inverseFrequencies: Float32Array;
  scale: number;
} {
  if (!Number.isInteger(dims) || dims < 0 || dims % 2 !== 0)
    throw new OptionError(`ropeFrequencies: dims is ${dims}, it must be even`);
  if (!(base > 0)) throw new OptionError(`ropeFrequencies: base is ${base}, it must be positive`);
  const plain = Float64Array.from({ length: dims / 2 }, (_, pair) => base ** ((-2 * pair) / dims));
  switch (scaling?.type) {
    case undefined:
      return { inverseFrequencies: Float32Array.from(plain), scale: 1 };
    case 'linear':
      return { inverseFrequencies: Float32Array.from(plain, (frequency) => frequency / scaling.factor), scale: 1 };
    case 'llama3':
      return { inverseFrequencies: Float32Array.from(plain, (frequency) => llama3(frequency, scaling)), scale: 1 };
    case 'factors': {
      if (scaling.factors.length !== dims / 2) {
        throw new OptionError(`ropeFrequencies: ${scaling.factors.length} factors for ${dims / 2} pairs`);
      }
      return {
        inverseFrequencies: Float32Array.from(plain, (frequency, pair) => frequency / scaling.factors[pair]),
        scale: scaling.attentionFactor ?? 1,
      };
    }
    case 'yarn':
      return yarn(plain, base, dims, scaling);
  }
}

function llama3(frequency: number, scaling: Extract<RopeScaling, { type: 'llama3' }>): number {
  const wavelength = (2 * Math.PI) / frequency;
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalContext } = scaling;
  if (wavelength < originalContext / highFrequencyFactor) return frequency;
  if (wavelength > originalContext / lowFrequencyFactor) return frequency / factor;
  const smooth = (originalContext / wavelength - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}

function yarn(
  plain: Float64Array,
  base: number,
  dims: number,
  scaling: Extract<RopeScaling, { type: 'yarn' }>,
): { inverseFrequencies: Float32Array; scale: number } {
  const { factor, originalContext, betaFast = 32, betaSlow = 1 } = scaling;
  const pairOfRotations = (rotations: number): number =>
    (dims * Math.log(originalContext / (rotations * 2 * Math.PI))) / (2 * Math.log(base));
  const low = Math.max(Math.floor(pairOfRotations(betaFast)), 0);
  const high = Math.min(Math.ceil(pairOfRotations(betaSlow)), dims - 1);
  const span = high === low ? 0.001 : high - low;
  const inverseFrequencies = Float32Array.from(plain, (frequency, pair) => {
    const interpolate = Math.min(Math.max((pair - low) / span, 0), 1);
    return (frequency / factor) * interpolate + frequency * (1 - interpolate);
  });
  const scale = scaling.attentionFactor ?? (factor <= 1 ? 1 : 0.1 * Math.log(factor) + 1);
  return { inverseFrequencies, scale };
}
