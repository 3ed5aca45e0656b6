import { FiligreeError } from '@filigree/core-tensor';

/** A weight that is to be quantised is NaN or infinite. */
export class NonFiniteWeightError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('NON_FINITE_WEIGHT', message, options);
  }
}

/** The parts of a quantised weight of a checkpoint do not fit each other, or are of a kind that cannot be run. */
export class CheckpointFormatError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('CHECKPOINT_FORMAT', message, options);
  }
}
