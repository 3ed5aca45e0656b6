import { FiligreeError } from '@filigree/core-tensor';

/** A weight that is to be quantised is NaN or infinite. */
export class NonFiniteWeightError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('NON_FINITE_WEIGHT', message, options);
  }
}
