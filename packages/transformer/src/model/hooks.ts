import {
  formatShape,
  OptionError,
  ShapeError,
  unscoped,
  type ReadHook,
  type ReplaceHook,
  type Tensor,
} from '@filigree/core-tensor';

/** Points of a layer, in the order in which they occur. Shapes for T tokens. */
export const layerHooks = [
  /** [T, hidden]: the residual stream before the layer. */
  'residual-in',
  /** [T, heads, headDim]: queries as attention sees them, normalised and rotated. */
  'attention.query',
  /** [T, kvHeads, headDim]: keys as they are cached. */
  'attention.key',
  /** [T, kvHeads, headDim]. */
  'attention.value',
  /** [T, heads · headDim]: what attention gathered, before its output matrix. */
  'attention.mixed',
  /** [T, hidden]: what attention adds to the residual stream. */
  'attention.output',
  /** [T, hidden]: the residual stream between attention and feed-forward. */
  'residual-mid',
  /** [T, feedForward]: activation of the gate times up, the input of down. */
  'mlp.hidden',
  /** [T, hidden]: what the feed-forward adds to the residual stream. */
  'mlp.output',
  /** [T, hidden]: the residual stream after the layer. */
  'residual-out',
] as const;

/** `embedding`, then `layers.N.…`, then `final-norm` and `logits`. */
export function hookNames(layers: number): string[] {
  const perLayer = Array.from({ length: layers }, (_, layer) => layerHooks.map((hook) => `layers.${layer}.${hook}`));
  return ['embedding', ...perLayer.flat(), 'final-norm', 'logits'];
}

/** Hooks of one run; knows which points are used, so that the others cost nothing. */
export class Hooks {
  constructor(
    private readonly read: Readonly<Record<string, ReadHook>>,
    private readonly replace: Readonly<Record<string, ReplaceHook>>,
    names: readonly string[],
  ) {
    for (const name of [...Object.keys(read), ...Object.keys(replace)]) {
      if (!names.includes(name)) {
        const known = names.filter((known) => !known.startsWith('layers.') || known.startsWith('layers.0.'));
        throw new OptionError(`run: there is no hook "${name}"; the model has ${known.join(', ')} and so on for its layers`);
      }
    }
  }

  uses(name: string): boolean {
    return Object.hasOwn(this.read, name) || Object.hasOwn(this.replace, name);
  }

  /** Shows the activation to its readers and returns what the model goes on with. */
  at(name: string, activation: Tensor): Tensor {
    let current = activation;
    if (Object.hasOwn(this.replace, name)) {
      current = this.replace[name](activation);
      if (current.shape.join() !== activation.shape.join() || current.dtype !== activation.dtype)
        throw new ShapeError(
          `run: the replacement for "${name}" is ${current.dtype} ${formatShape(current.shape)}, it must be ${activation.dtype} ${formatShape(activation.shape)}`,
        );
    }
    if (Object.hasOwn(this.read, name)) {
      const shown = current;
      // What a reader keeps is the reader's: it does not go with the step's own tensors.
      unscoped(() => {
        this.read[name](shown);
      });
    }
    return current;
  }
}
