import { CheckpointFormatError } from '../errors.js';
import { decodeRow } from '../gguf/decode-row.js';
import { rowBytes } from '../gguf/types.js';
import { e4m3, e5m2 } from '../grouped/levels.js';

/** A tensor of a checkpoint on the host: its bytes as in the file. `dtype` as safetensors spells it. */
export interface CheckpointPart {
  readonly dtype: string;
  /** Row-major. */
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** The parts of one weight by their names: `qweight`, `scales`, `weight_packed`, … */
export type CheckpointParts = Readonly<Record<string, CheckpointPart | undefined>>;

/** The parts of a weight, for error messages under the weight's name. */
export class PartReader {
  constructor(
    readonly name: string,
    readonly parts: CheckpointParts,
  ) {}

  has(part: string): boolean {
    return this.parts[part] !== undefined;
  }

  shape(part: string): readonly number[] {
    return this.#part(part).shape;
  }

  /** The shape of a part with two axes. */
  matrix(part: string): readonly [number, number] {
    const shape = this.shape(part);
    if (shape.length !== 2) throw this.error(`${part} is [${shape.join(', ')}], it takes two axes`);
    return [shape[0], shape[1]];
  }

  dtype(part: string): string {
    return this.#part(part).dtype;
  }

  /** Asserts a part's shape, which the message shows beside the wanted one. */
  assertShape(part: string, shape: readonly number[]): void {
    const found = this.shape(part);
    if (found.join() !== shape.join()) throw this.error(`${part} is [${found.join(', ')}], it takes [${shape.join(', ')}]`);
  }

  /** 32-bit words, little-endian. */
  words(part: string): Uint32Array {
    const { dtype, bytes } = this.#part(part);
    if (dtype !== 'I32' && dtype !== 'U32') throw this.error(`${part} is ${dtype}, it takes I32`);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return Uint32Array.from({ length: bytes.byteLength / 4 }, (_, index) => view.getUint32(4 * index, true));
  }

  /** Bytes as they are. */
  bytes(part: string, ...dtypes: readonly string[]): Uint8Array {
    const { dtype, bytes } = this.#part(part);
    if (!dtypes.includes(dtype)) throw this.error(`${part} is ${dtype}, it takes ${dtypes.join(' or ')}`);
    return bytes;
  }

  /** Elements of a floating-point part. */
  floats(part: string): Float32Array {
    const { dtype, bytes } = this.#part(part);
    switch (dtype) {
      case 'F32':
      case 'F16':
      case 'BF16': {
        const values = new Float32Array(bytes.byteLength / rowBytes(dtype, 1));
        decodeRow(dtype, bytes, 0, values.length, values);
        return values;
      }
      case 'F8_E4M3':
        return Float32Array.from(bytes, e4m3);
      case 'F8_E5M2':
        return Float32Array.from(bytes, e5m2);
      default:
        throw this.error(`${part} is ${dtype}, it takes floats`);
    }
  }

  error(message: string): CheckpointFormatError {
    return new CheckpointFormatError(`"${this.name}": ${message}`);
  }

  #part(part: string): CheckpointPart {
    const found = this.parts[part];
    if (!found) throw this.error(`there is no ${part}`);
    return found;
  }
}
