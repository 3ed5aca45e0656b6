import { FiligreeError } from '@filigree/core-tensor';

/** The file is a checkpoint, but not of a model that can be built: a missing or misshapen tensor, an impossible configuration. */
export class ModelFormatError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('MODEL_FORMAT', message, options);
  }
}

/** The model's architecture is not one that is built here; the message lists those that are. */
export class UnsupportedArchitectureError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('UNSUPPORTED_ARCHITECTURE', message, options);
  }
}

/** A prompt does not fit into the context; the message gives both lengths. */
export class ContextLengthError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('CONTEXT_LENGTH', message, options);
  }
}

/** The model's output is not a number: broken weights, or activations beyond the range of f32. */
export class NonFiniteLogitsError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('NON_FINITE_LOGITS', message, options);
  }
}
